"""The weights that ship in the package, one for each folder of model_cards/."""

from ganzoo import Register, cards_folder, hookimpl

SUMMARIES = {
    "dcgan.mnist": "handwritten digits",
    "dcgan.mnist_cond": "handwritten digits by class",
    "dcgan.stacked_mnist": "three handwritten digits in one image, 1,000 modes",
    "infogan.digits": "handwritten digits, by a code for classes and styles",
    "vaegan.digits": "handwritten digits, with an encoder",
}


@hookimpl
def register_weights(register: Register) -> None:
    for name, summary in SUMMARIES.items():
        register(name, path=cards_folder() / name, license="cc-by-sa-3.0", summary=summary)
