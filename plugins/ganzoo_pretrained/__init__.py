"""The weights that ship in the package, one for each folder of model_cards/."""

from ganzoo import Register, cards_folder, hookimpl

DIGITS = "cc-by-sa-3.0"
WEIGHTS = {
    "stylegan2.nouns": ("heads in pixel art, by their glasses, in colour, by StyleGAN2", "cc0-1.0"),
    "stylegan2.emoji": ("emoji on white, in colour, of 64 pixels, by StyleGAN2", "apache-2.0"),
    "sngan.cifar10": ("photographs of things and animals by class, in colour", "apache-2.0"),
    "dcgan.nouns": ("heads in pixel art, by their glasses, in colour", "cc0-1.0"),
    "pix2pix.nouns_grey": ("colours for grey heads in pixel art", "cc0-1.0"),
    "pix2pix.nouns_masked": ("heads in pixel art, completed where a rectangle is missing", "cc0-1.0"),
    "dcgan.fashion": ("articles of clothing by class", "mit"),
    "dcgan.mnist": ("handwritten digits", DIGITS),
    "dcgan.mnist_cond": ("handwritten digits by class", DIGITS),
    "infogan.digits": ("handwritten digits, by a code for classes and styles", DIGITS),
    "vaegan.digits": ("handwritten digits, with an encoder", DIGITS),
}
"""Summary and licence of each; those in colour come first."""


@hookimpl
def register_weights(register: Register) -> None:
    for name, (summary, license) in WEIGHTS.items():
        register(name, path=cards_folder() / name, license=license, summary=summary)
