"""Walking in latent space: chosen latents, animations, inversion, and directions in which one thing changes."""
