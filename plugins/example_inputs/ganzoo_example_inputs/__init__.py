"""`example_inputs`: a small translator of pictures. `ganzoo list` imports this file, so it names the networks and does
not import torch."""

from ganzoo import Register, hookimpl

DEFAULT = {"steps": 1000, "batch_size": 32, "lr": 1e-3, "lr_schedule": "linear", "betas": [0.5, 0.99]}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "example_inputs",
        generator="ganzoo_example_inputs.model:Generator",
        discriminator="ganzoo_example_inputs.model:Discriminator",
        objective="ganzoo_example_inputs.model:Nearby",
        recipes={"default": DEFAULT},
        summary="a small autoencoder from pictures to pictures",
    )
