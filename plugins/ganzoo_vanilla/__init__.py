"""`vanilla`: the original GAN, of multilayer perceptrons."""

from ganzoo import Register, hookimpl

# As in the authors' code for MNIST: a discriminator of maxout units with dropout, SGD with momentum, a sigmoid output.
# Their learning rate of 0.1 diverges here, half of it does not. docs/architectures.md lists the differences.
PAPER = {
    "steps": 60000,
    "batch_size": 100,
    "optimizer": "sgd",
    "lr": 0.05,
    "betas": [0.5, 0.0],
    "generator": {"hidden": [1200, 1200], "activation": "relu", "output": "sigmoid"},
    "discriminator": {"hidden": [240, 240], "activation": "maxout", "dropout": 0.5},
}
# As in most tutorials: the default networks with the Adam settings of DCGAN.
TEXTBOOK = {"steps": 20000, "batch_size": 64, "lr": 2e-4, "betas": [0.5, 0.999]}
# BatchNorm in the generator only, a discriminator that learns at less than half the generator's rate, rates that fall
# to zero, and a lazy R1 penalty. docs/recipes.md describes the search.
DEFAULT = {
    "steps": 8000,
    "batch_size": 128,
    "lr": 1e-3,
    "d_lr": 4e-4,
    "augment": ["auto"],
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8"],
    "generator": {"hidden": [256, 512, 640], "norm": "batch"},
    "auto_precision": "bf16",
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "vanilla",
        generator="ganzoo_vanilla.model:Generator",
        discriminator="ganzoo_vanilla.model:Discriminator",
        recipes={"default": DEFAULT, "paper": PAPER, "textbook": TEXTBOOK},
        summary="multilayer perceptrons, for images of any size",
        paper="Goodfellow et al. 2014, Generative Adversarial Nets, https://arxiv.org/abs/1406.2661",
    )
