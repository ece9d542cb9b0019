"""The networks of lucidrains' stylegan2-pytorch: what they compute in another way is the same, and their settings."""

import pytest
import torch
from torch.nn.functional import interpolate

import ganzoo
from ganzoo import Batch, ConfigError, Rng, uniform_of
from ganzoo.training.objective import Loss
from ganzoo_stylegan2.layers import Filter
from ganzoo_stylegan2.lucid_layers import Mapping, Modulated
from ganzoo_stylegan2.objective import StyleGAN2

SMALL = {"image_size": 16, "channels": 3, "generator": {"z_dim": 8, "mapping": 2, "width": 4}}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(**generator):
    g, d = ganzoo.create("stylegan2_lucid", **{**SMALL, "generator": {**SMALL["generator"], **generator}}, width=4)
    with torch.no_grad():
        for name, p in g.named_parameters():
            if name.endswith("noise_scale"):
                p.normal_()
    return g, d


@pytest.mark.parametrize("size", [2, 7])
def test_enlarging_is_bilinear(size):
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    expected = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(Filter().double().bilinear(x), expected)


def test_the_border_is_mirrored():
    x = torch.tensor([[1.0, 3.0, 7.0]]).expand(3, 3)[None, None]
    row = torch.tensor([(3 + 2 + 3) / 4, (1 + 6 + 7) / 4, (3 + 14 + 3) / 4])
    assert torch.allclose(Filter().smooth(x, mirror=True), row.expand(3, 3)[None, None])


def test_noise_is_uniform_and_a_function_of_the_latent():
    noise = uniform_of(torch.arange(50), 0, 4000)
    assert noise.min() > 0
    assert noise.max() < 1
    counts = torch.histc(noise, 10, 0, 1) / noise.numel()
    assert (counts - 0.1).abs().max() < 0.005
    assert torch.equal(uniform_of(torch.arange(20, 30), 0, 4000), noise[20:30])


@torch.no_grad()
def test_options_of_the_call():
    g, _ = small()
    g.eval()
    g.estimate(torch.randn(1000, 8))
    z = torch.randn(4, 8)
    constant, random, none = (g(z, noise=noise) for noise in ("const", "random", "none"))
    assert torch.equal(g(z), constant)
    assert torch.equal(g.train()(z), random)
    g.eval()
    assert not torch.equal(constant, none)
    assert not torch.equal(constant, random)
    assert torch.allclose(random[1:3], g(z[1:3], noise="random"), atol=1e-5)
    g.noise_const.fill_(0.5)
    assert torch.allclose(g(z), none, atol=1e-6)  # without noise there is its mean
    w = g.style(z)
    assert w.shape == (4, 3, 8)
    half = g.synthesize(g.w_mean + 0.5 * (w - g.w_mean), latent=z)
    assert torch.allclose(g(z, truncation=0.5), half, atol=1e-5)
    assert torch.allclose(ganzoo.sample(g, 4, truncation=0.0)[0], g(z[:1], truncation=0.0)[0], atol=1e-4)
    with pytest.raises(ConfigError, match="noise must be one of random, const, none"):
        g(z, noise="loud")


@torch.no_grad()
def test_every_resolution_has_its_row_of_w():
    g, _ = small()
    w = g.style(torch.randn(2, 8))
    images = g.synthesize(w, noise="none")
    for row in range(g.layers):
        other = w.clone()
        other[:, row] += 1
        assert not torch.allclose(g.synthesize(other, noise="none"), images)
    shapes = [tuple(weight.shape) for weight in g.style_weights()]
    assert shapes == [(16 + 16 + 16, 8), (16 + 8 + 8, 8), (8 + 4 + 4, 8)]
    found = ganzoo.directions(g, 2, layers=[1])
    assert found.values.shape == (2, 8)


def test_the_start_is_as_strong_as_the_published_one():
    """Weights from N(0, 1) of 512 inputs, times 0.1."""
    for size, rate in ((512, 0.1), (64, 1.0)):
        layer = Mapping(size, 1, rate)
        variance = (layer.weights[0] * rate).square().sum(1).mean().item()
        assert variance == pytest.approx(0.01 * 512, rel=0.1)


def test_demodulation_keeps_the_variance():
    layer = Modulated(8, 16, 64, 3)
    y = layer(torch.randn(64, 16, 12, 12), torch.randn(64, 8))[:, :, 1:-1, 1:-1]
    assert y.std().item() == pytest.approx(1, abs=0.1)


def test_path_lengths_and_mixed_styles():
    g, _ = small()
    batch = Batch(torch.randn(4, 3, 16, 16), torch.randn(4, 8), 0, Rng(0, 0, "g"))
    objective = StyleGAN2(Loss(), style_mixing=1.0)
    lengths = objective.path_lengths(g, batch)
    assert (lengths > 0).all()
    lengths.sum().backward()
    assert all(p.grad is not None for name, p in g.named_parameters() if "style.weight" in name)


@pytest.mark.parametrize("size", [8, 14, 28, 64])
def test_sizes(size):
    g, d = ganzoo.create("stylegan2_lucid", image_size=size, channels=1, z_dim=4, width=2, widest=8)
    assert d(g(torch.randn(2, 4))).shape == (2,)


def test_other_settings_are_refused():
    with pytest.raises(ConfigError, match="nearest is --image-size"):
        ganzoo.create("stylegan2_lucid", image_size=50)
    with pytest.raises(ConfigError, match=r"attention must be a list of numbers from 0 to 2, not \[3\]"):
        small(attention=[3])
    with pytest.raises(ConfigError, match="rate must be above 0, not -1"):
        small(rate=-1)
