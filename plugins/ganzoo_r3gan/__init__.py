"""`r3gan`: R3GAN, the modern baseline of Huang et al. 2024."""

from ganzoo import Register, hookimpl

# For digits on a CPU in the time of dcgan's default. Small networks that see many images did best: a position of the
# largest feature map stands for 2x2 pixels, and there is the fully connected layer that helps dcgan so much. Twice this
# rate looked better in runs of 1,400 steps, and diverged at step 600 of one of 2,800. D learns at half the rate of G:
# at the same rate, G loses its variety on many colour pictures. docs/recipes.md describes the search.
SMALL = {"width": 16, "growth": 4, "widest": 256, "patch": 2, "blocks": 1, "hidden": 256}
DEFAULT = {
    "steps": 2800,
    "batch_size": 64,
    "lr": 2e-3,
    "d_lr": 1e-3,
    "augment": ["auto"],
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8", "r2=1@8"],
    "generator": {**SMALL, "palette": 16},
    "discriminator": SMALL,
    "auto_precision": "bf16",
}
# The default of 0.1.0.
DIGITS = {**DEFAULT, "d_lr": None, "generator": SMALL}
# The authors' preset for CIFAR-10. Each schedule is half a cosine over 2e7 images, 39,062 steps, after which the value
# stays; the authors set no end of training.
PAPER = {
    "steps": 50000,
    "batch_size": 512,
    "flip": True,
    "conditional": True,
    "lr": 2e-4,
    "betas": [0.0, 0.9],
    "penalties": ["r1=0.05", "r2=0.05"],
    "augment": ["ada"],
    "ema_halflife": 0.0,
    "schedules": {"lr": 5e-5, "r1": 0.005, "r2": 0.005, "beta2": 0.99, "ema_halflife": 5e6, "augment_p": 0.55},
    "schedule_steps": 39062,
    "generator": {"width": 768},
    "discriminator": {"width": 768},
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "r3gan",
        generator="ganzoo_r3gan.model:Generator",
        discriminator="ganzoo_r3gan.model:Discriminator",
        loss="rpgan",
        recipes={"default": DEFAULT, "digits": DIGITS, "paper": PAPER},
        summary="residual blocks of grouped convolutions without normalisation",
        paper="Huang et al. 2024, The GAN is dead; long live the GAN! A Modern GAN Baseline, "
        "https://arxiv.org/abs/2501.05441",
    )
