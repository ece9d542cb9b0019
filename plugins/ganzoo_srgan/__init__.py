"""`srgan`: pictures enlarged, with details that a critic believes."""

from ganzoo import Register, hookimpl

# For small pictures on a CPU core in some minutes. At the generator's rate, the discriminator separated all digits
# after 250 steps.
DEFAULT = {
    "steps": 2000,
    "batch_size": 16,
    "lr": 1e-3,
    "d_lr": 1e-4,
    "lr_schedule": "linear",
    "betas": [0.9, 0.999],
    "generator": {"width": 32, "blocks": 4},
    "discriminator": {"width": 16, "hidden": 128},
}
# With the package's own features of digits.
DIGITS = {**DEFAULT, "objective_options": {"perceptual": 0.1, "features": "mnist"}}
# Section 3.2, without the start from an SRResNet, and at one rate.
PAPER = {
    "steps": 200_000,
    "batch_size": 16,
    "lr": 1e-4,
    "betas": [0.9, 0.999],
    "generator": {"width": 64, "blocks": 16},
    "discriminator": {"width": 64, "hidden": 1024},
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "srgan",
        generator="ganzoo_srgan.model:Generator",
        discriminator="ganzoo_srgan.model:Discriminator",
        objective="ganzoo_srgan.model:SRGAN",
        recipes={"default": DEFAULT, "digits": DIGITS, "paper": PAPER},
        summary="super-resolution: a residual network that enlarges images 2, 4, 8 or 16 times",
        paper="Ledig et al. 2017, Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial "
        "Network, https://arxiv.org/abs/1609.04802",
    )
