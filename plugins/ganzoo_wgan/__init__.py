"""`wgan`: Wasserstein GAN. The paper trains DCGAN networks as generator and critic, so it needs no model of its own."""

from ganzoo import hookimpl

PAPER = {"steps": 20000, "batch_size": 64, "optimizer": "rmsprop", "lr": 5e-5, "n_critic": 5}
# The paper's loss and clipping, on dcgan's default networks. One critic update a step is enough, if small against the
# clipping: at four times its rate the critic's signal died out in 3,000 steps. Its logits, and so all gradients, are
# tiny, hence eps. docs/recipes.md has the search.
DEFAULT = {
    "steps": 3000,
    "batch_size": 128,
    "lr": 2e-3,
    "d_lr": 2e-4,
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "eps": 1e-15,
    "generator": {"width": 32, "hidden": 256},
    "discriminator": {"width": 32, "hidden": 256},
    "auto_precision": "bf16",
}


@hookimpl
def register_architectures(register):
    register(
        "wgan",
        generator="ganzoo_dcgan.model:Generator",
        discriminator="ganzoo_dcgan.model:Discriminator",
        loss="wasserstein",
        recipes={"default": DEFAULT, "paper": PAPER},
        summary="DCGAN networks under the Wasserstein loss: a critic with clipped weights",
        paper="Arjovsky et al. 2017, Wasserstein GAN, https://arxiv.org/abs/1701.07875",
    )
