"""`infogan`: a GAN that learns, without labels, a code for what varies between its images."""

from ganzoo import Register, hookimpl

# The default recipe of dcgan.
DEFAULT = {
    "steps": 2100,
    "batch_size": 128,
    "lr": 2e-3,
    "augment": ["auto"],
    "lr_schedule": "linear",
    "betas": [0.0, 0.99],
    "penalties": ["r1=1@8"],
    "objective_options": {"joint": True},
    "generator": {"width": 32, "hidden": 256, "modulated": True, "fine": 16, "palette": 16},
    "discriminator": {"width": 32, "hidden": 256},
    "auto_precision": "bf16",
}
# The default of 0.1.0, of which infogan.digits is.
DIGITS = {**DEFAULT, "objective_options": {}, "generator": {"width": 32, "hidden": 256}}
# Appendix C.1, MNIST: the learning rate of the generator is 1e-3 and that of the discriminator 2e-4.
PAPER = {
    "steps": 50000,
    "batch_size": 128,
    "lr": 1e-3,
    "d_lr": 2e-4,
    "betas": [0.5, 0.999],
    "generator": {"hidden": 1024},
    "discriminator": {"hidden": 1024},
}


@hookimpl
def register_architectures(register: Register) -> None:
    register(
        "infogan",
        generator="ganzoo_infogan.model:Generator",
        discriminator="ganzoo_infogan.model:Discriminator",
        objective="ganzoo_infogan.model:InfoGAN",
        recipes={"default": DEFAULT, "digits": DIGITS, "paper": PAPER},
        summary="DCGAN networks with a code that the discriminator recovers: classes and styles without labels",
        paper="Chen et al. 2016, InfoGAN: Interpretable Representation Learning by Information Maximizing Generative "
        "Adversarial Nets, https://arxiv.org/abs/1606.03657",
    )
