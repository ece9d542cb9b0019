"""`example`: a small convolutional GAN. `ganzoo list` imports this file, so it names the networks and does not import
torch."""

from ganzoo import Register, hookimpl

# Where `ganzoo train example` differs from ganzoo's own defaults: it gives readable digits in a few minutes on a CPU.
DEFAULT = {
    "steps": 2000,
    "lr": 2e-3,
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8"],
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "example",
        generator="ganzoo_example.model:Generator",
        discriminator="ganzoo_example.model:Discriminator",
        recipes={"default": DEFAULT},
        summary="a small convolutional GAN, for sizes that are multiples of 4",
    )
