"""Sampling: the same bits whatever is asked for, honest pixels, walks, fresh statistics."""

import numpy as np
import pytest
import torch
from torch import nn

import ganzoo
from ganzoo import sampling
from ganzoo.sampling.classes import parse_classes


@pytest.fixture(scope="module")
def dcgan():
    torch.manual_seed(0)
    return ganzoo.create("dcgan", image_size=28, channels=1, width=8)[0]


def test_first_rows_do_not_depend_on_n(dcgan):
    many = ganzoo.sample(dcgan, 150, seed=3)
    assert many.shape == (150, 1, 28, 28)
    for n in (1, 4, 64, 65, 128):
        assert torch.equal(ganzoo.sample(dcgan, n, seed=3), many[:n])
    assert not torch.equal(ganzoo.sample(dcgan, 4, seed=4), many[:4])
    assert not torch.equal(many[:64], many[64:128])


def test_sampling_leaves_the_generator_as_it_was(dcgan):
    dcgan.train()
    before = {key: value.clone() for key, value in dcgan.state_dict().items()}
    ganzoo.sample(dcgan, 3)
    assert dcgan.training
    assert all(module.training for module in dcgan.modules())
    assert all(torch.equal(value, before[key]) for key, value in dcgan.state_dict().items())


def test_noise_inside_a_generator_follows_the_seed(dcgan):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = {"z_dim": 2}

        def forward(self, z):
            return z + torch.randn_like(z)

    assert torch.equal(ganzoo.sample(Noisy(), 70, seed=1), ganzoo.sample(Noisy(), 70, seed=1))


def test_a_generator_may_draw_its_own_latents():
    class Coded(nn.Module):
        def draw_latent(self, n, rng):
            return torch.cat([rng.randn(n, 2), rng.randint(10, n, 1)], 1)

        def forward(self, z):
            return z

    codes = ganzoo.sample(Coded(), 100)[:, 2]
    assert set(codes.tolist()) == set(range(10))


@pytest.mark.parametrize("n", [0, -1])
def test_sample_refuses(dcgan, n):
    with pytest.raises(ganzoo.SampleError, match="at least 1"):
        ganzoo.sample(dcgan, n)


def test_uint8_is_the_same_scale_for_every_batch():
    values = torch.tensor([-1.0, 0.0, 1.0, 2.0]).view(4, 1, 1, 1)
    assert sampling.to_uint8(values).flatten().tolist() == [0, 128, 255, 255]
    assert sampling.to_uint8(values[1:2]).flatten().tolist() == [128]
    every = torch.arange(256).view(256, 1, 1, 1)
    assert sampling.to_uint8(every / 127.5 - 1).flatten().tolist() == list(range(256))
    with pytest.raises(ganzoo.SampleError, match="not images"):
        sampling.to_uint8(torch.zeros(3, 2))


def test_grid_puts_images_row_by_row():
    pixels = np.arange(1, 7, dtype=np.uint8).reshape(6, 1, 1, 1).repeat(4, 1).repeat(4, 2)
    picture = np.asarray(sampling.grid(pixels))
    assert picture.shape == (2 * 6 + 2, 3 * 6 + 2)
    assert picture[2:14:6, 2:20:6].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert sampling.grid(pixels.repeat(3, 3), columns=6).size == (6 * 6 + 2, 6 + 2)
    assert sampling.grid(pixels.repeat(3, 3)).mode == "RGB"


def test_rows_have_names_at_their_left():
    pixels = np.full((6, 20, 20, 3), 7, np.uint8)
    plain, named = sampling.grid(pixels, 2), sampling.grid(pixels, 2, ["ant", "bee", "a" * 100])
    left = named.width - plain.width
    assert np.array_equal(np.asarray(named)[:, left:], np.asarray(plain))
    assert 60 < left < 250, "a long name is cut"
    for row in range(3):
        ink = np.asarray(named)[row * 22 : row * 22 + 22, :left].any(axis=(0, 2)).nonzero()[0]
        assert ink.max() > left - 5, "beside its row"
        assert (ink.min() < 5) == (row == 2)
    assert sampling.grid(pixels[..., :1], 2, ["ant", "bee", "cat"]).mode == "L"


NAMES = ["ant", "2", "bee", "a,b", "ant, red"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("bee", [2]),
        ("0,bee,ant", [0, 2, 0]),
        ("2", [1]),  # a name comes before a number
        ("3,2", [3, 1]),
        ("a,b", [3]),
        ("ant, red,bee", [4, 2]),
        ("ant, bee", [0, 2]),
        ("ant,red", "is called 'red': did you mean 'ant, red'"),
        ("bees", "none of this generator's 5 classes is called 'bees': did you mean 'bee'?"),
        ("5", "no class 5: this generator has the classes 0 to 4"),
        ("-1", "no class -1"),
        ("", "is called '': choose from 2, a,b, ant, ant, red, bee"),
    ],
)
def test_classes_by_name_or_number(text, numbers):
    if isinstance(numbers, str):
        with pytest.raises(ganzoo.SampleError, match=numbers):
            parse_classes(text, NAMES, 5)
    else:
        assert parse_classes(text, NAMES, 5) == numbers


def test_classes_without_names():
    assert parse_classes("1, 0", None, 2) == [1, 0]
    with pytest.raises(ganzoo.SampleError, match="they have no names, only numbers: 0 to 1"):
        parse_classes("ant", None, 2)


def test_of_many_names_only_some_are_listed():
    with pytest.raises(ganzoo.SampleError, match=r"name 049 and 50 more$") as caught:
        parse_classes("?", [f"name {i:03d}" for i in range(100)], 100)
    assert "name 050" not in str(caught.value)


def test_walk_starts_at_the_sample_and_closes(dcgan):
    dcgan.eval()
    frames = list(sampling.walk(dcgan, 3, frames=40, seed=2))
    assert len(frames) == 40
    assert torch.equal(frames[0], ganzoo.sample(dcgan, 3, seed=2))
    steps = [(a - b).abs().mean() for a, b in zip(frames, [*frames[1:], frames[0]], strict=True)]
    assert max(steps) < 5 * min(steps)  # the step back to the first frame is like any other
    with pytest.raises(ganzoo.SampleError):
        next(sampling.walk(dcgan, 0, 1))


def test_statistics_are_estimated_from_the_weights_alone(dcgan):
    """Whatever lagged in BatchNorm before, the estimate is the same, and equals the statistics of those latents."""
    torch.manual_seed(0)
    g, _ = ganzoo.create("dcgan", image_size=28, channels=1, width=8)
    norm = g.layers[1]
    g.train()
    estimates = []
    for start in (0.0, 100.0):
        norm.running_mean.fill_(start)
        sampling.estimate_statistics(g)
        estimates.append(norm.running_mean.clone())
        assert norm.momentum == 0.1
        assert g.training
    assert torch.equal(*estimates)
    z = torch.cat([ganzoo.Rng(0, k, "statistics").randn(64, 100) for k in range(16)])
    first = g.layers[0](z[:, :, None, None])
    assert torch.allclose(norm.running_mean, first.mean((0, 2, 3)), atol=1e-5)


def test_statistics_that_latents_do_not_reach_are_kept():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = {"z_dim": 4}
            self.decoder, self.encoder = nn.BatchNorm1d(4), nn.BatchNorm1d(2)

        def forward(self, z):
            return self.decoder(z + 3)

    g = Both()
    g.encoder.running_mean.fill_(5)
    sampling.estimate_statistics(g)
    assert torch.equal(g.encoder.running_mean, torch.full((2,), 5.0))
    assert (g.decoder.running_mean - 3).abs().max() < 0.2
