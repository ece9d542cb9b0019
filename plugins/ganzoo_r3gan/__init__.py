"""`r3gan`: the modern baseline of Huang et al. 2024."""

from ganzoo import hookimpl

# For digits on a CPU in the time of dcgan's default. Small networks that see many images did best; two pixels a side
# are one position, and the layer that serves dcgan so well is there. Twice this rate looked better for 1,400 steps, and
# broke at step 600 of 2,800. docs/recipes.md has the search.
SMALL = {"width": 16, "growth": 4, "widest": 256, "patch": 2, "blocks": 1, "hidden": 256}
DEFAULT = {
    "steps": 2800,
    "batch_size": 64,
    "lr": 2e-3,
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8", "r2=1@8"],
    "generator": SMALL,
    "discriminator": SMALL,
    "auto_precision": "bf16",
}
PAPER = {
    "steps": 50000,
    "batch_size": 256,
    "lr": 2e-4,
    "betas": [0.0, 0.99],
    "penalties": ["r1=1", "r2=1"],
}


@hookimpl
def register_architectures(register):
    register(
        "r3gan",
        generator="ganzoo_r3gan.model:Generator",
        discriminator="ganzoo_r3gan.model:Discriminator",
        loss="rpgan",
        recipes={"default": DEFAULT, "paper": PAPER},
        summary="residual blocks of grouped convolutions without normalisation, for sizes 4*2^k and 7*2^k",
        paper="Huang et al. 2024, The GAN is dead; long live the GAN! A Modern GAN Baseline, "
        "https://arxiv.org/abs/2501.05441",
    )
