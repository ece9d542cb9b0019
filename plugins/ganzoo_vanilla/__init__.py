"""`vanilla`: the GAN of multilayer perceptrons."""

from ganzoo import hookimpl

# A large rate that falls to zero, held by a lazy R1: readable digits in four minutes on one CPU core.
DEFAULT = {
    "steps": 4000,
    "batch_size": 128,
    "lr": 1e-3,
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8"],
}


@hookimpl
def register_architectures(register):
    register(
        "vanilla",
        generator="ganzoo_vanilla.model:Generator",
        discriminator="ganzoo_vanilla.model:Discriminator",
        recipes={"default": DEFAULT},
        summary="multilayer perceptrons, for images of any size",
        paper="Goodfellow et al. 2014, Generative Adversarial Nets, https://arxiv.org/abs/1406.2661",
    )
