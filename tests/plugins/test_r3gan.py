"""R3GAN's networks: their blocks and filters as published, their scale at initialisation, and their sizes."""

import pytest
import torch
from torch import nn

import ganzoo
from ganzoo_r3gan import PAPER
from ganzoo_r3gan.model import _Block, _Down, _Up

SMALL = {"width": 16, "widest": 32, "blocks": 2}


def test_blocks_are_inverted_bottlenecks_in_groups_without_normalisation():
    g, d = ganzoo.create("r3gan", image_size=32, channels=3)
    for network in (g, d):
        blocks = [m for m in network.modules() if isinstance(m, _Block)]
        assert len(blocks) == 2 * 4  # two a resolution: 32, 16, 8, 4
        for block in blocks:
            first, grouped, last = (m for m in block.layers if isinstance(m, nn.Conv2d))
            assert first.out_channels == grouped.out_channels == 2 * first.in_channels == 2 * last.out_channels
            assert [m.kernel_size for m in (first, grouped, last)] == [(1, 1), (3, 3), (1, 1)]
            assert grouped.in_channels // grouped.groups == 16
        assert not [m for m in network.modules() if "Norm" in type(m).__name__]


def test_the_published_networks_for_cifar10():
    """The authors' preset: 768 channels at 4, 8, 16 and 32 pixels, two blocks each, cardinality 96."""
    with torch.device("meta"):
        g, d = ganzoo.create(
            "r3gan", image_size=32, channels=3, num_classes=10, generator=PAPER["generator"],
            discriminator=PAPER["discriminator"],
        )  # fmt: skip
    for network in (g, d):
        blocks = [m for m in network.modules() if isinstance(m, _Block)]
        assert len(blocks) == 8
        for block in blocks:
            first, grouped, _ = (m for m in block.layers if isinstance(m, nn.Conv2d))
            assert (first.in_channels, first.out_channels, grouped.groups) == (768, 1536, 96)
    assert g.embed.weight.shape == (10, 64)
    assert d.embed.weight.shape == (10, 768)


def test_the_recipe_is_the_authors_preset():
    config = ganzoo.TrainConfig("r3gan", recipe="paper")
    assert (config.loss, config.optimizer, config.batch_size, config.lr) == ("rpgan", "adam", 512, 2e-4)
    assert (config.betas, config.eps, config.penalties) == ([0.0, 0.9], 1e-8, ["r1=0.05", "r2=0.05"])
    assert config.flip
    assert config.conditional
    assert config.schedules == {
        "lr": 5e-5,
        "r1": 0.005,
        "r2": 0.005,
        "beta2": 0.99,
        "ema_halflife": 5e6,
        "augment_p": 0.55,
    }
    assert config.schedule_steps * config.batch_size == pytest.approx(2e7, rel=1e-4)
    assert config.ema_halflife == 0


def test_blocks_start_as_the_identity_and_keep_the_scale():
    torch.manual_seed(0)
    block, x = _Block(64, expansion=2, group_size=16, depth=16), torch.randn(4, 64, 32, 32)
    assert torch.equal(block(x), x)
    # Fixup scales two layers by depth^(-1/4) each, so that a third layer of the usual scale gives depth^(-1/2).
    nn.init.normal_(block.layers[-1].weight, 0.0, 128**-0.5)
    assert (block(x) - x).std().item() == pytest.approx(16**-0.5, rel=0.15)
    g, _ = ganzoo.create("r3gan", image_size=32, channels=3, **SMALL)
    assert 0.3 < g.layers[:-2](torch.randn(64, 64)).std() < 3


# The authors build their filter by convolving [1, 2, 1] with [1, 1]: [1, 3, 3, 1], scaled to a sum of 1 in each
# direction when the size is halved and to a sum of 2 when it is doubled.


def test_downsampling_is_the_published_filter():
    """Each output pixel weighs 4x4 pixels by [1, 3, 3, 1]^T [1, 3, 3, 1] / 64, with zeros beyond the borders."""
    down = _Down(3, 3)
    x = torch.zeros(1, 3, 6, 6)
    x[0, 1, 2, 3] = 64
    expected = torch.zeros(3, 3, 3)
    # The window of output i covers rows 2i-1 to 2i+2: row 2 has weight 1 in output 0 and 3 in output 1, and column 3
    # has weight 3 in output 1 and 1 in output 2.
    expected[1] = torch.tensor([[0.0, 3.0, 1.0], [0.0, 9.0, 3.0], [0.0, 0.0, 0.0]])
    assert torch.equal(down(x)[0], expected)
    # At a corner the window reaches beyond the image on two sides: 7/8 of each axis is left.
    assert down(torch.ones(1, 3, 6, 6))[0, 0].tolist() == [
        [49 / 64, 7 / 8, 49 / 64], [7 / 8, 1.0, 7 / 8], [49 / 64, 7 / 8, 49 / 64],
    ]  # fmt: skip


def test_upsampling_is_the_published_filter_with_replicated_borders():
    """The impulse response is [1, 3, 3, 1]^T [1, 3, 3, 1] / 16."""
    up = _Up(2, 2)
    x = torch.zeros(1, 2, 3, 3)
    x[0, 1, 1, 1] = 16
    expected = torch.zeros(2, 6, 6)
    expected[1, 1:5, 1:5] = torch.tensor(
        [[1.0, 3.0, 3.0, 1.0], [3.0, 9.0, 9.0, 3.0], [3.0, 9.0, 9.0, 3.0], [1.0, 3.0, 3.0, 1.0]]
    )
    assert torch.equal(up(x)[0], expected)
    assert torch.equal(up(torch.ones(1, 2, 3, 3)), torch.ones(1, 2, 6, 6))


def test_resampling_is_interpolation_after_or_before_the_convolution():
    torch.manual_seed(0)
    up, down = _Up(6, 4), _Down(4, 6)
    x, y = torch.randn(2, 6, 7, 5), torch.randn(2, 4, 8, 6)
    usual = up.conv(nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
    assert torch.allclose(up(x), usual, atol=1e-5)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    padded = nn.functional.pad(down.conv(y), [1, 1, 1, 1])
    windows = padded.unfold(2, 4, 2).unfold(3, 4, 2)  # (2, 6, 4, 3, 4, 4)
    assert torch.allclose(down(y), torch.einsum("nchwij,i,j->nchw", windows, taps, taps), atol=1e-5)


@pytest.mark.parametrize("layer", [_Up(2, 3), _Down(2, 3)], ids=["up", "down"])
def test_resampling_has_first_and_second_derivatives(layer):
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    layer.double()
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).tanh(), x)


def test_the_filter_is_no_part_of_the_weights():
    g, d = ganzoo.create("r3gan", image_size=16, **SMALL)
    assert not [key for network in (g, d) for key in network.state_dict() if "kernel" in key]


def test_the_class_embedding_has_the_published_scale():
    """The authors embed one-hot classes by a linear layer of variance 1 / (number of classes)."""
    torch.manual_seed(0)
    g, _ = ganzoo.create("r3gan", image_size=16, num_classes=100, **SMALL)
    assert g.embed.weight.shape == (100, 64)
    assert g.embed.weight.std().item() == pytest.approx(0.1, rel=0.03)


def test_a_patch_is_one_position():
    g, d = ganzoo.create("r3gan", image_size=28, channels=1, patch=2, **SMALL)
    z, images = torch.randn(2, 64), torch.randn(2, 1, 28, 28)
    sides = []
    for network in (g, d):
        for block in (m for m in network.modules() if isinstance(m, _Block)):
            block.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    assert g(z).shape == images.shape
    assert d(images).shape == (2,)
    assert sides == [7, 7, 14, 14, 14, 14, 7, 7]


@pytest.mark.parametrize("patch", [0, 3, 4, 8])
def test_a_patch_that_does_not_fit_is_refused(patch):
    with pytest.raises(ganzoo.ConfigError, match=f"patch must be .*28 px, not {patch}"):
        ganzoo.create("r3gan", image_size=28, patch=patch, **SMALL)


def test_groups_must_divide():
    with pytest.raises(ganzoo.ConfigError, match="40 channels cannot be split into groups of 16"):
        ganzoo.create("r3gan", image_size=16, width=10)
