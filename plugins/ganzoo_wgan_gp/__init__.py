"""`wgan_gp`: Wasserstein GAN with a gradient penalty, on the networks of DCGAN without BatchNorm in the critic."""

from ganzoo import Register, hookimpl

PAPER = {
    "steps": 20000,
    "batch_size": 64,
    "lr": 1e-4,
    "betas": [0.0, 0.9],
    "n_critic": 5,
    "penalties": ["gp=10"],
}
# The critic has to stay ahead of the generator: it has a higher learning rate and two updates a step. docs/recipes.md
# describes the search.
DEFAULT = {
    **PAPER,
    "augment": ["auto"],
    "steps": 1400,
    "lr": 1e-3,
    "d_lr": 4e-3,
    "lr_schedule": "linear",
    "n_critic": 2,
    "generator": {"width": 32, "hidden": 256, "modulated": True, "fine": 16, "palette": 16},
    "discriminator": {"width": 32, "hidden": 256},
}
# The networks of the default of 0.1.0, which give digits more variety.
DIGITS = {**DEFAULT, "generator": {"width": 32, "hidden": 256}}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "wgan_gp",
        generator="ganzoo_dcgan.model:Generator",
        discriminator="ganzoo_wgan_gp.model:Critic",
        loss="wasserstein",
        recipes={"default": DEFAULT, "digits": DIGITS, "paper": PAPER},
        summary="DCGAN networks under the Wasserstein loss with a gradient penalty, no BatchNorm in the critic",
        paper="Gulrajani et al. 2017, Improved Training of Wasserstein GANs, https://arxiv.org/abs/1704.00028",
    )
