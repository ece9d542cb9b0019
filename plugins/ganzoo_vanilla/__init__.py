"""`vanilla`: the GAN of multilayer perceptrons."""

from ganzoo import hookimpl


@hookimpl
def register_architectures(register):
    register(
        "vanilla",
        generator="ganzoo_vanilla.model:Generator",
        discriminator="ganzoo_vanilla.model:Discriminator",
        recipes={"default": {"steps": 6000, "batch_size": 128}},
        summary="multilayer perceptrons, for images of any size",
        paper="Goodfellow et al. 2014, Generative Adversarial Nets, https://arxiv.org/abs/1406.2661",
    )
