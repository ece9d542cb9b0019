"""`cyclegan`: translation between two kinds of images, learned from images that do not belong together."""

from ganzoo import Register, hookimpl

UNPAIRED = {"data_options": {"paired": False}}
# A quarter of the published width, a third of the blocks and smaller patches, for small images on a CPU.
DEFAULT = {
    **UNPAIRED,
    "steps": 1500,
    "batch_size": 8,
    "lr": 1e-3,
    "lr_schedule": "linear",
    "betas": [0.5, 0.999],
    "generator": {"width": 16, "blocks": 3},
    "discriminator": {"width": 16, "layers": 2},
}
# The authors' settings: about 1,000 images, 200 times. The number of blocks follows from the size.
PAPER = {
    **UNPAIRED,
    "steps": 200000,
    "batch_size": 1,
    "lr": 2e-4,
    "lr_schedule": "linear",
    "betas": [0.5, 0.999],
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "cyclegan",
        generator="ganzoo_cyclegan.model:Generator",
        discriminator="ganzoo_cyclegan.model:Discriminator",
        loss="lsgan",
        objective="ganzoo_cyclegan.objective:CycleGAN",
        recipes={"default": DEFAULT, "paper": PAPER},
        summary="translation between two kinds of images, both ways, without pairs: residual networks and patches",
        paper="Zhu et al. 2017, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, "
        "https://arxiv.org/abs/1703.10593",
    )
