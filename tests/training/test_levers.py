"""What helps a GAN train, each an option of any architecture: augmentation, packing, spectral norm, and the signs of
trouble."""

import json
import logging

import pytest
import torch

import ganzoo
import tiny
from ganzoo import ConfigError, Rng, TrainConfig
from ganzoo.store import runs
from ganzoo.store.networks import load_run
from ganzoo.training.augment import POLICIES, Augmentation
from ganzoo.training.warnings import TrainingWarnings, diversity
from ganzoo.zoo.networks import resolve
from ganzoo.zoo.plugins import registry

SMALL = {"generator": {"width": 4}, "discriminator": {"width": 4}, "batch_size": 8, "steps": 6, "out": "run"}
SMALL |= {"log_every": 2, "checkpoint_every": 3, "penalties": [], "precision": "fp32", "lr_schedule": "constant"}


def images(n=64, channels=3, size=16):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def rng():
    return Rng(0, 0, "augment")


# DiffAugment


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_keeps_shapes_and_changes_each_image_by_its_own(name, channels):
    x = images(1, channels).expand(64, -1, -1, -1)
    y = Augmentation([name])(x, rng())
    assert y.shape == x.shape
    assert len({tuple(image.flatten().tolist()) for image in y}) > 20
    assert torch.equal(y, Augmentation([name])(x, rng()))


@pytest.mark.parametrize("name", POLICIES)
def test_augmentation_can_be_differentiated_twice(name):
    x = images(3, 3, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Augmentation([name])(x, rng()), x)
    assert torch.autograd.gradgradcheck(lambda x: Augmentation([name])(x, rng()).pow(3), x)


def test_translation_moves_up_to_an_eighth_and_zeros_come_in():
    x = torch.zeros(500, 1, 16, 16)
    x[:, :, 8, 8] = 1
    y = Augmentation(["translation"])(x, rng())
    _, _, rows, columns = y.nonzero().unbind(1)
    assert set(rows.tolist()) == set(columns.tolist()) == {6, 7, 8, 9, 10}
    assert y.sum() == 500
    corner = torch.ones(500, 1, 16, 16)
    assert Augmentation(["translation"])(corner, rng())[:, 0, 0, 0].unique().tolist() == [0, 1]


def test_cutout_clears_a_square_of_half_the_side():
    y = Augmentation(["cutout"])(torch.ones(2000, 2, 16, 16), rng())
    cleared = (y == 0).flatten(1).sum(1)
    assert cleared.max() == 2 * 8 * 8
    assert cleared.min() < 2 * 8 * 8  # half outside
    assert 0.15 < (y[:, :, 8, 8] == 0).float().mean() < 0.3  # (8 / 17)^2


def test_color_changes_brightness_contrast_and_saturation():
    x = images(2000)
    y = Augmentation(["color"])(x, rng())
    shift = y.mean((1, 2, 3)) - x.mean((1, 2, 3))
    assert shift.abs().max() <= 0.5 + 1e-5
    assert shift.std() > 0.2
    grey = Augmentation(["color"])(images(2000, 1), rng())
    ratio = grey.std((1, 2, 3)) / images(2000, 1).std((1, 2, 3))
    assert 0.49 < ratio.min() < 0.6 < 1.4 < ratio.max() < 1.51


def test_the_discriminator_sees_augmented_images_alone():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.flatten(1).mean(1)

    g = torch.nn.Linear(1, 1)
    objective = ganzoo.Objective(_rpgan(), augment=["cutout"])
    real, z = torch.ones(32, 1, 8, 8), torch.ones(32, 1)
    batch = ganzoo.Batch(real, z, 0, rng(), fakes=torch.ones(32, 1, 8, 8, requires_grad=True))
    objective.discriminator_loss(g, Spy(), batch)
    objective.generator_loss(g, Spy(), batch)
    assert len(seen) == 4
    assert all((x == 0).any() for x in seen)


def _rpgan():
    return resolve(registry().loss("rpgan").target)()


# One batch for real and generated items


class Centred(torch.nn.Module):
    """The brightness of an item relative to its batch, which is how a BatchNorm without a scale sees it."""

    def forward(self, x, labels=None):
        means = x.flatten(1).mean(1)
        return means - means.mean() + (0 if labels is None else labels)


@pytest.mark.parametrize("labels", [None, torch.arange(8)])
@pytest.mark.parametrize("joint", [False, True])
def test_only_in_a_joint_batch_can_d_tell_bright_from_dark(joint, labels):
    objective = ganzoo.Objective(_rpgan(), joint=joint)
    fakes = torch.full((8, 1, 4, 4), -1.0, requires_grad=True)
    batch = ganzoo.Batch(torch.ones(8, 1, 4, 4), torch.ones(8, 1), 0, rng(), fake_labels=labels, fakes=fakes)
    _, logs = objective.discriminator_loss(None, Centred(), batch)
    assert logs["accuracy"] == float(joint)
    objective.generator_loss(None, Centred(), batch)[0].backward()
    assert fakes.grad.lt(0).all() if joint else fakes.grad.abs().max() < 1e-6


@pytest.mark.parametrize("loss", ["nonsaturating", "rpgan"])
def test_a_joint_batch_is_the_same_to_a_d_that_takes_each_item_for_itself(loss, monkeypatch):
    monkeypatch.setattr(ganzoo.Objective, "joins", lambda self, d, n: False)
    config = {**SMALL, "loss": loss, "augment": ["color"], "pack": 2, "discriminator": {"width": 4, "norm": None}}
    config["lr"] = 2e-4
    apart, joint = (
        ganzoo.train(TrainConfig("dcgan", **{**config, "objective.joint": value, "out": str(value)}))
        for value in (False, True)
    )
    for left, right in zip(apart.generator.parameters(), joint.generator.parameters(), strict=True):
        assert torch.allclose(left, right, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("independent", [False, True])
def test_an_independent_d_judges_both_kinds_in_one_pass(independent):
    linear, seen = torch.nn.Linear(16, 1), []

    class D(torch.nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return linear(x.flatten(1)).squeeze(1)

    d = D()
    d.independent = independent
    generator = torch.Generator().manual_seed(0)
    real, fakes = (torch.randn(8, 1, 4, 4, generator=generator) for _ in range(2))
    batch = ganzoo.Batch(real, torch.ones(8, 1), 0, rng(), fakes=fakes)
    loss, _ = ganzoo.Objective(_rpgan()).discriminator_loss(None, d, batch)
    assert seen == ([16] if independent else [8, 8])
    expected = torch.nn.functional.softplus(linear(fakes.flatten(1)) - linear(real.flatten(1))).mean()
    torch.testing.assert_close(loss, expected)


def test_batchnorm_has_statistics_of_each_kind_in_one_pass():
    torch.manual_seed(0)
    apart, joined = (
        torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(48, 1)) for _ in "ab"
    )
    joined.load_state_dict(apart.state_dict())
    joined.independent = True
    batch = ganzoo.Batch(torch.randn(8, 3, 4, 4), torch.ones(8, 1), 0, rng(), fakes=torch.randn(8, 3, 4, 4) + 5)
    losses = [ganzoo.Objective(_rpgan()).discriminator_loss(None, d, batch)[0] for d in (apart, joined)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(joined.state_dict(), apart.state_dict())  # the running statistics too
    sum(losses).backward()
    torch.testing.assert_close([p.grad for p in joined.parameters()], [p.grad for p in apart.parameters()])
    assert "forward" not in vars(joined[0])
    joined.compile()  # would be compiled anew in each step
    assert not ganzoo.Objective(_rpgan()).joins(joined, 8)


def test_augmented_and_packed_training_resumes_to_the_same_bits():
    config = {**SMALL, "augment": ["color", "translation", "cutout"], "pack": 2, "penalties": ["r1"]}
    config |= {"discriminator": {"width": 4, "norm": "spectral"}}
    whole = ganzoo.train(TrainConfig("dcgan", **{**config, "out": "whole"}))
    ganzoo.train(TrainConfig("dcgan", **{**config, "out": "parts", "steps": 3}))
    parts = ganzoo.train(TrainConfig("dcgan", **{**config, "out": "parts"}), resume=True)
    left, right = (runs.load_newest(run.folder).tensors for run in (whole, parts))
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[key]) for key, value in left.items())


@pytest.mark.parametrize(("settings", "message"), [
    ({"augment": ["colour"]}, "no augmentation is called 'colour'.*color"),
    ({"batch_size": 9, "pack": 2}, "packs of 2: give a multiple of 2"),
    ({"discriminator": {"norm": "layer"}}, "norm must be one of batch, spectral or none"),
])  # fmt: skip
def test_mistakes_are_told(settings, message):
    with pytest.raises(ConfigError, match=message):
        ganzoo.train(TrainConfig("dcgan", **{**SMALL, **settings}))


@pytest.mark.parametrize("settings", [{"pack": 2}, {"augment": ["color"]}])
def test_points_are_neither_packed_nor_augmented(tiny_config, settings):
    with pytest.raises(ConfigError, match=r"needs images|changes images"):
        ganzoo.train(tiny_config(**settings))


# Packing and spectral norm


def test_packing_puts_samples_of_a_batch_side_by_side_as_channels():
    run = ganzoo.train(TrainConfig("dcgan", **SMALL, pack=4))
    assert run.discriminator.config["channels"] == 4
    assert run.generator.config["channels"] == 1
    x = images(8, 3)
    packed = ganzoo.Objective(_rpgan(), pack=4).present(x, None)
    assert packed.shape == (2, 12, 16, 16)
    assert torch.equal(packed[1, 3:6], x[5])


def test_spectral_norm_bounds_every_layer():
    run = ganzoo.train(
        TrainConfig("dcgan", **{**SMALL, "discriminator": {"width": 4, "norm": "spectral"}, "lr": 0.01, "steps": 30})
    )
    layers = [layer for layer in run.discriminator.layers if hasattr(layer, "weight")]
    assert len(layers) == 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2) == pytest.approx(1, abs=0.1)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in run.discriminator.layers)


# Signs of trouble


def test_diversity_is_one_for_the_data_and_none_for_one_item():
    x = images(2000)
    assert diversity(images(2000), x).item() == pytest.approx(1)
    assert diversity(x / 2, x).item() == pytest.approx(0.5)
    assert diversity(x[:1].expand(100, -1, -1, -1), x).item() == 0


def watched(lines, caplog, apart=50, **settings):
    """The steps of the warnings about these log lines, each `apart` steps after the one before."""
    data = ganzoo.Data(torch.zeros(10_000, 3, 32, 32, dtype=torch.uint8))
    warnings = TrainingWarnings(TrainConfig("dcgan", **settings), data)
    logging.getLogger("ganzoo").propagate = True
    fine = {"diversity": 1.0, "d_loss": 0.5, "accuracy": 0.8}
    for i, line in enumerate(lines, 1):
        warnings.check({"step": apart * i, **fine, **line})
    return [int(message.split()[1].rstrip(":")) for message in caplog.messages]


FINE: dict[str, float] = {}
ALIKE, APART = {"diversity": 0.05}, {"d_loss": 0.001, "accuracy": 1.0}


@pytest.mark.parametrize(("line", "message"), [(ALIKE, "mode collapse"), (APART, "separates all items")])
def test_a_sign_is_told_once_and_soon(line, message, caplog):
    assert watched([FINE] * 10 + [line] * 20, caplog) == [650]  # 100 steps after the first bad line
    assert message in caplog.text


@pytest.mark.parametrize("line", [ALIKE, APART])
def test_one_better_line_does_not_reset_the_count(line, caplog):
    assert watched([FINE] * 5 + [line, line, FINE, line, line], caplog) == [450]


@pytest.mark.parametrize("line", [ALIKE, APART])
def test_two_bad_lines_are_no_sign(line, caplog):
    assert watched([FINE, FINE, line, line, FINE, FINE, FINE, line, FINE, line, FINE, FINE], caplog) == []


@pytest.mark.parametrize("line", [ALIKE, APART])
def test_a_run_that_logs_often_is_judged_by_as_many_steps(line, caplog):
    # The first 100 steps of `ganzoo train dcgan --recipe digits --set log_every=10`, whose pictures got better.
    values = [0.18, 0.17, 0.14, 0.17, 0.17, 0.18, 0.20, 0.26, 0.52, 0.65]
    assert watched([{"diversity": value} for value in values], caplog, apart=10) == []
    needed = 8 if line == ALIKE else 5
    assert watched([line] * 100, caplog, apart=10) == [50 * needed]
    caplog.clear()
    assert watched([line] * 10, caplog, apart=100) == [100 * needed]


# Diversities of trainings, at every 50th step.
VARIED = {
    "rpgan on nouns, at a low rate": [0.13, 0.13, 0.17, 0.23, 0.28, 0.29, 0.35, 0.37, 0.39, 0.42],
    "vaegan on Fashion-MNIST": [0.18, 0.036, 0.049, 0.105, 0.117, 0.161, 0.244, 0.368, 0.506, 0.566, 0.640],
}
LOST = {
    "dcgan --recipe digits on nouns": (
        200, [0.314, 0.262, 0.214, 0.094, 0.030, 0.110, 0.052, 0.049, 0.052, 0.070, 0.076]
    ),
    "dcgan --recipe digits on sprites": (
        700,
        [
            0.154, 0.568, 0.537, 0.810, 0.177, 0.309, 0.252, 0.265, 0.248, 0.592, 0.314, 0.520, 0.257, 0.183, 0.191,
            0.166, 0.124,
        ],
    ),
}  # fmt: skip
"""With the first step from which on samples are alike."""


@pytest.mark.parametrize("name", VARIED)
def test_samples_that_become_varied_are_no_collapse(name, caplog):
    assert watched([{"diversity": value} for value in VARIED[name]], caplog) == []


@pytest.mark.parametrize("name", LOST)
def test_a_lost_training_is_noticed_within_500_steps_of_its_first_bad_line(name, caplog):
    first, values = LOST[name]
    (step,) = watched([{"diversity": value} for value in values], caplog)
    assert first < step <= first + 500


def test_samples_that_stay_alike_are_a_collapse_after_a_while_and_the_same_sample_at_once(caplog):
    values = [0.13, 0.14, 0.12, 0.15, 0.13, 0.14, 0.13, 0.12]
    assert watched([{"diversity": value} for value in values], caplog) == [400]
    caplog.clear()
    assert watched([{"diversity": 0.01}] * 8, caplog) == [250]


def test_the_advice_never_names_what_is_on_already(caplog):
    watched([ALIKE] * 10, caplog)
    assert "recipe" not in caplog.text
    assert "--lr" in caplog.text
    caplog.clear()
    watched([ALIKE] * 10, caplog, lr=0.02, loss="wasserstein")
    assert "the default recipe, which differs in loss, lr" in caplog.text
    assert "--lr 0.005" in caplog.text


def test_few_images_are_to_be_augmented(caplog):
    data = ganzoo.Data(torch.zeros(300, 3, 32, 32, dtype=torch.uint8))
    for augment, wanted in (([], True), (["ada"], False)):
        caplog.clear()
        warnings = TrainingWarnings(TrainConfig("dcgan", augment=augment), data)
        for step in range(10):
            warnings.check({"step": 50 * step, **ALIKE})
        assert ("--augment ada" in caplog.text) == wanted


def test_a_critic_that_is_far_ahead_is_no_sign(caplog):
    assert watched([{"d_loss": -3.0, "accuracy": 1.0}] * 10, caplog) == []


def test_a_collapsed_run_says_so(caplog, tiny_config):
    class Plugin:
        @ganzoo.hookimpl
        def register_architectures(self, register):
            register("constant", generator=Constant, discriminator=tiny.Discriminator)

    ganzoo.register(Plugin(), "constant")
    try:
        run = ganzoo.train(TrainConfig("constant", data="gaussian", steps=250, log_every=25, out="run"))
    finally:
        ganzoo.unregister("constant")
    assert run.metrics["diversity"] == pytest.approx(0, abs=1e-5)
    assert sum("mode collapse" in message for message in caplog.messages) == 1


class Constant(torch.nn.Module):
    def __init__(self, z_dim: int = 2):
        super().__init__()
        self.point = torch.nn.Parameter(torch.zeros(2))

    def forward(self, z):
        return self.point.expand(len(z), 2)


# Measuring while training


@pytest.mark.usefixtures("shared_cache")
def test_eval_every_logs_fid_and_keeps_the_best_checkpoint(caplog):
    caplog.set_level(logging.INFO, "ganzoo")
    settings = {**SMALL, "steps": 12, "eval_every": 3, "eval_samples": 128, "lr": 0.01, "checkpoint_every": 2}
    run = ganzoo.train(TrainConfig("dcgan", **settings))
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    measured = {line["step"]: line["fid"] for line in lines if "fid" in line}
    assert sorted(measured) == [3, 6, 9, 12]
    best = min(measured, key=measured.get)
    kept = run.folder / "checkpoints" / f"step-{best:07d}"
    assert kept.is_dir()
    assert f"best fid {measured[best]:.4g} at step {best}" in caplog.text
    evaluator = ganzoo.Evaluator("digits", metrics=("fid",), n=128)
    assert evaluator(load_run(kept)).values["fid"] == pytest.approx(measured[best], rel=1e-6)
    assert evaluator(ganzoo.from_pretrained(str(kept))).values["fid"] == pytest.approx(measured[best], rel=1e-6)


@pytest.mark.usefixtures("shared_cache")
def test_measuring_changes_nothing_that_is_learned():
    plain = ganzoo.train(TrainConfig("dcgan", **SMALL))
    measured = ganzoo.train(TrainConfig("dcgan", **{**SMALL, "out": "measured"}, eval_every=2, eval_samples=64))
    left, right = (runs.load_newest(run.folder).tensors for run in (plain, measured))
    assert all(torch.equal(value, right[key]) for key, value in left.items())
