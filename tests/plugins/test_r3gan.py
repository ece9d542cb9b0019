"""R3GAN's networks: what the paper says of their blocks, their scale at the start, and the sizes they come in."""

import pytest
import torch
from torch import nn

import ganzoo
from ganzoo_r3gan.model import _Block, _Resize

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


def test_blocks_start_as_the_identity_and_keep_the_scale():
    torch.manual_seed(0)
    block, x = _Block(64, expansion=2, group_size=16, depth=16), torch.randn(4, 64, 32, 32)
    assert torch.equal(block(x), x)
    # Fixup: two layers scaled by depth^(-1/4) each, so that a third of usual scale would give depth^(-1/2).
    nn.init.normal_(block.layers[-1].weight, 0.0, 128**-0.5)
    assert (block(x) - x).std().item() == pytest.approx(16**-0.5, rel=0.15)
    g, _ = ganzoo.create("r3gan", image_size=32, channels=3, **SMALL)
    assert 0.3 < g.layers[:-2](torch.randn(64, 64)).std() < 3


def test_resizing_keeps_the_mean_and_is_the_transposed_order():
    torch.manual_seed(0)
    up, down = _Resize(6, 4, 2), _Resize(4, 6, 0.5)
    x = torch.randn(2, 6, 8, 8)
    usual = up.conv(nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
    assert torch.allclose(up(x), usual, atol=1e-5)
    y = torch.randn(2, 4, 8, 8)
    assert torch.allclose(down(y), nn.functional.avg_pool2d(down.conv(y), 2), atol=1e-5)


def test_a_patch_is_one_position():
    g, d = ganzoo.create("r3gan", image_size=28, channels=1, patch=2, **SMALL)
    z, images = torch.randn(2, 64), torch.randn(2, 1, 28, 28)
    sides = []
    for network in (g, d):
        for block in (m for m in network.modules() if isinstance(m, _Block)):
            block.register_forward_hook(lambda module, given, made: sides.append(made.shape[-1]))
    assert g(z).shape == images.shape
    assert d(images).shape == (2,)
    assert sides == [7, 7, 14, 14, 14, 14, 7, 7]


@pytest.mark.parametrize("patch", [0, 3, 4, 8])
def test_a_patch_that_does_not_fit_is_refused(patch):
    with pytest.raises(ganzoo.ConfigError, match=f"patch must be .*28 px, not {patch}"):
        ganzoo.create("r3gan", image_size=28, patch=patch, **SMALL)


def test_groups_must_divide():
    with pytest.raises(ganzoo.ConfigError, match="groups of 16 channels do not divide 40"):
        ganzoo.create("r3gan", image_size=16, width=10)
