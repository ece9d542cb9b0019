"""`example`: a small convolutional GAN. `ganzoo list` imports this file: it names the networks and imports no torch."""

from ganzoo import hookimpl

# What `ganzoo train example` does differently from ganzoo's own defaults: readable digits in a few minutes on a CPU.
DEFAULT = {
    "steps": 2000,
    "lr": 2e-3,
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8"],
}


@hookimpl
def register_architectures(register):
    register(
        "example",
        generator="ganzoo_example.model:Generator",
        discriminator="ganzoo_example.model:Discriminator",
        recipes={"default": DEFAULT},
        summary="a small convolutional GAN, for sizes that 4 divides",
    )
