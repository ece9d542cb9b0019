"""`wgan`: Wasserstein GAN. The paper trains the networks of DCGAN as generator and critic, so it has no networks of its
own."""

from ganzoo import Register, hookimpl

PAPER = {"steps": 20000, "batch_size": 64, "optimizer": "rmsprop", "lr": 5e-5, "n_critic": 5}
# The loss and clipping of the paper, on the networks that dcgan has for digits. With one update of the critic a step, G
# collapses on nouns (docs/sets.md). The critic's updates have to be small compared with the clipping: at four times
# this rate its signal died out within 3,000 steps. Its logits and hence all gradients are tiny, which is why eps is.
# docs/recipes.md describes the search.
DEFAULT = {
    "steps": 1500,
    "n_critic": 3,
    "batch_size": 128,
    "lr": 2e-3,
    "d_lr": 2e-4,
    "augment": ["auto"],
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "eps": 1e-15,
    "generator": {"width": 32, "hidden": 256},
    "discriminator": {"width": 32, "hidden": 256},
    "auto_precision": "bf16",
}
# On digits, one update of the critic a step is enough.
DIGITS = {**DEFAULT, "steps": 3000, "n_critic": 1}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "wgan",
        generator="ganzoo_dcgan.model:Generator",
        discriminator="ganzoo_dcgan.model:Discriminator",
        loss="wasserstein",
        recipes={"default": DEFAULT, "digits": DIGITS, "paper": PAPER},
        summary="DCGAN networks under the Wasserstein loss: a critic with clipped weights",
        paper="Arjovsky et al. 2017, Wasserstein GAN, https://arxiv.org/abs/1701.07875",
    )
