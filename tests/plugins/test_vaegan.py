"""VAE/GAN: encoder and decoder, the three objectives, and what is kept of them."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal, kl_divergence

import ganzoo
from ganzoo import Batch, Rng
from ganzoo.data.dataset import Batches, load
from ganzoo.training.build import build_players

EXAMPLE = Path(__file__).parents[2] / "examples" / "reconstruct.py"
SMALL = {"width": 8, "hidden": 16}


def config(**settings):
    defaults = {
        "image_size": 14, "steps": 60, "batch_size": 32, "log_every": 20, "precision": "fp32", "out": "run",
        "generator": {**SMALL, "z_dim": 8}, "discriminator": SMALL,
    }  # fmt: skip
    return ganzoo.TrainConfig("vaegan", **{**defaults, **settings})


def made(**settings):
    torch.manual_seed(0)
    data = load("digits", image_size=14)
    players = build_players(config(**settings), data)
    g, d, objective = players.g, players.d, players.objective
    real = Batches(data, 8, 0, torch.device("cpu")).get(0)[0]
    return g, d, objective, lambda phase: Batch(real, torch.randn(8, 8), 0, Rng(0, 0, phase))


def test_the_divergence_is_that_from_a_standard_normal():
    g, d, objective, batch = made()
    mean, log_variance = g.encode(batch("g").real)
    wanted = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0, 1)).sum(1).mean()
    assert objective.generator_loss(g, d, batch("g"))[1]["divergence"].item() == pytest.approx(wanted.item(), rel=1e-4)


def test_latents_are_drawn_but_for_an_autoencoder():
    g, _, objective, batch = made()
    g.eval()
    one, other = (objective.rebuilt(g, batch(phase))[0] for phase in ("a", "b"))
    assert not torch.equal(one, other)
    objective.mode = "autoencoder"
    one, other = (objective.rebuilt(g, batch(phase))[0] for phase in ("a", "b"))
    assert torch.equal(one, other)
    assert torch.equal(one, g(g.encode(batch("a").real)[0]))


def test_half_of_the_fakes_are_reconstructions():
    g, d, objective, batch = made()
    g.eval()
    d.eval()
    seen = []
    handle = d.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    one = batch("d0")
    objective.discriminator_loss(g, d, one)
    handle.remove()
    with torch.no_grad():
        samples, rebuilt = g(one.z), objective.rebuilt(g, batch("d0"))[0]
    assert torch.equal(seen[1][::2], samples[::2])
    assert torch.allclose(seen[1][1::2], rebuilt[1::2], atol=1e-6)


@pytest.mark.parametrize("mode", ["vaegan", "vae", "autoencoder"])
def test_reconstructions_become_like(mode):
    run = ganzoo.train(config(steps=300, lr=5e-3, objective_options={"mode": mode, "likeness": 5.0, "beta": 0.05}))
    real = load("digits", image_size=14).items[:200].float() / 127.5 - 1
    with torch.no_grad():
        rebuilt = run.generator(run.generator.encode(real)[0])
    assert (rebuilt - real).square().mean() < 0.7 * (real - real.mean(0)).square().mean()
    logged = run.metrics.keys()
    assert ("g_loss" in logged) == (mode == "vaegan")
    assert {"likeness", "divergence"} <= logged


def test_another_mode_is_refused():
    with pytest.raises(ganzoo.ConfigError, match=r"objective.mode must be vaegan, vae or autoencoder"):
        made(objective_options={"mode": "vqgan"})


def test_the_encoder_is_published_and_the_example_reconstructs(monkeypatch, capsys):
    run = ganzoo.train(config(steps=2))
    g = ganzoo.from_pretrained("./run/model")
    real = torch.rand(3, 1, 14, 14) * 2 - 1
    assert torch.allclose(g.encode(real)[0], run.generator.encode(real)[0], atol=1e-6)
    monkeypatch.setattr(sys, "argv", ["reconstruct.py", "./run", "-n", "5", "-o", "pairs.png"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "mean squared difference" in capsys.readouterr().err
    assert Path("pairs.png").stat().st_size > 0
