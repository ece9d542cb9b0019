"""Adaptive discriminator augmentation: its operations, its probability, and when it is the default."""

import logging
import math

import pytest
import torch
from torch.nn.functional import interpolate

import ganzoo
from ganzoo import ConfigError, Rng, TrainConfig
from ganzoo.store import runs
from ganzoo.training import ada
from ganzoo.training.augment import HIGHEST, Augmentation
from ganzoo.training.build import FEW, FIXED, build_players
from ganzoo.training.objective import Loss

SMALL = {"generator": {"width": 4}, "discriminator": {"width": 4}, "batch_size": 8, "steps": 6, "out": "run"}
SMALL |= {"log_every": 2, "checkpoint_every": 3, "penalties": [], "precision": "fp32", "augment": ["ada"]}
SMALL |= {"lr_schedule": "constant"}


def images(n=8, channels=3, height=16, width=16):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def rng(purpose="augment"):
    return Rng(0, 0, purpose)


def pipeline(x, p, rng):
    return ada.pipeline(x, p, ada.draw(rng, x.shape))


# The operations


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 20, 12), (1, 58, 43), (1, 2, 2), (1, 1, 1)])
def test_images_stay_as_they_are_at_probability_zero(shape, monkeypatch):
    monkeypatch.setattr(ada, "SETTLED", ())  # the CPU leaves out all of them
    x = images(4, *shape)
    assert torch.allclose(pipeline(x, torch.tensor(0.0), rng()), x, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_changed_by_its_own(channels):
    x = images(1, channels).expand(64, -1, -1, -1)
    y = pipeline(x, torch.tensor(1.0), rng())
    assert y.shape == x.shape
    assert len({tuple(image.flatten().tolist()) for image in y}) == 64
    assert torch.equal(y, pipeline(x, torch.tensor(1.0), rng()))


def test_the_share_of_changed_images_grows_with_the_probability():
    x = images(400)
    shares = []
    for p in (0.02, 0.1, 0.5):
        y = pipeline(x, torch.tensor(p), rng())
        shares.append(((y - x).abs().amax((1, 2, 3)) > 1e-3).float().mean().item())
    # Of twelve operations, most change an image wherever they are applied; half of the flips do.
    assert 1 - 0.98**8 < shares[0] < 1 - 0.98**13
    assert 1 - 0.9**8 < shares[1] < 1 - 0.9**13
    assert shares[2] > 0.99


@pytest.mark.parametrize("channels", [1, 3])
def test_it_can_be_differentiated_twice(channels):
    x = images(3, channels, 6, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pipeline(x, torch.tensor(1.0), rng()), x)
    assert torch.autograd.gradgradcheck(lambda x: pipeline(x, torch.tensor(1.0), rng()).pow(3), x)


def test_the_gradient_on_a_gpu_is_that_on_the_cpu(monkeypatch):
    grid = images(5, 2, 7, 9).permute(0, 2, 3, 1)
    gradient = images(5, 3, 7, 9)
    expected = ada._Spread.apply(gradient, grid, torch.Size((5, 3, 11, 13)))
    monkeypatch.setattr(ada, "SETTLED", ())
    assert torch.allclose(ada._Spread.apply(gradient, grid, torch.Size((5, 3, 11, 13))), expected, atol=1e-5)


def test_images_that_stay_in_place_are_left_out_on_the_cpu(monkeypatch):
    p, x = torch.tensor(0.1), images(40, 3, 9, 7).double().requires_grad_()

    def results():
        y = pipeline(x, p, rng())
        slope, *_ = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        return y, slope, *torch.autograd.grad(slope.pow(2).sum(), x)

    geometry, _ = ada._products(p, ada.draw(rng(), x.shape))
    assert 0.3 < (geometry != torch.eye(4)).flatten(1).any(1).float().mean() < 0.9
    left_out = results()
    monkeypatch.setattr(ada, "SETTLED", ())
    for a, b in zip(left_out, results(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_turns_mirrors_and_shifts_move_pixels():
    x = interpolate(images(4, 3, 6, 6), (24, 24), mode="bicubic")
    quarter = ada._rotation(torch.full((4,), math.pi / 2))
    assert (ada._transform(x, quarter) - x.rot90(1, (2, 3))).abs().mean() < 0.02
    mirror = ada._scaling(-torch.ones(4), torch.ones(4))
    assert (ada._transform(x, mirror) - x.flip(3)).abs().mean() < 0.02
    shifted = ada._transform(x, ada._translation(torch.tensor([[2.0, -1.0]] * 4)))
    assert torch.allclose(shifted[:, :, :-1, 2:], x[:, :, 1:, :-2], atol=1e-4)
    assert torch.allclose(shifted[:, :, :-1, 0], x[:, :, 1:, 2], atol=1e-2)  # mirrored at the border


def test_a_ramp_is_moved_by_a_fraction_of_a_pixel():
    ramp = torch.arange(32.0).expand(2, 1, 32, 32)
    y = ada._transform(ramp, ada._translation(torch.tensor([[0.3, 0.0], [0.0, 0.0]])))
    assert torch.allclose(y[0, 0, 8:-8, 8:-8], ramp[0, 0, 8:-8, 8:-8] - 0.3, atol=0.02)


def test_colours_keep_what_they_should():
    unit, _, grey, _, cross = ada._axes()
    numbers = ada.draw(rng(), torch.Size((500, 3, 8, 8)))
    _, colours = ada._products(torch.tensor(1.0), numbers)
    assert torch.allclose(grey @ grey, grey, atol=1e-6)
    assert torch.allclose(cross @ torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.zeros(4), atol=1e-6)
    # The grey axis stays the grey axis: each operation is a rotation or a scaling about it.
    moved = colours[:, :3, :3] @ torch.ones(3)
    assert torch.allclose(moved, moved.mean(1, keepdim=True).expand(-1, 3), atol=1e-4)
    assert (moved.mean(1) < 0).float().mean().sub(0.5).abs() < 0.1  # half are inverted
    assert all(torch.equal(p, unit.expand(500, -1, -1)) for p in ada._products(torch.tensor(0.0), numbers))


# The probability


def steered(value, updates, **options):
    augmentation = Augmentation(["ada"], **options)
    for update in range(updates):
        augmentation.steer(update, torch.tensor(value), 50)
    return augmentation.p.item()


def test_the_probability_rises_and_falls_at_its_speed():
    assert steered(0.7, 8, images=1000) == pytest.approx(0.4)
    assert steered(0.7, 7, images=1000) == pytest.approx(0.2)  # every four updates
    assert steered(0.5, 8, images=1000) == 0
    assert steered(0.5, 8, images=1000, target=0.4) == pytest.approx(0.4)
    assert steered(1.0, 400, images=1000) == pytest.approx(HIGHEST)
    augmentation = Augmentation(["ada"], images=1000)
    for update in range(8):
        augmentation.steer(update, torch.tensor(0.9 if update < 4 else 0.1), 50)
    assert augmentation.p == 0


def test_training_steers_by_the_sign_of_real_logits():
    class Sure(torch.nn.Module):
        def __init__(self, logit):
            super().__init__()
            self.logit = logit

        def forward(self, x):
            return self.logit + 0 * x.flatten(1).mean(1)

    class Anchored(Loss):
        boundary = 0.5

        def discriminator(self, real_logits, fake_logits):
            return real_logits

    for logit, expected in ((0.4, -1), (0.6, 1)):
        batch = ganzoo.Batch(images(), torch.ones(8, 1), 0, rng(), fakes=images())
        _, logs = ganzoo.Objective(Anchored()).discriminator_loss(None, Sure(logit), batch)
        assert logs["r_t"] == expected


def test_a_run_steers_and_logs_and_resumes_to_the_same_bits():
    config = {**SMALL, "augment.images": 200, "augment.target": 0.0, "n_critic": 3, "penalties": ["r1"]}
    whole = ganzoo.train(TrainConfig("dcgan", **{**config, "out": "whole"}))
    assert 0 < whole.metrics["augment_p"] < HIGHEST
    assert -1 <= whole.metrics["r_t"] <= 1
    ganzoo.train(TrainConfig("dcgan", **{**config, "out": "parts", "steps": 3}))
    parts = ganzoo.train(TrainConfig("dcgan", **{**config, "out": "parts"}), resume=True)
    left, right = (runs.load_newest(run.folder).tensors for run in (whole, parts))
    assert {"augment.p", "augment.signs"} <= left.keys() == right.keys()
    assert all(torch.equal(value, right[key]) for key, value in left.items())


@pytest.mark.parametrize("loss", ["rpgan", "wasserstein"])
def test_losses_without_a_boundary_have_a_fixed_probability(loss, caplog):
    with caplog.at_level(logging.INFO, "ganzoo"):
        run = ganzoo.train(TrainConfig("dcgan", **SMALL, loss=loss))
    assert run.metrics["augment_p"] == pytest.approx(FIXED)
    assert f"fixed probability {FIXED}, because {loss}" in caplog.text
    run = ganzoo.train(TrainConfig("dcgan", **{**SMALL, "out": "own"}, loss=loss, **{"augment.p": 0.4}))
    assert run.metrics["augment_p"] == pytest.approx(0.4)


def test_the_probability_can_follow_a_schedule():
    schedules = {"augment_p": 0.6}
    run = ganzoo.train(TrainConfig("dcgan", **SMALL, loss="rpgan", schedules=schedules, schedule_steps=4))
    assert run.metrics["augment_p"] == pytest.approx(0.6)  # of the last two steps


@pytest.mark.parametrize(("settings", "message"), [
    ({"augment.p": 1.5}, r"augment\.p must be a number from 0 to 1"),
    ({"augment.images": 0}, r"augment\.images must be above 0"),
    ({"augment.goal": 0.5}, "no setting 'goal'"),
    ({"augment": ["color"], "augment.p": 0.5}, r"augment\.p is an option of ADA: add --augment ada"),
    ({"schedules": {"augment_p": 2}}, "at most 1"),
])  # fmt: skip
def test_mistakes_are_told(settings, message):
    with pytest.raises(ConfigError, match=message):
        ganzoo.train(TrainConfig("dcgan", **{**SMALL, **settings}))


def test_an_objective_without_augmentation_says_so():
    with pytest.raises(ConfigError, match="the objective of vaegan takes no augment: leave it out"):
        ganzoo.train(TrainConfig("vaegan", **{**SMALL, "generator": {"width": 4, "z_dim": 4}}))


# The default


def of(count, architecture="dcgan", **settings):
    data = ganzoo.Data(torch.zeros(count, 1, 28, 28, dtype=torch.uint8))
    return list(build_players(TrainConfig(architecture, **settings), data).augmentation)


def test_the_default_depends_on_the_number_of_images():
    assert of(FEW - 1) == ["ada"]
    assert of(FEW) == []
    assert of(FEW - 1, augment=[]) == of(FEW - 1, recipe="paper") == []
    assert of(FEW - 1, "vaegan") == []


def test_a_run_records_what_was_chosen():
    settings = {key: value for key, value in SMALL.items() if key != "augment"}
    run = ganzoo.train(TrainConfig("dcgan", **settings, **{"data": "digits"}))
    assert run.config.augment == []
    assert runs.read_training(run.folder)[0].augment == []
