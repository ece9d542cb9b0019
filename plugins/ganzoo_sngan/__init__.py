"""`sngan`: residual networks with spectral normalisation."""

from ganzoo import Register, hookimpl

# A quarter of the published width, for digits on a CPU in the time of dcgan's recipe of that name. docs/recipes.md
# describes the search.
DIGITS = {
    "steps": 2300,
    "batch_size": 64,
    "lr": 2e-3,
    "augment": ["auto"],
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "generator": {"width": 16},
    "discriminator": {"width": 16},
    "auto_precision": "bf16",
}
DEFAULT = {**DIGITS, "generator": {"width": 16, "palette": 16}}
# CIFAR-10, on the networks of appendix B.4.
PAPER = {
    "steps": 100000,
    "batch_size": 64,
    "n_critic": 5,
    "lr": 2e-4,
    "lr_schedule": "linear",
    "betas": [0.0, 0.9],
    "generator": {"width": 256, "widest": 256},
    "discriminator": {"width": 128, "widest": 128, "flat": 2},
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "sngan",
        generator="ganzoo_sngan.model:Generator",
        discriminator="ganzoo_sngan.model:Discriminator",
        loss="hinge",
        recipes={"default": DEFAULT, "digits": DIGITS, "paper": PAPER},
        summary="residual networks with spectral norm in the discriminator",
        paper="Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks, "
        "https://arxiv.org/abs/1802.05957",
    )
