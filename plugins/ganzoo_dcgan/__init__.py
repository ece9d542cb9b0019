"""`dcgan`: the deep convolutional GAN."""

from ganzoo import Register, hookimpl

PAPER = {"steps": 20000, "batch_size": 128, "lr": 2e-4, "betas": [0.5, 0.999]}
# Half of the usual width, the fully connected layer of the authors' network for MNIST, and a high learning rate that
# falls to zero and that a lazy R1 penalty keeps stable. D's BatchNorm has the statistics of real and generated images
# together: with those of each kind, G collapses on many colour pictures. The latent modulates all of G's feature maps,
# one of which has the full size, and each pixel is a mixture of a few colours, which makes flat areas easy.
# docs/recipes.md describes the search.
DEFAULT = {
    "steps": 3000,
    "batch_size": 128,
    "lr": 2e-3,
    "augment": ["auto"],
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8"],
    "objective_options": {"joint": True},
    "generator": {"width": 32, "hidden": 256, "modulated": True, "fine": 16, "palette": 16},
    "discriminator": {"width": 32, "hidden": 256},
    "auto_precision": "bf16",
}
# Clear digits in two minutes on two CPU cores. It collapses on many colour pictures.
DIGITS = {
    **DEFAULT,
    "lr": 4e-3,
    "augment": [],
    "objective_options": {},
    "generator": {"width": 32, "hidden": 256},
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "dcgan",
        generator="ganzoo_dcgan.model:Generator",
        discriminator="ganzoo_dcgan.model:Discriminator",
        recipes={"default": DEFAULT, "digits": DIGITS, "paper": PAPER},
        summary="transposed convolutions with BatchNorm",
        paper="Radford et al. 2015, Unsupervised Representation Learning with DCGANs, https://arxiv.org/abs/1511.06434",
    )
