"""WaveGAN: its networks as published, phase shuffle, and that it learns pitches."""

import sys
from collections import Counter

import pytest
import torch
from torch import nn

import ganzoo
from crash import Crash
from ganzoo import Batch, Rng, TrainConfig
from ganzoo.data.loading import load
from ganzoo.store.runs import load_newest
from ganzoo.testing import check_architecture
from ganzoo.training.build import build_players
from ganzoo.training.loop import frozen
from ganzoo_data.tones import PITCHES, RATE
from ganzoo_wavegan.model import Critic, shifted

SMALL = {"generator": {"width": 2}, "discriminator": {"width": 2}}


@ganzoo.hookimpl
def register_data(register):
    register("few_tones", lambda: load("tones", options={"n": 64, "length": 256}))


@pytest.fixture(autouse=True)
def few_tones():
    ganzoo.register(sys.modules[__name__], "few tones")
    yield
    ganzoo.unregister("few tones")


def test_the_published_networks():
    """Tables 3 and 4 of appendix D, for one channel and d = 64."""
    with torch.device("meta"):
        g, d = ganzoo.create("wavegan")
    layers = [m for m in g.layers if isinstance(m, nn.Linear | nn.ConvTranspose1d)]
    assert [tuple(m.weight.shape) for m in layers] == [
        (16384, 100), (1024, 512, 25), (512, 256, 25), (256, 128, 25), (128, 64, 25), (64, 1, 25),
    ]  # fmt: skip
    assert [type(m).__name__ for m in g.layers] == [
        "Linear", "Unflatten", *["ReLU", "ConvTranspose1d"] * 5, "Tanh",
    ]  # fmt: skip
    shapes = [tuple(m.weight.shape) for m in d.layers]
    assert shapes == [(64, 1, 25), (128, 64, 25), (256, 128, 25), (512, 256, 25), (1024, 512, 25)]
    assert d.score.weight.shape == (1, 16384)
    assert d.shuffle == 2
    for m in [*layers[1:], *d.layers]:
        assert m.stride == (4,)
        assert m.bias is not None


def test_the_recipe_is_the_papers():
    """Table 5: batches of 64, WGAN-GP with weight 10, 5 updates of D, Adam at 1e-4 with betas of 0.5 and 0.9."""
    config = TrainConfig("wavegan", recipe="paper")
    assert (config.loss, config.penalties, config.n_critic) == ("wasserstein", ["gp=10"], 5)
    assert (config.optimizer, config.lr, config.d_lr, config.betas) == ("adam", 1e-4, None, [0.5, 0.9])
    assert (config.batch_size, config.generator, config.discriminator) == (64, {}, {})
    default = TrainConfig("wavegan")
    assert (default.loss, default.penalties, default.data) == ("wasserstein", ["gp=10"], "tones")


@pytest.mark.parametrize("length", [64, 256, 1024, 4096, 16384, 65536])
@pytest.mark.parametrize("channels", [1, 2])
def test_sizes(length, channels):
    with torch.device("meta"):
        g, d = ganzoo.create("wavegan", length=length, channels=channels, width=2)
    sounds = g(torch.randn(3, 100, device="meta"))
    assert sounds.shape == (3, channels, length)
    assert d(sounds).shape == (3,)


@pytest.mark.parametrize(("length", "near"), [(0, 64), (16, 64), (5000, 4096), (16000, 16384), (262144, 65536)])
def test_other_lengths_are_refused_by_the_nearest(length, near):
    with pytest.raises(ganzoo.ConfigError, match=rf"not {length}: the nearest is --set data.length={near}$"):
        ganzoo.create("wavegan", length=length)
    with pytest.raises(ganzoo.ConfigError, match="shuffle must be 0 to 15 samples, not 16"):
        ganzoo.create("wavegan", length=64, shuffle=16)


def test_initialisation():
    torch.manual_seed(0)
    g, d = ganzoo.create("wavegan", length=1024, width=32)
    for module in [*g.modules(), *d.modules()]:
        if isinstance(module, nn.Linear | nn.Conv1d | nn.ConvTranspose1d):
            inputs, outputs = module.weight[0].numel(), module.weight[:, 0].numel()
            bound = (6 / (inputs + outputs)) ** 0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert not module.bias.any()


# Phase shuffle


def test_shifting_reflects_at_the_ends():
    x = torch.arange(6.0).expand(5, 2, 6) + torch.tensor([0.0, 10.0])[:, None]
    rows = shifted(x, torch.arange(5), 2)
    assert rows[:, 0].tolist() == [
        [2, 1, 0, 1, 2, 3], [1, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 4], [2, 3, 4, 5, 4, 3],
    ]  # fmt: skip
    assert torch.equal(rows[:, 1], rows[:, 0] + 10)


def test_shifting_has_first_and_second_derivatives():
    x = torch.randn(3, 2, 8, dtype=torch.float64, requires_grad=True)
    shifts = torch.tensor([0, 3, 4])
    assert torch.autograd.gradcheck(lambda x: shifted(x, shifts, 2), x)
    assert torch.autograd.gradgradcheck(lambda x: shifted(x, shifts, 2).tanh(), x)


@torch.no_grad()
def test_all_layers_but_the_last_are_shifted_item_by_item():
    torch.manual_seed(0)
    d = Critic(length=1024, width=2)
    x = torch.randn(4, 1, 1024)
    plain = d(x)
    maps = []
    hooks = [layer.register_forward_pre_hook(lambda m, inputs: maps.append(inputs[0])) for layer in d.layers]
    d(x)
    shifts = torch.tensor([[2, 2], [0, 2], [2, 1], [4, 4]])  # 2 is no shift
    with d.shuffling(shifts):
        scores = d(x)
        twice = d(torch.cat([x, x]))
    for hook in hooks:
        hook.remove()
    assert torch.equal(d(x), plain), "shifted after the block"
    before, after = maps[:3], maps[3:6]
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], shifted(before[1], shifts[:, 0], 2))
    assert [torch.equal(a, b) for a, b in zip(after[1], before[1], strict=True)] == [True, False, True, False]
    assert torch.allclose(scores[0], plain[0])
    assert not torch.isclose(scores[1:], plain[1:]).any()
    assert torch.allclose(twice, scores.repeat(2))


def watch(pack=1, **settings):
    """Both networks and the objective, and a list that notes under which shifts how many items are judged."""
    torch.manual_seed(0)
    networks = {"generator": {"width": 2}, "discriminator": {"width": 2, **settings}}
    players = build_players(TrainConfig("wavegan", data="few_tones", pack=pack, **networks), load("few_tones"))
    seen = []
    players.d.register_forward_pre_hook(lambda d, inputs: seen.append((d.shifts, len(inputs[0]))))
    return players.g, players.d, players.objective, seen


def batch(phase="d0", part=0, parts=1, step=0):
    real = load("few_tones").items[:8].chunk(parts)[part]
    z = Rng(0, step, "z0", part=part, parts=parts).randn(len(real), 100)
    return Batch(real, z, step, Rng(0, step, phase, part=part, parts=parts))


def test_shifts_are_drawn_for_each_item_and_phase_from_the_batchs_stream():
    g, d, objective, seen = watch()
    objective.discriminator_loss(g, d, batch())
    assert [n for _, n in seen] == [8, 8, 8]  # real, generated, and of the penalty
    (first,) = {shifts for shifts, _ in seen}
    assert first.shape == (8, 1)
    assert set(first.flatten().tolist()) <= set(range(5))
    assert len(first.unique()) > 1
    seen.clear()
    with frozen(list(d.parameters())):
        objective.generator_loss(g, d, batch("g"))
    (second, _), *rest = seen
    assert not rest
    assert not torch.equal(first, second)
    assert d.shifts is None
    halves = []
    for part in range(2):
        seen.clear()
        objective.discriminator_loss(g, d, batch(part=part, parts=2))
        halves.append(seen[0][0])
    assert torch.equal(torch.cat(halves), first), "two processes draw other shifts than one"
    counts = Counter()
    for step in range(60):
        seen.clear()
        objective.discriminator_loss(g, d, batch(step=step))
        counts.update(seen[0][0].flatten().tolist())
    assert all(abs(counts[shift] / 480 - 0.2) < 0.07 for shift in range(5))


def test_packs_are_shifted_together_and_no_shuffle_draws_nothing():
    g, d, objective, seen = watch(pack=2)
    objective.discriminator_loss(g, d, batch())
    assert [n for _, n in seen] == [4, 4, 4]
    assert seen[0][0].shape == (4, 1)
    g, d, objective, seen = watch(shuffle=0)
    objective.discriminator_loss(g, d, batch())
    assert [shifts for shifts, _ in seen] == [None] * 3


@pytest.mark.parametrize("conditional", [False, True])
def test_training_two_processes_as_one_and_halves_as_a_whole(conditional):
    """`check_architecture(processes=True)` runs two processes; here, two parts of a batch in one."""
    settings = {**SMALL, "data": "few_tones", "batch_size": 8, "steps": 4, "checkpoint_every": 2, "log_every": 4}
    settings |= {"conditional": conditional, "n_critic": 2}
    whole = ganzoo.train(TrainConfig("wavegan", out="whole", **settings))

    def stop(step):
        if step == 2:
            raise Crash

    with pytest.raises(Crash):
        ganzoo.train(TrainConfig("wavegan", out="halves", **settings), on_step=stop)
    halves = ganzoo.train(TrainConfig("wavegan", out="halves", **settings), resume=True)
    tensors = [load_newest(run.folder).tensors for run in (whole, halves)]
    assert all(torch.equal(value, tensors[1][key]) for key, value in tensors[0].items())

    steps = {**settings, "steps": 1, "optimizer": "sgd", "lr": 0.1, "d_lr": 0.1}
    one = ganzoo.train(TrainConfig("wavegan", out="one", **steps))
    two = ganzoo.train(TrainConfig("wavegan", out="two", accumulate=2, **steps))
    for p, q in zip(one.discriminator.parameters(), two.discriminator.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5)


@pytest.mark.slow
def test_on_two_processes():
    check_architecture("wavegan", width=2, processes=True)


# What it learns


def shares(sounds):
    """The share of the energy of each sound (N, 1, T) that lies within 40 Hz of each pitch, (N, 3)."""
    energy = torch.fft.rfft(sounds[:, 0] * torch.hann_window(sounds.shape[2])).abs().square()
    frequencies = torch.fft.rfftfreq(sounds.shape[2], 1 / RATE)
    near = (frequencies[:, None] - torch.tensor([*PITCHES.values()])).abs() < 40
    return energy @ near.float() / energy.sum(1, keepdim=True)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_a_minute_of_training_makes_tones_unless_the_critic_stands_still(broken, monkeypatch):
    settings = {"steps": 1000, "seed": 0, "precision": "fp32", "device": "cpu", "sample_every": 10**6}
    settings |= {"d_lr": 1e-12} if broken else {}
    run = ganzoo.train(TrainConfig("wavegan", checkpoint_every=10**6, **settings))
    share = shares(ganzoo.sample(run.generator, 512, seed=1))
    pure = share.max(1).values > 0.5
    kinds = share.argmax(1)[pure].bincount(minlength=3) / len(share)
    assert (bool(pure.float().mean() > 0.9) and bool((kinds > 0.15).all())) != broken, (pure.float().mean(), kinds)
