"""StyleGAN2's layers against their formulas, its noise, its regularisation, and its recipes."""

import pytest
import torch
from torch.nn.functional import conv2d, pad

import ganzoo
from ganzoo import Batch, ConfigError, Objective, Rng, TrainConfig, seeds_of
from ganzoo.training.objective import Loss
from ganzoo_losses.losses import NonSaturating
from ganzoo_stylegan2.layers import GAIN, Conv, Filter, Modulated, noise_like, spread
from ganzoo_stylegan2.objective import StyleGAN2

SMALL = {"channel_base": 256, "channel_max": 16}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(**settings):
    generator = {"z_dim": 8, "w_dim": 12, "mapping": 2}
    g, d = ganzoo.create("stylegan2", image_size=16, channels=3, generator=generator, **SMALL, **settings)
    with torch.no_grad():
        for name, p in g.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                p.normal_()
    return g, d


def reference(x, up=1, down=1, padding=(0, 0), gain=1.0):
    """upfirdn2d: zeros between the pixels, padding, the filter [1, 3, 3, 1], and every down-th pixel."""
    n, c, h, w = x.shape
    spaced = x.new_zeros(n, c, h * up, w * up)
    spaced[:, :, ::up, ::up] = x
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = (gain * row[:, None] * row).to(x.dtype).expand(c, 1, 4, 4)
    return conv2d(pad(spaced, (*padding, *padding)), kernel, groups=c)[:, :, ::down, ::down]


@pytest.mark.parametrize("size", [2, 5, 8])
def test_resampling_is_upfirdn(size):
    x, filter = torch.randn(2, 3, size, size, dtype=torch.float64), Filter()
    assert torch.allclose(filter.enlarge(x), reference(x, up=2, padding=(2, 1), gain=4))
    assert torch.allclose(filter.blur(x, padding=2), reference(x, padding=(2, 2)))
    if size % 2 == 0:
        assert torch.allclose(filter.reduce(x), reference(x, down=2, padding=(1, 1)))


@pytest.mark.parametrize("way", ["enlarge", "reduce", "blur 1", "blur 2"])
def test_resampling_has_derivatives(way):
    name, *padding = way.split()
    resample, x = getattr(Filter(), name), torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resample(x, *map(int, padding)) ** 2, x)
    assert torch.autograd.gradgradcheck(lambda x: resample(x, *map(int, padding)) ** 2, x)


@pytest.mark.parametrize("resample", [None, "up"])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulation_is_that_of_the_weights(size, resample, demodulate):
    """Karras et al. 2020, equations 1 and 3: each item has weights of its own."""
    layer = Modulated(5, 4, 6, size, resample=resample, demodulate=demodulate).double()
    x, w, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((3, 4, 8, 8), (3, 5), (6,)))
    output = layer(x, w, bias)
    for i in range(3):
        weight = layer.weight * layer.affine(w[i : i + 1])[0][None, :, None, None]
        if demodulate:
            weight = GAIN * weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        else:
            weight = weight / (4 * size**2) ** 0.5
        if resample is None:
            own = conv2d(x[i : i + 1], weight, padding=size // 2)
        elif size == 1:
            own = reference(conv2d(x[i : i + 1], weight), up=2, padding=(2, 1), gain=4)
        else:
            spaced = torch.zeros(1, 4, 16, 16, dtype=torch.float64)
            spaced[:, :, ::2, ::2] = x[i : i + 1]
            own = reference(conv2d(pad(spaced, (2, 1, 2, 1)), weight.flip(2, 3)), padding=(1, 1), gain=4)
        own = own + (GAIN if demodulate else 1) * bias[:, None, None]
        assert torch.allclose(output[i], own[0])


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("gain", [1.0, 0.5**0.5])
def test_activations_keep_the_variance_and_are_cut_off(clamp, gain):
    layer = Conv(3, 64, 3, clamp=clamp)
    y = layer(torch.randn(4, 3, 16, 16), gain)
    if clamp is None:
        assert y.square().mean().sqrt().item() == pytest.approx(gain, rel=0.1)
    else:
        assert y.abs().max().item() == pytest.approx(clamp * gain)


def test_noise_is_normal_and_a_function_of_the_latent():
    z = torch.randn(64, 8)
    seeds = seeds_of(z)
    assert len(seeds.unique()) == 64
    noise = noise_like(seeds, 3, 33)
    assert noise.shape == (64, 1, 33, 33)
    assert abs(noise.mean()) < 0.02
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert (noise.abs() > 2).float().mean().item() == pytest.approx(0.0455, abs=0.004)
    flat = noise.flatten(1)
    correlation = torch.corrcoef(flat) - torch.eye(64)
    assert correlation.abs().max() < 5 / flat.shape[1] ** 0.5
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean()
    assert abs(neighbours) < 0.02
    assert torch.equal(noise_like(seeds_of(z[10:20]), 3, 33), noise[10:20])
    assert (noise_like(seeds, 4, 33) * noise).mean().abs() < 0.02
    nearly = z.clone()
    nearly[0, 5] += 1e-6
    assert (noise_like(seeds_of(nearly), 3, 33)[0] * noise[0]).mean().abs() < 0.15


@torch.no_grad()
def test_options_of_the_call():
    g, _ = small()
    g.eval()
    z = torch.randn(4, 8)
    g.estimate(torch.randn(1000, 8))
    constant, random, none = (g(z, noise=noise) for noise in ("const", "random", "none"))
    assert torch.equal(g(z), constant)
    assert torch.equal(g.train()(z), random)
    g.eval()
    assert not torch.equal(constant, none)
    assert not torch.equal(constant, random)
    assert torch.allclose(random[1:3], g(z[1:3], noise="random"), atol=1e-5)
    same = g(z, truncation=0.0, noise="none")
    assert torch.allclose(same, same[:1].expand_as(same), atol=1e-5)
    half = g(z, truncation=0.5)
    w = g.style(z)
    assert torch.allclose(half, g.synthesize(g.w_mean + 0.5 * (w - g.w_mean), latent=z), atol=1e-5)
    assert torch.allclose(ganzoo.sample(g, 4, truncation=0.0)[0], g(z[:1], truncation=0.0)[0], atol=1e-4)
    with pytest.raises(ConfigError, match="noise must be one of random, const, none"):
        g(z, noise="loud")


@torch.no_grad()
def test_truncation_knows_the_mean_of_w():
    g, _ = small()
    g.estimate(torch.randn(5000, 8))
    w = g.style(torch.randn(5000, 8))
    assert w.shape == (5000, g.layers, 12)
    assert (w[:, 0].mean(0) - g.w_mean).abs().max() < 0.1 * w.std()


@pytest.mark.parametrize("strided", [True, False])
@pytest.mark.parametrize("n", [1, 6, 8])
def test_the_deviation_over_groups(strided, n):
    x = torch.randn(n, 2, 3, 3)
    size = {1: 1, 6: 3, 8: 4}[n]
    result = spread(x, 4, strided)
    assert torch.equal(result[:, :2], x)
    for i in range(n):
        group = x[i % (n // size) :: n // size] if strided else x[i // size * size : (i // size + 1) * size]
        expected = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        assert torch.allclose(result[i, 2], expected.expand(3, 3), atol=1e-6)


def test_groups_of_one_leave_the_logits_independent():
    _, d = small(discriminator={"group": 1})
    x = torch.randn(4, 3, 16, 16)
    assert torch.allclose(d(x)[:2], d(x[:2]), atol=1e-5)


def batch_of(n=6, step=0):
    return Batch(torch.randn(n, 3, 16, 16), torch.randn(n, 8), step, Rng(0, step, "g"))


@pytest.mark.parametrize(
    ("n", "group", "strided", "calls"),
    [(8, 4, False, [16]), (6, 1, False, [12]), (6, 4, False, [6, 6]), (8, 4, True, [8, 8])],
)
def test_d_judges_both_kinds_at_once_where_groups_stay_together(n, group, strided, calls):
    g, d = small(discriminator={"group": group, "strided": strided})
    sizes, losses = [], []
    d.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    for objective in (StyleGAN2, Objective):
        batch, loss = batch_of(n), NonSaturating()
        batch.fakes = torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
        batch.real = batch.fakes.detach().flip(0)
        losses.append(objective(loss).discriminator_loss(g, d, batch)[0])
    assert sizes == [*calls, n, n]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)


def test_path_lengths_are_the_norm_of_the_derivative():
    g, _ = small()
    batch = batch_of(4)
    objective = StyleGAN2(Loss(), style_mixing=0.0, path_share=1)
    lengths = objective.path_lengths(g, batch)
    y = batch.rng.child("path").randn(4, 3, 16, 16)
    for i in range(4):
        w = g.style(batch.z[i : i + 1]).detach().requires_grad_()
        image = g.synthesize(w, latent=batch.z[i : i + 1])
        (gradient,) = torch.autograd.grad((image * y[i : i + 1]).sum() / 16, w)
        assert lengths[i].item() == pytest.approx(gradient.square().sum(2).mean().sqrt().item(), rel=1e-4)
    lengths.sum().backward()
    assert all(p.grad is not None for name, p in g.named_parameters() if name.endswith("affine.weight"))


def test_the_mean_path_length_follows():
    objective = StyleGAN2(Loss(), path_decay=0.25)
    objective.observe({"path_length": torch.tensor(8.0)})
    assert objective.path_mean == 2
    objective.observe({"g_loss": torch.tensor(8.0)})
    assert objective.path_mean == 2


@torch.no_grad()
def test_styles_are_mixed_for_a_share_of_images():
    g, _ = small()
    z, rng = torch.randn(2000, 8), Rng(0, 0, "g")
    w = g.style(z)
    mixed = StyleGAN2(Loss(), style_mixing=0.9).mixed(g, z, None, rng)
    own = (mixed == w).all(2)
    assert own[:, 0].all()
    assert (~own[:, -1]).float().mean().item() == pytest.approx(0.9, abs=0.03)
    assert (own[:, 1:] <= own[:, :-1]).all()  # from a layer on, all rows are the other latent's
    assert len(own.sum(1).unique()) == g.layers
    assert torch.equal(StyleGAN2(Loss(), style_mixing=0.0).mixed(g, z, None, rng), w)


@pytest.mark.parametrize("setting", [{"style_mixing": 2}, {"path_decay": 0}, {"path_length": -1}, {"path_every": 0}])
def test_settings_out_of_range(setting):
    with pytest.raises(ConfigError):
        StyleGAN2(Loss(), **setting)


def test_groups_have_an_image():
    with pytest.raises(ConfigError, match="group must be at least 1"):
        small(discriminator={"group": 0})


@pytest.mark.parametrize("size", [8, 14, 28, 56, 64])
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_sizes(size, architecture):
    settings = {"architecture": architecture, "channel_base": 64, "channel_max": 8}
    g, d = ganzoo.create("stylegan2", image_size=size, channels=1, z_dim=4, w_dim=4, **settings)
    assert d(g(torch.randn(2, 4))).shape == (2,)


def test_other_sizes_and_architectures_are_refused():
    with pytest.raises(ConfigError, match="nearest is --image-size"):
        ganzoo.create("stylegan2", image_size=50)
    with pytest.raises(ConfigError, match="architecture must be one of orig, skip, resnet"):
        ganzoo.create("stylegan2", architecture="dense")


def test_the_published_networks():
    """24.8 million parameters at 256 pixels with channel_base 16384, as stylegan2-ada-pytorch prints."""
    paper = TrainConfig("stylegan2", recipe="paper256")
    with torch.device("meta"):
        g, d = ganzoo.create(
            "stylegan2", image_size=256, channels=3, generator=paper.generator, discriminator=paper.discriminator
        )
    assert sum(p.numel() for p in g.parameters()) == pytest.approx(24.77e6, rel=2e-3)
    assert sum(p.numel() for p in d.parameters()) == pytest.approx(24.00e6, rel=2e-3)
    assert g.layers == 14
