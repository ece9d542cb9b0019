"""The field's standard adversarial losses and discriminator penalties."""

from ganzoo import Register, hookimpl


@hookimpl
def register_losses(register: Register) -> None:
    goodfellow = "Goodfellow et al. 2014, Generative Adversarial Nets, https://arxiv.org/abs/1406.2661"
    for name, attribute, summary, paper in (
        ("minimax", "Minimax", "the original game; the gradient of G vanishes where D wins", goodfellow),
        ("nonsaturating", "NonSaturating", "G maximises log D(G(z)); the usual choice", goodfellow),
        ("lsgan", "LeastSquares", "least squares against 1 and 0", "Mao et al. 2016, https://arxiv.org/abs/1611.04076"),
        ("hinge", "Hinge", "hinge at +1 and -1", "Lim & Ye 2017, https://arxiv.org/abs/1705.02894"),
        ("wasserstein", "Wasserstein", "earth mover's distance; weights are clipped unless a penalty is given",
         "Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875"),
        ("rpgan", "RelativisticPairing", "D scores the real one of a pair above the fake; needs r1 and r2",
         "Jolicoeur-Martineau 2018, https://arxiv.org/abs/1807.00734; Huang et al. 2024, https://arxiv.org/abs/2501.05441"),
    ):  # fmt: skip
        register(name, f"ganzoo_losses.losses:{attribute}", summary=summary, paper=paper)


@hookimpl
def register_penalties(register: Register) -> None:
    mescheder = "Mescheder et al. 2018, https://arxiv.org/abs/1801.04406"
    for name, attribute, summary, paper in (
        ("gp", "GP", "gradient norm 1 between real and generated items (WGAN-GP), weight 10",
         "Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028"),
        ("r1", "R1", "gradient norm 0 at real items, weight 1", mescheder),
        ("r2", "R2", "gradient norm 0 at generated items, weight 1", mescheder),
        ("dragan", "Dragan", "gradient norm 1 around real items, weight 10", "Kodali et al. 2017, https://arxiv.org/abs/1705.07215"),
    ):  # fmt: skip
        register(name, f"ganzoo_losses.penalties:{attribute}", summary=summary, paper=paper)
