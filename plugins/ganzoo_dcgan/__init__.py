"""`dcgan`: deep convolutional GAN."""

from ganzoo import hookimpl

PAPER = {"steps": 20000, "batch_size": 128, "lr": 2e-4, "betas": [0.5, 0.999]}
# Half the published width and a large rate that falls to zero, held by a lazy R1: readable digits in two minutes on two
# CPU cores. Without R1, or at the paper's rate, the same time gives worse ones.
DEFAULT = {
    "steps": 2200,
    "batch_size": 64,
    "lr": 4e-3,
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8"],
    "generator": {"width": 32},
    "discriminator": {"width": 32},
}


@hookimpl
def register_architectures(register):
    register(
        "dcgan",
        generator="ganzoo_dcgan.model:Generator",
        discriminator="ganzoo_dcgan.model:Discriminator",
        recipes={"default": DEFAULT, "paper": PAPER},
        summary="transposed convolutions with BatchNorm, for sizes 4*2^k and 7*2^k",
        paper="Radford et al. 2015, Unsupervised Representation Learning with DCGANs, https://arxiv.org/abs/1511.06434",
    )
