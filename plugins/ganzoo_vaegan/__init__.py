"""`vaegan`: a variational autoencoder whose decoder is a GAN's generator."""

from ganzoo import Register, hookimpl

# The default recipe of dcgan. A latent of few dimensions, so that encoded images are distributed much like N(0, I).
DEFAULT = {
    "steps": 1600,
    "batch_size": 128,
    "lr": 4e-3,
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8"],
    "generator": {"width": 32, "hidden": 256, "z_dim": 16},
    "discriminator": {"width": 32, "hidden": 256},
    "auto_precision": "bf16",
}
# Section 4: RMSProp at 3e-4, batch 64.
PAPER = {"steps": 50000, "batch_size": 64, "optimizer": "rmsprop", "lr": 3e-4}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "vaegan",
        generator="ganzoo_vaegan.model:Generator",
        discriminator="ganzoo_vaegan.model:Discriminator",
        objective="ganzoo_vaegan.model:VAEGAN",
        recipes={"default": DEFAULT, "paper": PAPER},
        summary="DCGAN networks with an encoder: images can be encoded, changed and decoded",
        paper="Larsen et al. 2016, Autoencoding beyond pixels using a learned similarity metric, "
        "https://arxiv.org/abs/1512.09300",
    )
