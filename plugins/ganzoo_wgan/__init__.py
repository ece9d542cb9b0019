"""`wgan`: Wasserstein GAN. The paper trains DCGAN networks as generator and critic, so it needs no model of its own."""

from ganzoo import hookimpl

PAPER = {"steps": 20000, "batch_size": 64, "optimizer": "rmsprop", "lr": 5e-5, "n_critic": 5}
# As the paper has it, but narrower, with a larger rate that falls to zero.
DEFAULT = {
    **PAPER,
    "steps": 1500,
    "lr": 5e-4,
    "lr_schedule": "linear",
    "generator": {"width": 32},
    "discriminator": {"width": 32},
}


@hookimpl
def register_architectures(register):
    register(
        "wgan",
        generator="ganzoo_dcgan.model:Generator",
        discriminator="ganzoo_dcgan.model:Discriminator",
        loss="wasserstein",
        recipes={"default": DEFAULT, "paper": PAPER},
        summary="DCGAN networks under the Wasserstein loss: a critic with clipped weights, five updates a step",
        paper="Arjovsky et al. 2017, Wasserstein GAN, https://arxiv.org/abs/1701.07875",
    )
