"""The weights that ship in the package: one line for each folder of model_cards/."""

from ganzoo import cards_folder, hookimpl


@hookimpl
def register_weights(register):
    register("dcgan.digits", path=cards_folder() / "dcgan.digits", license="cc-by-sa-3.0", summary="handwritten digits")
