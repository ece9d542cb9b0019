"""`dcgan`: deep convolutional GAN."""

from ganzoo import hookimpl

PAPER = {"steps": 20000, "batch_size": 128, "lr": 2e-4, "betas": [0.5, 0.999]}


@hookimpl
def register_architectures(register):
    register(
        "dcgan",
        generator="ganzoo_dcgan.model:Generator",
        discriminator="ganzoo_dcgan.model:Discriminator",
        recipes={"default": {"steps": 2000, "batch_size": 64}, "paper": PAPER},
        summary="transposed convolutions with BatchNorm, for sizes 4*2^k and 7*2^k",
        paper="Radford et al. 2015, Unsupervised Representation Learning with DCGANs, https://arxiv.org/abs/1511.06434",
    )
