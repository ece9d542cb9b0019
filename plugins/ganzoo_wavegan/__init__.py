"""`wavegan`: a GAN of raw sound."""

from ganzoo import Register, hookimpl

PAPER = {
    "data": "tones",
    "steps": 200000,
    "batch_size": 64,
    "lr": 1e-4,
    "betas": [0.5, 0.9],
    "n_critic": 5,
    "penalties": ["gp=10"],
}
DEFAULT = {
    **PAPER,
    "steps": 3000,
    "batch_size": 32,
    "lr": 1e-3,
    "d_lr": 2e-3,
    "betas": [0.0, 0.9],
    "lr_schedule": "linear",
    "n_critic": 1,
    "generator": {"width": 16},
    "discriminator": {"width": 16},
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "wavegan",
        generator="ganzoo_wavegan.model:Generator",
        discriminator="ganzoo_wavegan.model:Critic",
        objective="ganzoo_wavegan.model:WaveGAN",
        loss="wasserstein",
        recipes={"default": DEFAULT, "paper": PAPER},
        summary="sound: transposed convolutions over time, a critic with phase shuffle, for 16*4^k samples",
        paper="Donahue et al. 2019, Adversarial Audio Synthesis, https://arxiv.org/abs/1802.04208",
    )
