"""InfoGAN: the code in the latents, the bound on its information, and that it is learned."""

import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.distributions import Normal

import ganzoo
from ganzoo import Batch, Rng
from ganzoo.data.loading import load
from ganzoo.sampling.draw import walk
from ganzoo.training.build import build_players

EXAMPLE = Path(__file__).parents[2] / "examples" / "codes.py"
SMALL = {"width": 8, "hidden": 16, "categories": 4, "continuous": 2}


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return ganzoo.create("infogan", image_size=14, channels=1, generator={**SMALL, "z_dim": 6}, discriminator=SMALL)


def test_latents_are_noise_category_and_codes(networks):
    g, _ = networks
    z = g.draw_latent(4000, Rng(0, 0, "test"))
    assert z.shape == (4000, 12)
    assert (z[:, :6].std(0) - 1).abs().max() < 0.1
    category, values = g.code(z)
    assert torch.equal(z[:, 6:10], torch.nn.functional.one_hot(category, 4).float())
    assert category.bincount().min() > 800
    assert values.abs().max() <= 1
    assert (values.var(0) - 1 / 3).abs().max() < 0.03  # of the uniform distribution on [-1, 1]


def test_the_information_is_the_likelihood_of_the_code(networks):
    g, d = networks
    objective = build_players(config(), load("digits", image_size=14)).objective
    z = g.draw_latent(5, Rng(0, 0, "test"))
    fake = g(z)
    logits, estimates = d.recover(fake)
    category, values = g.code(z)
    likelihood = logits.log_softmax(1)[torch.arange(5), category] + Normal(estimates, 1).log_prob(values).sum(1)
    constant = math.log(2 * math.pi)  # of two Gaussians of standard deviation 1
    code = objective.information(g, d, fake, Batch(fake, z, 0, Rng(0, 0, "d")))
    assert code.item() == pytest.approx((-likelihood.mean() - constant).item(), rel=1e-4)


def config(**settings):
    defaults = {
        "image_size": 14, "steps": 60, "batch_size": 32, "log_every": 20, "precision": "fp32",
        "generator": {**SMALL, "z_dim": 6}, "discriminator": SMALL,
    }  # fmt: skip
    return ganzoo.TrainConfig("infogan", **{**defaults, **settings})


def test_the_code_is_learned():
    logs = []
    ganzoo.train(config(), on_log=logs.append)
    assert logs[-1]["code"] < 0.5 * logs[0]["code"]
    blind = []
    ganzoo.train(config(objective_options={"weight": 0.0}), on_log=blind.append)
    assert blind[-1]["code"] > 2 * logs[-1]["code"]


def test_a_walk_turns_the_code_alone(networks):
    g, _ = networks
    z = g.draw_latent(3, Rng(0, 0, "test"))
    quarter = g.along(z, 0.25)
    changed = (quarter != z).any(0).nonzero()[:, 0].tolist()
    assert changed == [10]
    assert quarter[:, 10].abs().max() < 1e-6
    assert torch.equal(g.along(z, 0.0)[:, 10], torch.ones(3))
    frames = list(walk(g.eval(), 3, 4))
    assert len(frames) == 4
    assert not torch.equal(frames[0], frames[2])
    assert torch.allclose(frames[1], frames[3], atol=1e-5)  # -cos and cos meet at zero
    only, _ = ganzoo.create(
        "infogan", image_size=14, channels=1, generator={"continuous": 0, "width": 4, "categories": 4}
    )
    z = only.draw_latent(8, Rng(0, 0, "test"))
    assert torch.equal(only.code(only.along(z, 0.5))[0], (only.code(z)[0] + 2) % 4)


def test_a_code_of_one_value_is_refused():
    with pytest.raises(ganzoo.ConfigError, match="at least 2 categories"):
        ganzoo.create("infogan", image_size=14, categories=1)


def test_the_example_draws_the_codes(monkeypatch):
    ganzoo.train(config(steps=2, out="run"))
    monkeypatch.setattr(sys, "argv", ["codes.py", "./run", "--code", "1", "--columns", "6"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    with Image.open("codes.png") as picture:
        assert picture.width > picture.height > 4 * 14  # 4 categories, 6 columns
    monkeypatch.setattr(sys, "argv", ["codes.py", "./run", "--code", "2"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
