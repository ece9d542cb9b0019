"""Numbers that change during training."""

import json
import math

import pytest
import torch

import ganzoo
from crash import interrupted_run
from ganzoo import ConfigError, TrainConfig
from ganzoo.rng import stream_seed
from ganzoo.store import runs
from ganzoo.training.augment import Augmentation
from ganzoo.training.optimizers import Optimizer
from ganzoo.training.schedules import Schedules, ema_decay, halflife_decay
from ganzoo_losses.penalties import R1


def config(**settings):
    return TrainConfig("tiny", data="gaussian", **{"steps": 8, "batch_size": 16, "out": "run", **settings})


def test_a_number_goes_to_its_final_value_along_half_a_cosine_and_stays():
    numbers = Schedules(config(lr=2e-4, schedules={"lr": 5e-5}, schedule_steps=4), [], Augmentation())
    assert [numbers.value("lr", step) for step in (0, 2, 4, 7)] == pytest.approx([2e-4, 1.25e-4, 5e-5, 5e-5])
    quarter = 5e-5 + 1.5e-4 * (1 + math.cos(math.pi / 4)) / 2
    assert numbers.value("lr", 1) == pytest.approx(quarter)
    over_all = Schedules(config(lr=2e-4, schedules={"lr": 5e-5}), [], Augmentation())
    assert over_all.value("lr", 4) == pytest.approx(1.25e-4)


def test_they_reach_the_optimizers_and_the_penalties():
    penalty = R1(0.5)
    penalty.name = "r1"
    schedules = {"lr": 1e-4, "beta2": 0.99, "r1": 0.05}
    settings = {"lr": 1e-3, "betas": [0.0, 0.9], "penalties": ["r1=0.5"]}
    numbers = Schedules(config(schedules=schedules, **settings), [penalty], Augmentation())
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizers = {name: Optimizer(config(**settings), [parameter], 1.0) for name in ("g", "d")}
    numbers.apply(8, optimizers)
    for optimizer in optimizers.values():
        assert optimizer.lr == pytest.approx(1e-4)
        assert optimizer.betas == pytest.approx((0.0, 0.99))
    assert penalty.weight == pytest.approx(0.05)
    numbers.apply(0, optimizers)
    assert penalty.weight == pytest.approx(0.5)


def test_d_follows_the_shared_rate_unless_it_has_its_own():
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizers = {name: Optimizer(config(), [parameter], 1.0) for name in ("g", "d")}
    for settings, expected in (
        ({"schedules": {"lr": 1e-4}}, (1e-4, 1e-4)),
        ({"schedules": {"lr": 1e-4}, "d_lr": 5e-3}, (1e-4, 5e-3)),
        ({"schedules": {"d_lr": 1e-5}, "d_lr": 5e-3}, (1e-3, 1e-5)),
        ({"schedules": {"d_lr": 1e-5}}, (1e-3, 1e-5)),
        ({"lr_schedule": "linear"}, (0.0, 0.0)),
    ):
        Schedules(config(lr=1e-3, **settings), [], Augmentation()).apply(8, optimizers)
        rates = tuple(optimizers[name].lr for name in ("g", "d"))
        assert rates == pytest.approx(expected), settings


def test_the_decay_of_the_average():
    assert halflife_decay(1000, 1000) == 0.5
    assert halflife_decay(1000, 100) ** 10 == pytest.approx(0.5)
    assert halflife_decay(0, 100) == 0
    numbers = Schedules(config(ema_halflife=0.0, schedules={"ema_halflife": 64}, schedule_steps=4), [], Augmentation())
    assert [numbers.decay(step) for step in (0, 2, 4)] == pytest.approx([0, 0.5 ** (16 / 32), 0.5 ** (16 / 64)])
    ramp = Schedules(config(ema_decay=0.5, schedules={"ema_decay": 0.9}, schedule_steps=4), [], Augmentation())
    assert ramp.decay(0) == ema_decay(0, 0.5) == 0.1
    assert ramp.decay(10_000) == pytest.approx(0.9)


def test_a_halflife_in_training():
    """The exact recurrence of two steps: 16 images a step, of which 16 halve the average's memory."""
    first = ganzoo.train(config(steps=1, lr=0.01, ema_halflife=16.0, out="one"))
    torch.manual_seed(stream_seed(0, 0, "init"))
    initial = ganzoo.create("tiny")[0].layers[0].weight.detach()
    expected = (initial + first.raw_generator.layers[0].weight.detach()) / 2
    assert torch.allclose(first.generator.layers[0].weight, expected, atol=1e-7)


@pytest.mark.parametrize("loss", ["nonsaturating", "rpgan"])
def test_a_run_with_schedules_resumes_exactly(loss):
    settings = {
        "loss": loss,
        "penalties": ["r1=0.5", "gp=1@2"],
        "schedules": {"lr": 1e-4, "r1": 0.05, "gp": 0.0, "beta1": 0.4, "beta2": 0.9, "ema_halflife": 100},
        "schedule_steps": 6,
        "ema_halflife": 0.0,
        "lr": 1e-3,
        "checkpoint_every": 4,
    }

    whole = ganzoo.train(config(out="whole", **settings))
    interrupted_run(config(out="parts", **settings), at=5)
    left, right = (runs.load_newest(folder).tensors for folder in (whole.folder, whole.folder.with_name("parts")))
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[key]) for key, value in left.items())
    constant = ganzoo.train(config(out="constant", **{**settings, "schedules": {}}))
    assert not torch.equal(left["generator.layers.0.weight"], constant.raw_generator.layers[0].weight)
    recorded = json.loads((whole.folder / "training.json").read_text())["config"]
    assert recorded["schedules"] == settings["schedules"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedules": {"lrs": 1e-4}}, "did you mean 'lr'"),
        ({"schedules": {"r1": 0.1}}, "cannot change 'r1': there is no such penalty in use, add --penalty r1"),
        ({"schedules": {"lr": "low"}}, "at least 0, not 'low'"),
        ({"schedules": {"lr": -1}}, "at least 0"),
        ({"schedules": {"lr": float("nan")}}, "at least 0"),
        ({"schedules": {"lr": True}}, "must be a number"),
        ({"schedules": {"beta2": 1.0}}, "below 1"),
        ({"schedules": {"ema_halflife": 10}}, "set ema_halflife too"),
        ({"schedules": {"lr": 1e-5}, "lr_schedule": "cosine"}, "both change the learning rate"),
        ({"schedule_steps": 0}, "at least 1"),
    ],
)
def test_mistakes_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)


def test_the_command_line_sets_them(ganzoo_cli):
    arguments = ("--set", "schedules.lr=1e-5", "--set", "schedule_steps=3", "--penalty", "r1=1", "--steps", 4)
    code, out, err = ganzoo_cli(
        "train", "tiny", "--data", "gaussian", *arguments, "--set", "schedules.r1=0", "--dry-run"
    )
    assert code == 0, err
    assert json.loads(out)["config"]["schedules"] == {"lr": 1e-5, "r1": 0}


def test_r3gans_paper_recipe_is_the_authors_preset_for_cifar():
    """Their train.py: every number of the preset, in ganzoo's settings; images in place of steps, at 512 a step."""
    paper = TrainConfig("r3gan", recipe="paper")
    assert (paper.batch_size, paper.lr, paper.betas) == (512, 2e-4, [0.0, 0.9])
    assert (paper.flip, paper.conditional, paper.loss) == (True, True, "rpgan")
    assert paper.penalties == ["r1=0.05", "r2=0.05"]
    final = {"lr": 5e-5, "r1": 0.005, "r2": 0.005, "beta2": 0.99, "ema_halflife": 5e6, "augment_p": 0.55}
    assert paper.schedules == final
    assert paper.schedule_steps == 20_000_000 // 512
    g, d = ganzoo.create("r3gan", image_size=32, generator=paper.generator, discriminator=paper.discriminator)
    widths = [4 * [768], 4 * [768]]
    for module, expected in zip((g, d), widths, strict=True):
        blocks = [m for m in module.modules() if type(m).__name__ == "_Block"]
        assert len(blocks) == 2 * len(expected)
        for block in blocks:
            inner = [layer for layer in block.modules() if isinstance(layer, torch.nn.Conv2d) and layer.groups > 1]
            assert [(layer.in_channels, layer.groups) for layer in inner] == [(1536, 96)]
