"""CycleGAN: the published networks and objective, the history of generated images, and that it learns without pairs."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import instance_norm, l1_loss, mse_loss

import ganzoo
from crash import interrupted_run
from ganzoo import Batch, Rng, TrainConfig
from ganzoo.data.loading import load
from ganzoo.store import runs
from ganzoo.training.build import build_players, load_data
from ganzoo_cyclegan.model import _Mirror, _norm
from ganzoo_cyclegan.objective import Pool

SMALL = {"generator": {"width": 4, "blocks": 1}, "discriminator": {"width": 4, "layers": 2}}
TRAINING, HELD_OUT = 4000, slice(8000, 8200)


@ganzoo.hookimpl
def register_data(register):
    register("black_on_white", black_on_white, summary="digits, and inverted ones of other digits as inputs")


def black_on_white():
    digits = load("digits").items
    return ganzoo.Data(digits[:TRAINING], inputs=255 - digits[TRAINING : 2 * TRAINING], paired=False)


@pytest.fixture(autouse=True)
def data():
    ganzoo.register(sys.modules[__name__], "black on white")
    yield
    ganzoo.unregister("black on white")


def config(**settings):
    defaults = {"data": "digits", "inputs": "edges", "image_size": 16, "steps": 2, "batch_size": 4, "out": "run"}
    return TrainConfig("cyclegan", **{**defaults, **SMALL, **settings})


# Networks


def shapes(network):
    return [tuple(p.shape) for p in network.parameters() if p.dim() == 4]


@pytest.mark.parametrize(("size", "blocks"), [(128, 6), (252, 6), (256, 9)])
def test_the_published_networks(size, blocks):
    """Section 7.2: c7s1-64, d128, d256, R256..., u128, u64, c7s1-3, and C64-C128-C256-C512."""
    with torch.device("meta"):
        g, d = ganzoo.create("cyclegan", image_size=size)
    down = [(64, 3, 7, 7), (128, 64, 3, 3), (256, 128, 3, 3)]
    up = [(256, 128, 3, 3), (128, 64, 3, 3), (3, 64, 7, 7)]  # transposed convolutions name their inputs first
    assert list(g.translators) == ["AB", "BA"]
    for translator in g.translators.values():
        assert shapes(translator) == [*down, *[(256, 256, 3, 3)] * (2 * blocks), *up]
    for judge in (d.judges["A"], d.judges["B"]):
        channels = [3, 64, 128, 256, 512, 1]
        assert shapes(judge) == [(b, a, 4, 4) for a, b in pairwise(channels)]
    assert d(torch.empty(2, 3, size, size, device="meta")).shape == (2, size // 8 - 2, size // 8 - 2)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_logit_sees_a_patch(layers):
    """16, 34 and 70 pixels a side. Norms, which see all of an image, are left out."""
    _, d = ganzoo.create("cyclegan", image_size=96, discriminator={"width": 2, "layers": layers})
    judge = nn.Sequential(*(layer for layer in d.judges["B"] if not isinstance(layer, nn.GroupNorm)))
    x = torch.randn(1, 3, 96, 96, requires_grad=True)
    logits = judge(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = (x.grad != 0).any(1)[0]
    assert seen.any(0).sum() == seen.any(1).sum() == {1: 16, 2: 34, 3: 70}[layers]


def test_norms_and_borders_are_the_published_ones():
    x = torch.randn(2, 3, 7, 9)
    assert torch.allclose(_norm(3)(x), instance_norm(x), atol=1e-5)
    assert torch.equal(_Mirror(3)(x), nn.ReflectionPad2d(3)(x))


def test_initial_weights():
    torch.manual_seed(0)
    for network in ganzoo.create("cyclegan", image_size=32, width=32, blocks=1):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.weight.numel() < 4000 or layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
                assert layer.bias is None or not layer.bias.any()


# Directions and sizes


def test_each_direction_has_its_own_channels():
    g, d = ganzoo.create("cyclegan", image_size=28, channels=3, input_channels=1, **SMALL)
    grey, colour = torch.rand(2, 1, 28, 28), torch.rand(2, 3, 28, 28)
    there = ganzoo.sample(g, inputs=grey)
    assert there.shape == colour.shape
    assert torch.equal(there, ganzoo.sample(g, inputs=grey, direction="AB"))
    back = ganzoo.sample(g, inputs=colour, direction="BA")
    assert back.shape == grey.shape
    assert torch.equal(back, g(torch.empty(2, 0), inputs=colour, direction="BA"))
    assert d(colour).shape == d(grey, kind="A").shape
    for inputs, direction, channels in ((colour, "AB", 1), (grey, "BA", 3)):
        with pytest.raises(ganzoo.SampleError, match=rf"inputs of shape \(N, {channels}, H, W\)"):
            ganzoo.sample(g, inputs=inputs, direction=direction)
    for direction in ("AC", 3, ["AB"]):
        with pytest.raises(ganzoo.ConfigError, match="direction must be AB or BA, not"):
            ganzoo.sample(g, inputs=grey, direction=direction)


def test_one_direction_alone():
    g, _ = ganzoo.create("cyclegan", image_size=28, **SMALL)
    alone, _ = ganzoo.create("cyclegan", image_size=28, width=4, blocks=1, generator={"directions": "AB"})
    alone.load_state_dict({k: v for k, v in g.state_dict().items() if k.startswith("translators.AB.")})
    inputs = torch.rand(2, 3, 28, 28)
    assert torch.equal(ganzoo.sample(alone, inputs=inputs), ganzoo.sample(g, inputs=inputs))
    with pytest.raises(ganzoo.ConfigError, match="direction must be AB, not 'BA'"):
        ganzoo.sample(alone, inputs=inputs, direction="BA")


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 40), (28, 28), (64, 32)])
def test_inputs_of_other_sizes(height, width):
    g, _ = ganzoo.create("cyclegan", image_size=32, **SMALL)
    inputs = torch.rand(2, 3, height, width)
    assert ganzoo.sample(g, inputs=inputs).shape == inputs.shape


@pytest.mark.parametrize(("height", "width"), [(30, 32), (32, 30), (4, 32)])
def test_sizes_that_cannot_be_translated(height, width):
    g, _ = ganzoo.create("cyclegan", image_size=32, **SMALL)
    with pytest.raises(ganzoo.ConfigError, match=f"multiple of 4 pixels a side, and at least 8, not {height}x{width}"):
        ganzoo.sample(g, inputs=torch.rand(2, 3, height, width))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 30}, "not 30x30"),
        ({"directions": "BA"}, "directions must be both or AB, not 'BA'"),
        ({"blocks": 0}, "blocks must be at least 1, not 0"),
        ({"input_size": 128}, "these have 128 pixels a side and the images 256"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"image_size": 32, "layers": 4}, "leave 3 pixels of the 32"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with torch.device("meta"), pytest.raises(ganzoo.ConfigError, match=message):
        ganzoo.create("cyclegan", **settings)


# The objective


def parts(**settings):
    torch.manual_seed(0)
    chosen = config(**settings)
    data = load_data(chosen)
    players = build_players(chosen, data)
    b, a = (x[:4].float() / 127.5 - 1 for x in (data.items, data.inputs))
    return players.g, players.d, players.objective, lambda phase: batch_of(b, a, phase)


def batch_of(b, a, phase="d0", step=0):
    return Batch(b, torch.empty(len(b), 0), step, Rng(0, step, phase), inputs=a)


def test_the_losses_are_the_published_ones():
    """As in the authors' code: sums over both directions, and weights of 1, 10 and 5."""
    g, d, objective, batch = parts()
    b, a = batch("g").real, batch("g").inputs
    there, back = g.translators["AB"], g.translators["BA"]

    def against(logits, target):
        return mse_loss(logits, torch.full_like(logits, target))

    expected = against(d.judges["B"](there(a)), 1.0) + against(d.judges["A"](back(b)), 1.0)
    expected += 10 * (l1_loss(back(there(a)), a) + l1_loss(there(back(b)), b))
    expected += 5 * (l1_loss(there(b), b) + l1_loss(back(a), a))
    value, logs = objective.generator_loss(g, d, batch("g"))
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert logs["cycle"].item() == pytest.approx((l1_loss(back(there(a)), a) + l1_loss(there(back(b)), b)).item() / 2)
    expected = sum(
        against(d.judges[kind](real), 1.0) / 2 + against(d.judges[kind](fake), 0.0) / 2
        for kind, real, fake in (("B", b, there(a)), ("A", a, back(b)))
    )
    value, logs = objective.discriminator_loss(g, d, batch("d0"))
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert logs["d_loss"].item() == pytest.approx(expected.item() / 2, rel=1e-5)


def gradients(network):
    return {key for key, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_each_phase_trains_its_own_networks_in_both_directions():
    g, d, objective, batch = parts(objective_options={"cycle": 0.0, "identity": 0.0})
    objective.discriminator_loss(g, d, batch("d0"))[0].backward()
    assert gradients(g) == set()
    assert {key for key, _ in d.named_parameters()} == gradients(d)
    objective.generator_loss(g, d, batch("g"))[0].backward()
    assert {key for key, _ in g.named_parameters()} == gradients(g)


def test_identity_needs_as_many_channels(workplace):
    settings = {"data": "sprites", "image_size": None}
    with pytest.raises(
        ganzoo.ConfigError, match=r"inputs of 1 channels with images of 3: add --set objective.identity=0"
    ):
        ganzoo.train(config(**settings))
    assert not (workplace / "run").exists()
    run = ganzoo.train(config(**settings, objective_options={"identity": 0.0}))
    assert "identity" not in run.metrics
    assert (run.folder / "samples" / "step-0000002.png").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": None}, "there are none: add --inputs"),
        ({"generator": {"directions": "AB"}}, "one direction alone cannot be trained"),
        ({"objective_options": {"pool": -1}}, "at least 0"),
        ({"penalties": ["r1"]}, "takes no penalties"),
        ({"augment": ["color"]}, "takes no augment"),
        ({"pack": 2}, "takes no pack"),
    ],
)
def test_trainings_that_are_refused(settings, message, workplace):
    with pytest.raises(ganzoo.ConfigError, match=message):
        ganzoo.train(config(**settings))
    assert not (workplace / "run").exists()


# The history of generated images


def histories(steps, rows, size):
    """What each row of the discriminator's batches gets and keeps: the authors' ImagePool, one for each row."""
    slots = max(1, size // rows)
    kept, given = [[] for _ in range(rows)], []
    for step, fakes in enumerate(steps):
        rng = Rng(0, step, "d0/pool")
        chances, places = rng.rand(rows).tolist(), rng.randint(slots, rows).tolist()
        given.append([])
        for fake, row, chance, place in zip(fakes.unbind(0), kept, chances, places, strict=True):
            if len(row) < slots:
                row.append(fake)
            elif chance < 0.5:
                fake, row[place] = row[place], fake
            given[-1].append(fake)
    return torch.stack([torch.stack(row) for row in kept]), torch.stack([torch.stack(step) for step in given])


@pytest.mark.parametrize(("rows", "size"), [(1, 5), (4, 12), (4, 14), (4, 3)])
def test_the_history_is_the_authors_for_each_row(rows, size):
    steps = torch.randn(40, rows, 1, 2, 2)
    kept, expected = histories(steps, rows, size)
    pool = Pool(size)
    given = torch.stack([pool(fakes, batch_of(fakes, fakes, step=step)) for step, fakes in enumerate(steps)])
    assert torch.equal(given, expected)
    assert torch.equal(pool.images, kept)
    assert 0.3 < (given == steps).all((2, 3, 4)).float().mean() < 0.8


def test_a_batch_in_parts_has_the_same_history():
    steps = torch.randn(20, 4, 1, 2, 2)
    whole, split = Pool(8), Pool(8)
    for step, fakes in enumerate(steps):
        expected = whole(fakes, batch_of(fakes, fakes, step=step))
        for part in (0, 1):
            rows = fakes[2 * part : 2 * part + 2]
            rng = Rng(0, step, "d0", part=part, parts=2)
            given = split(rows, Batch(rows, rows, step, rng))
            assert torch.equal(given, expected[2 * part : 2 * part + 2])
    assert torch.equal(whole.images, split.images)
    assert torch.equal(whole.kept, split.kept)


def test_the_discriminators_get_the_history_and_the_generators_do_not():
    g, d, objective, batch = parts(objective_options={"pool": 4})
    old = {kind: torch.rand(4, 1, 1, 16, 16) for kind in ("A", "B")}
    for kind, images in old.items():
        objective.pools[kind].images, objective.pools[kind].kept = images.clone(), torch.ones(4, dtype=torch.long)
    seen = []
    for judge in (d.judges["B"], d.judges["A"]):
        judge.register_forward_pre_hook(lambda judge, inputs: seen.append(inputs[0]))
    one = batch("d0")
    objective.discriminator_loss(g, d, one)
    for kind, fakes, purpose in (("B", seen[1], "d0/pool"), ("A", seen[3], "d0/BA/pool")):
        from_history = Rng(0, 0, purpose).rand(4) < 0.5
        assert 0 < from_history.sum() < 4
        assert torch.equal((fakes == old[kind][:, 0]).all((1, 2, 3)), from_history)
    seen.clear()
    objective.generator_loss(g, d, batch("g"))
    for fakes, new in zip(seen, (g(one.z, inputs=one.inputs), g(one.z, inputs=one.real, direction="BA")), strict=True):
        assert torch.equal(fakes, new)


def test_without_a_history_the_discriminators_get_what_is_new():
    g, d, objective, batch = parts(objective_options={"pool": 0})
    assert not objective.state_dict()
    seen = []
    d.judges["B"].register_forward_pre_hook(lambda judge, inputs: seen.append(inputs[0]))
    one = batch("d0")
    objective.discriminator_loss(g, d, one)
    assert torch.equal(seen[1], g(one.z, inputs=one.inputs))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_has_the_history_of_one_that_never_stopped(accumulate):
    settings = {"steps": 8, "checkpoint_every": 3, "objective_options": {"pool": 8}, "accumulate": accumulate}
    whole = ganzoo.train(config(out="whole", **settings))
    resumed = interrupted_run(config(out="parts", **settings), at=5)
    left, right = (runs.load_newest(Path(run.folder)).tensors for run in (whole, resumed))
    assert left["objective.pools.A.images"].shape == (4, 2, 1, 16, 16)
    assert left["objective.pools.B.kept"].tolist() == [2] * 4
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[key]) for key, value in left.items())


# Training


def test_a_step_on_data_that_brings_its_inputs():
    run = ganzoo.train(config(data="black_on_white", inputs=None, image_size=None))
    assert run.step == 2
    assert {"d_loss", "accuracy", "g_loss", "cycle", "identity"} <= run.metrics.keys()
    g = ganzoo.from_pretrained("./run/model")
    inputs = 255 - load("digits").items[HELD_OUT][:4]
    for direction in ("AB", "BA"):  # what was trained is published: both
        expected = ganzoo.sample(run.generator, inputs=inputs, direction=direction)
        assert torch.allclose(ganzoo.sample(g, inputs=inputs, direction=direction), expected, atol=1e-4)


def test_a_batch_of_one():
    """As the paper has it: there is no diversity to log."""
    run = ganzoo.train(config(recipe="paper", batch_size=1))
    assert run.step == 2
    assert "diversity" not in run.metrics


@pytest.mark.slow
@pytest.mark.parametrize("adversarial", [2.0, 0.0])
def test_an_inversion_is_learned_without_pairs(adversarial):
    """The distance from the true inversion was 3 % of that of the inputs themselves, and without the discriminators 25
    and 31 %. An empty image, with nothing but the background, is at 14 %."""
    few = {"steps": 200, "precision": "fp32", "device": "cpu", "sample_every": 10**6, "checkpoint_every": 10**6}
    options = {"adversarial": adversarial}
    run = ganzoo.train(TrainConfig("cyclegan", data="black_on_white", objective_options=options, out="run", **few))
    white = load("digits").items[HELD_OUT]
    for inputs, direction in ((255 - white, "AB"), (white, "BA")):
        true = (255 - inputs).float() / 127.5 - 1
        left = l1_loss(ganzoo.sample(run.generator, inputs=inputs, direction=direction), true)
        empty = l1_loss(true.median().expand_as(true), true)
        assert (left <= min(l1_loss(-true, true) / 4, empty / 2)) == (adversarial > 0), left
