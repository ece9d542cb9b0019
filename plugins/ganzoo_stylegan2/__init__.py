"""`stylegan2`: StyleGAN2 with adaptive discriminator augmentation."""

from ganzoo import Register, hookimpl

# For small pictures on a CPU core in about ten minutes. The networks are narrow, because those that see more images
# learn more in that time. Styles are not mixed, and path lengths not regularised, which takes a tenth of the time.
# docs/recipes.md describes the search.
SMALL = {"channel_base": 512, "channel_max": 128}
DEFAULT = {
    "steps": 10_000,
    "batch_size": 16,
    "lr": 5e-3,
    "augment": ["auto"],
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@16"],
    "ema_halflife": 10_000.0,
    "objective_options": {"path_length": 0.0, "style_mixing": 0.0},
    "generator": {**SMALL, "z_dim": 64, "w_dim": 64, "mapping": 2},
    "discriminator": {**SMALL, "mapping": 2},
    "auto_precision": "bf16",
}
# Configurations of the authors' stylegan2-ada-pytorch, for 256 pixels and for CIFAR-10 (which they train by class).
PAPER = {
    "steps": 390_625,
    "batch_size": 64,
    "lr": 2.5e-3,
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@16"],
    "augment": ["ada"],
    "augment_options": {"images": 400_000},
    "ema_halflife": 20_000.0,
    "generator": {"conv_clamp": 256.0},
    "discriminator": {"conv_clamp": 256.0, "group": 8},
    "auto_precision": "bf16",
}
CIFAR = {
    **PAPER,
    "steps": 1_562_500,
    "penalties": ["r1=0.01@16"],
    "ema_halflife": 500_000.0,
    "objective_options": {"style_mixing": 0.0, "path_length": 0.0},
    "generator": {"mapping": 2, "channel_base": 32768},
    "discriminator": {"mapping": 2, "channel_base": 32768, "architecture": "orig", "group": 32},
}
# The networks of lucidrains' stylegan2-pytorch, narrow for the same reason. Their weights are not scaled where they are
# used, so the learning rate is lower: at 1e-3 the generator diverges on sprites. There was no search.
LUCID = {
    **DEFAULT,
    "lr": 3e-4,
    "generator": {"width": 16, "widest": 128, "z_dim": 128, "mapping": 4},
    "discriminator": {"width": 16, "widest": 128},
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "stylegan2",
        generator="ganzoo_stylegan2.model:Generator",
        discriminator="ganzoo_stylegan2.model:Discriminator",
        objective="ganzoo_stylegan2.objective:StyleGAN2",
        recipes={"default": DEFAULT, "paper256": PAPER, "cifar": CIFAR},
        summary="a mapping network and modulated convolutions",
        paper="Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN, "
        "https://arxiv.org/abs/1912.04958",
    )
    register(
        "stylegan2_lucid",
        generator="ganzoo_stylegan2.lucid:Generator",
        discriminator="ganzoo_stylegan2.lucid:Discriminator",
        loss="hinge",
        objective="ganzoo_stylegan2.objective:StyleGAN2",
        recipes={"default": LUCID},
        summary="the networks of lucidrains' stylegan2-pytorch",
        paper="Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN, "
        "https://arxiv.org/abs/1912.04958",
    )
