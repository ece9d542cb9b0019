"""`pix2pix`: images translated into images, learned from pairs."""

from ganzoo import Register, hookimpl

# For small pictures on a CPU core in some minutes.
DEFAULT = {
    "steps": 2000,
    "batch_size": 16,
    "lr": 1e-3,
    "lr_schedule": "linear",
    "betas": [0.5, 0.999],
    "generator": {"width": 32},
    "discriminator": {"width": 32},
}
# Section 6.2, with the 200 epochs of the 400 facades. Images are mirrored; those of the paper are also enlarged to 286
# pixels and cropped at random.
PAPER = {
    "steps": 80_000,
    "batch_size": 1,
    "image_size": 256,
    "lr": 2e-4,
    "betas": [0.5, 0.999],
    "flip": True,
    "objective_options": {"l1": 100.0},
    "generator": {"width": 64, "dropout": 0.5},
    "discriminator": {"width": 64},
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "pix2pix",
        generator="ganzoo_pix2pix.model:Generator",
        discriminator="ganzoo_pix2pix.model:Discriminator",
        objective="ganzoo_pix2pix.model:Pix2Pix",
        recipes={"default": DEFAULT, "paper": PAPER},
        summary="images from images, learned from pairs: a U-Net, and a discriminator of patches",
        paper="Isola et al. 2017, Image-to-Image Translation with Conditional Adversarial Networks, "
        "https://arxiv.org/abs/1611.07004",
    )
