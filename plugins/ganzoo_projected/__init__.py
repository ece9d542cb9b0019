"""`projected`: a GAN whose discriminator works on the features of a frozen, pretrained network."""

from ganzoo import Register, hookimpl

# The learning rate, batch and augmentation of the paper, and its resolution for the backbone.
PAPER = {
    "steps": 100000,
    "batch_size": 64,
    "lr": 2e-4,
    "betas": [0.0, 0.99],
    "augment": ["color", "translation", "cutout"],
    "generator": {"width": 128},
    "discriminator": {"resolution": 256},
}
# One CPU thread in the time of dcgan's recipe of that name: the backbone gets images of 64 pixels instead of 256, the
# batch is small, and the generator learns twenty times as fast as the heads. With 1e-3 for both, the heads soon
# separate real from generated images completely.
DIGITS = {
    "steps": 950,
    "batch_size": 16,
    "lr": 2e-3,
    "d_lr": 1e-4,
    "augment": ["auto"],
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "generator": {"width": 32, "z_dim": 100},
    "discriminator": {"width": 32, "resolution": 64},
}
DEFAULT = {**DIGITS, "generator": {"width": 32, "z_dim": 100, "palette": 16}}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "projected",
        generator="ganzoo_projected.model:Generator",
        discriminator="ganzoo_projected.model:Discriminator",
        loss="hinge",
        recipes={"default": DEFAULT, "digits": DIGITS, "paper": PAPER},
        summary="a discriminator on the frozen features of any timm model, and a light generator",
        paper="Sauer et al. 2021, Projected GANs Converge Faster, https://arxiv.org/abs/2111.01007",
    )
