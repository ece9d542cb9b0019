"""`wgan`: Wasserstein GAN. The paper trains DCGAN networks as generator and critic, so it needs no model of its own."""

from ganzoo import hookimpl

PAPER = {"steps": 20000, "batch_size": 64, "optimizer": "rmsprop", "lr": 5e-5, "n_critic": 5}


@hookimpl
def register_architectures(register):
    register(
        "wgan",
        generator="ganzoo_dcgan.model:Generator",
        discriminator="ganzoo_dcgan.model:Discriminator",
        loss="wasserstein",
        recipes={"default": {**PAPER, "steps": 2000}, "paper": PAPER},
        summary="DCGAN networks under the Wasserstein loss: a critic with clipped weights, five updates a step",
        paper="Arjovsky et al. 2017, Wasserstein GAN, https://arxiv.org/abs/1701.07875",
    )
