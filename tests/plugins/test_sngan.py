"""SNGAN: its networks are the published ones, and what they compute in another order is the same."""

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, interpolate

import ganzoo

PAPER = ganzoo.TrainConfig("sngan", recipe="paper")
# Appendix B.4: the base and widths of G, the widths of D's blocks, and how many of these halve the size. The form for
# 64 pixels is that for 128 with one block less.
PUBLISHED = {
    32: (4, [256] * 4, [128] * 4, 2),
    48: (6, [512, 256, 128, 64], [64, 128, 256, 512, 1024], 4),
    64: (4, [1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024], 4),
    128: (4, [1024, 1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024, 1024], 5),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_published_networks(size):
    base, up, down, halved = PUBLISHED[size]
    settings = {"generator": PAPER.generator, "discriminator": PAPER.discriminator} if size == 32 else {}
    shapes = []
    with torch.device("meta"):
        g, d = ganzoo.create("sngan", image_size=size, **settings)
        for block in (*g.blocks, *d.blocks[:-1]):
            block.register_forward_hook(lambda block, x, y: shapes.append(y.shape[1:]))
        assert d(g(torch.randn(2, 128))).shape == (2,)
    assert g.start.weight.shape == (up[0] * base**2, 128)
    sides = [base << i for i in range(1, len(up))] + [size >> min(i, halved) for i in range(1, len(down) + 1)]
    assert shapes == [(width, side, side) for width, side in zip(up[1:] + down, sides, strict=True)]
    for block, before, after in zip(g.blocks, up, up[1:], strict=False):
        weights = [tuple(p.shape) for p in block.parameters() if p.dim() == 4]
        assert weights == [(after, before, 3, 3), (after, after, 3, 3), (after, before, 1, 1)]
    for block, before, after in zip(d.blocks, [3, *down], down, strict=False):
        inner = after if before == 3 else before
        weights = [(inner, before, 3, 3), (after, inner, 3, 3)]
        weights += [] if isinstance(block.shortcut, nn.Identity) else [(after, before, 1, 1)]
        assert [tuple(p.shape) for p in block.parameters() if p.dim() == 4] == weights
    assert d.score.weight.shape == (1, down[-1])


def test_the_order_of_operations_is_the_papers():
    """Upsampling and pooling, merged into a convolution or moved past one of 1x1, against the order of the paper."""
    torch.manual_seed(0)
    g, d = ganzoo.create("sngan", image_size=28, generator={"width": 4}, discriminator={"width": 4})
    block = g.blocks[0].double()
    x = torch.randn(3, 16, 7, 7, dtype=torch.float64)
    (norm, again), (up, conv) = block.norms, block.convs
    h = conv2d(interpolate(norm(x, None), scale_factor=2), up.weight, up.bias, padding=1)
    expected = conv(again(h, None)) + block.shortcut(interpolate(x, scale_factor=2))
    assert torch.allclose(block(x, None), expected)
    for i, block in enumerate(d.double().eval().blocks[:-1]):
        side = (28, 14, 7, 3)[i]
        first, _, second = block.convs
        x = torch.randn(3, first.in_channels, side, side, dtype=torch.float64)
        h = first(x if i == 0 else x.relu()).relu()
        expected = conv2d(h, second.weight, second.bias, padding=1) + block.shortcut(x)
        if i < 3:
            expected = avg_pool2d(expected, 2)
        assert torch.allclose(block(x), expected)


def test_features_are_summed():
    _, d = ganzoo.create("sngan", image_size=32, width=4)
    x = torch.randn(3, 3, 32, 32)
    d.eval()
    features = d.blocks(x)
    assert features.shape == (3, 32, 4, 4)
    expected = d.score.bias + sum(pixel @ d.score.weight[0] for pixel in features.flatten(2).unbind(2))
    assert torch.allclose(d(x), expected, rtol=1e-4, atol=1e-6)


def test_a_class_has_its_own_scale_and_shift():
    torch.manual_seed(0)
    g, _ = ganzoo.create("sngan", width=4, num_classes=3)
    norm = g.blocks[0].norms[0]
    assert torch.equal(norm.scale.weight, torch.ones(3, 32))
    assert torch.equal(norm.shift.weight, torch.zeros(3, 32))
    with torch.no_grad():
        norm.scale.weight.normal_()
        norm.shift.weight.normal_()
    x, labels = torch.randn(5, 32, 4, 4), torch.tensor([0, 2, 1, 2, 0])
    for training in (True, False):
        norm.train(training)
        statistics = (norm.norm.running_mean.clone(), norm.norm.running_var.clone())
        outputs = norm(x, labels)
        for i, label in enumerate(labels):
            own = batch_norm(x, *statistics, norm.scale.weight[label], norm.shift.weight[label], training)
            assert torch.allclose(outputs[i], own[i].relu(), atol=1e-5)


def test_projection():
    """Logit = score(features) + <embedding of the class, features>: equation 3 of Miyato & Koyama 2018."""
    _, d = ganzoo.create("sngan", width=4, num_classes=3)
    d.eval()
    x, labels = torch.randn(3, 3, 32, 32), torch.tensor([2, 0, 1])
    features = d.blocks(x).sum((2, 3))
    expected = d.score(features)[:, 0] + (features * d.embed.weight[labels]).sum(1)
    assert torch.allclose(d(x, labels), expected, atol=1e-6)


def test_every_layer_of_the_discriminator_has_norm_one():
    small = {"generator": {"width": 4}, "discriminator": {"width": 4}}
    config = ganzoo.TrainConfig(
        "sngan", **small, image_size=16, steps=30, batch_size=8, lr=0.01, precision="fp32", conditional=True
    )
    d = ganzoo.train(config).discriminator
    layers = [layer for layer in d.modules() if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding)]
    assert len(layers) == 3 * 3 + 2
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("size", "nearest"), [(8, 16), (12, 16), (14, 16), (50, 48), (100, 96), (0, 16)])
def test_other_sizes_are_refused(size, nearest):
    with pytest.raises(ganzoo.ConfigError, match=rf"4, 5, 6 or 7 times 2\^k\).*nearest is --image-size {nearest}$"):
        ganzoo.create("sngan", image_size=size, width=4)


@pytest.mark.parametrize("flat", [-1, 4])
def test_other_numbers_of_flat_blocks_are_refused(flat):
    with pytest.raises(ganzoo.ConfigError, match=f"flat must be from 0 to 3 at 32 pixels, not {flat}"):
        ganzoo.create("sngan", width=4, discriminator={"flat": flat})
