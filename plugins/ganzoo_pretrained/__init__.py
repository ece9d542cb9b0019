"""The weights that ship in the package, one for each folder of model_cards/."""

from ganzoo import Register, cards_folder, hookimpl

DEFAULT = "handwritten digits, trained by `ganzoo train {}`"
SUMMARIES = {
    **{f"{name}.digits": DEFAULT.format(name) for name in ("dcgan", "infogan", "vaegan")},
    "dcgan.mnist": "handwritten digits",
    "dcgan.mnist_cond": "handwritten digits by class",
    "dcgan.mnist_rp": "handwritten digits, by the relativistic loss with R1 and R2",
    "dcgan.stacked_mnist": "three handwritten digits in one image, 1,000 modes",
    "vanilla.mnist": "handwritten digits, by perceptrons",
    "wgan.mnist": "handwritten digits, by a critic with clipped weights",
}


@hookimpl
def register_weights(register: Register) -> None:
    for name, summary in SUMMARIES.items():
        register(name, path=cards_folder() / name, license="cc-by-sa-3.0", summary=summary)
