"""VAE/GAN: encoder and decoder, who learns from which part of the loss, and what is published."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal, kl_divergence

import ganzoo
from ganzoo import Batch, Rng
from ganzoo.data.dataset import Batches
from ganzoo.data.loading import load
from ganzoo.training.build import build_players
from ganzoo_vaegan.model import _mixed

EXAMPLE = Path(__file__).parents[2] / "examples" / "reconstruct.py"
SMALL = {"width": 8, "hidden": 16}


def config(**settings):
    defaults = {
        "image_size": 14, "steps": 60, "batch_size": 32, "log_every": 20, "precision": "fp32", "out": "run",
        "generator": {**SMALL, "z_dim": 8}, "discriminator": SMALL,
    }  # fmt: skip
    return ganzoo.TrainConfig("vaegan", **{**defaults, **settings})


def parts(**settings):
    torch.manual_seed(0)
    data = load("digits", image_size=14)
    players = build_players(config(**settings), data)
    g, d, objective = players.g, players.d, players.objective
    real = Batches(data, 8, 0, torch.device("cpu")).get(0)[0]
    return g, d, objective, lambda phase: Batch(real, torch.randn(8, 8), 0, Rng(0, 0, phase))


def gradients(modules):
    return [p.grad.abs().max().item() for module in modules for p in module.parameters() if p.grad is not None]


def test_the_divergence_is_that_from_a_standard_normal():
    g, d, objective, batch = parts()
    mean, log_variance = g.encode(batch("g").real)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0, 1)).sum(1).mean()
    divergence = objective.generator_loss(g, d, batch("g"))[1]["divergence"]
    assert divergence.item() == pytest.approx(expected.item(), rel=1e-4)


def test_latents_are_random_except_in_an_autoencoder():
    g, _, objective, batch = parts()
    one, other = (objective.latents(g, batch(phase))[0] for phase in ("a", "b"))
    assert not torch.equal(one, other)
    objective.mode = "autoencoder"
    one, other = (objective.latents(g, batch(phase))[0] for phase in ("a", "b"))
    assert torch.equal(one, other)
    assert torch.equal(one, g.encode(batch("a").real)[0])


def test_the_adversarial_loss_reaches_the_decoder_but_not_the_encoder():
    """Algorithm 1: the encoder minimises L_prior + L_llike alone."""
    g, d, objective, batch = parts(objective_options={"likeness": 0.0, "beta": 0.0})
    objective.generator_loss(g, d, batch("g"))[0].backward()
    assert set(gradients([g.encoder])) == {0.0}
    assert min(gradients([g.layers])) > 0


def test_reconstructions_send_their_adversarial_gradient_to_the_decoder():
    """Only the samples from the prior carry no gradient here, so what remains is that of the reconstructions."""
    g, d, objective, batch = parts(objective_options={"likeness": 0.0, "beta": 0.0})
    one = batch("g")
    with torch.no_grad():
        samples = g(one.z)
    one.fake = lambda g, graph=True: samples
    objective.generator_loss(g, d, one)[0].backward()
    assert set(gradients([g.encoder])) == {0.0}
    assert min(gradients([g.layers])) > 0


@pytest.mark.parametrize("option", ["likeness", "beta"])
def test_likeness_and_divergence_reach_the_encoder(option):
    g, d, objective, batch = parts(objective_options={"likeness": 0.0, "beta": 0.0, option: 1.0})
    objective.generator_loss(g, d, batch("g"))[0].backward()
    assert max(gradients([g.encoder])) > 1e-4


@pytest.mark.parametrize("phase", ["d0", "g"])
def test_half_of_the_fakes_are_reconstructions(phase):
    g, d, objective, batch = parts()
    d.eval()
    seen = []
    one = batch(phase)
    handle = d.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    (objective.generator_loss if phase == "g" else objective.discriminator_loss)(g, d, one)
    handle.remove()
    fake = seen[0 if phase == "g" else 1]
    with torch.no_grad():
        samples, reconstructions = g(one.z), g(objective.latents(g, batch(phase))[0])
    assert torch.equal(fake[::2], samples[::2])
    assert torch.allclose(fake[1::2], reconstructions[1::2], atol=1e-6)


def test_a_batch_of_one_is_a_sample():
    g, _, _, batch = parts()
    samples = g(batch("g").z[:1])
    assert torch.equal(_mixed(g, samples, batch("g").z[:1]), samples)


@pytest.mark.parametrize("mode", ["vaegan", "vae", "autoencoder"])
def test_reconstructions_come_close(mode):
    run = ganzoo.train(config(steps=300, lr=5e-3, objective_options={"mode": mode, "likeness": 5.0, "beta": 0.05}))
    real = load("digits", image_size=14).items[:200].float() / 127.5 - 1
    with torch.no_grad():
        reconstructions = run.generator(run.generator.encode(real)[0])
    assert (reconstructions - real).square().mean() < 0.7 * (real - real.mean(0)).square().mean()
    logged = run.metrics.keys()
    assert ("g_loss" in logged) == (mode == "vaegan")
    assert {"likeness", "divergence"} <= logged


def test_an_unknown_mode_is_refused():
    with pytest.raises(ganzoo.ConfigError, match=r"objective.mode must be vaegan, vae or autoencoder"):
        parts(objective_options={"mode": "vqgan"})


def test_the_encoder_is_published_and_the_example_reconstructs(monkeypatch, capsys):
    run = ganzoo.train(config(steps=2))
    g = ganzoo.from_pretrained("./run/model")
    real = torch.rand(3, 1, 14, 14) * 2 - 1
    assert torch.allclose(g.encode(real)[0], run.generator.encode(real)[0], atol=1e-6)
    monkeypatch.setattr(sys, "argv", ["reconstruct.py", "./run", "-n", "5", "-o", "pairs.png"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "mean squared difference" in capsys.readouterr().err
    assert Path("pairs.png").stat().st_size > 0
