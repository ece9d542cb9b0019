"""Networks in the layouts of mimicry and of StudioGAN, as their checkpoints hold them, and as their programs compute
them: ReLUs work in place, so that the shortcut of a discriminator's block sees them too, and StudioGAN's BatchNorms add
1e-4 to the variance."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, one_hot
from torch.nn.utils import spectral_norm


class MimicryNorm(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, affine=False)
        self.embed = nn.Embedding(num_classes, 2 * channels)

    def forward(self, x, labels):
        scale, shift = self.embed(labels)[:, :, None, None].chunk(2, 1)
        return scale * self.bn(x) + shift


class StudioNorm(nn.Module):
    """StudioGAN's class-conditional BatchNorm: at first with embeddings, later with linear layers."""

    def __init__(self, channels, num_classes, linear):
        super().__init__()
        self.bn, self.num_classes = nn.BatchNorm2d(channels, affine=False, eps=1e-4), num_classes
        self.names = ("gain", "bias") if linear else ("embed0", "embed1")
        for name in self.names:
            layer = nn.Linear(num_classes, channels, bias=False) if linear else nn.Embedding(num_classes, channels)
            self.add_module(name, layer)

    def forward(self, x, labels):
        classes = one_hot(labels, self.num_classes).to(x.dtype) if self.names[0] == "gain" else labels
        gain, bias = (getattr(self, name)(classes)[:, :, None, None] for name in self.names)
        return self.bn(x) * (1 + gain) + bias


class Block(nn.Module):
    """mimicry's generator block, or StudioGAN's with its names; `norm` makes a norm of so many channels."""

    def __init__(self, inputs, outputs, mode, norm):
        super().__init__()
        self.names = {"bilinear": "b1 b2 c1 c2 c_sc", "nearest": "bn1 bn2 conv2d1 conv2d2 conv2d0"}[mode].split()
        layers = [norm(inputs), norm(outputs), nn.Conv2d(inputs, outputs, 3, padding=1)]
        layers += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.Conv2d(inputs, outputs, 1)]
        for name, layer in zip(self.names, layers, strict=True):
            self.add_module(name, layer)
        self.mode = mode

    def larger(self, x):
        return interpolate(x, scale_factor=2, mode=self.mode, align_corners=False if self.mode == "bilinear" else None)

    def forward(self, x, *labels):
        b1, b2, c1, c2, shortcut = (getattr(self, name) for name in self.names)
        h = c1(self.larger(b1(x, *labels).relu_()))
        return c2(b2(h, *labels).relu_()) + shortcut(self.larger(x))


class Mimicry(nn.Module):
    def __init__(self, widths, side=4, num_classes=None):
        super().__init__()
        self.l1 = nn.Linear(6, side**2 * widths[0])
        self.side, self.count = side, len(widths) - 1
        norm = nn.BatchNorm2d if num_classes is None else lambda channels: MimicryNorm(channels, num_classes)
        for i in range(self.count):
            self.add_module(f"block{i + 2}", Block(widths[i], widths[i + 1], "bilinear", norm))
        self.add_module(f"b{self.count + 2}", nn.BatchNorm2d(widths[-1]))
        self.add_module(f"c{self.count + 2}", nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, z, *labels):
        h = self.l1(z).view(len(z), -1, self.side, self.side)
        for i in range(self.count):
            h = getattr(self, f"block{i + 2}")(h, *labels)
        norm, conv = (getattr(self, f"{name}{self.count + 2}") for name in "bc")
        return conv(norm(h).relu()).tanh()


def studio_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-4)


class StudioGAN(nn.Module):
    """`resnet`. `linear`: with the later form of class-conditional norms."""

    def __init__(self, widths, num_classes=None, linear=False):
        super().__init__()
        self.linear0 = nn.Linear(6, 16 * widths[0])
        pairs = pairwise(widths)
        norm = studio_norm if num_classes is None else lambda channels: StudioNorm(channels, num_classes, linear)
        self.blocks = nn.ModuleList(nn.ModuleList([Block(a, b, "nearest", norm)]) for a, b in pairs)
        self.bn4, self.conv2d5 = studio_norm(widths[-1]), nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z, *labels):
        h = self.linear0(z).view(len(z), -1, 4, 4)
        for (block,) in self.blocks:
            h = block(h, *labels)
        return self.conv2d5(self.bn4(h).relu()).tanh()


class DeepConvBlock(nn.Module):
    def __init__(self, inputs, outputs, norm):
        super().__init__()
        self.deconv0, self.bn0 = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), norm(outputs)

    def forward(self, x):
        return self.bn0(self.deconv0(x)).relu()


class DeepConv(nn.Module):
    """StudioGAN's `deep_conv`."""

    def __init__(self, widths, norm=studio_norm):
        super().__init__()
        self.linear0 = nn.Linear(6, 16 * widths[0])
        self.blocks = nn.ModuleList(nn.ModuleList([DeepConvBlock(a, b, norm)]) for a, b in pairwise(widths))
        self.conv4 = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z):
        h = self.linear0(z).view(len(z), -1, 4, 4)
        for (block,) in self.blocks:
            h = block(h)
        return self.conv4(h).tanh()


class Judging(nn.Module):
    """A block of a discriminator, with the names of its two convolutions and its shortcut."""

    def __init__(self, inputs, outputs, half, first, between, names):
        super().__init__()
        self.half, self.first, self.names = half, first, names
        layers = [nn.Conv2d(inputs, between, 3, padding=1), nn.Conv2d(between, outputs, 3, padding=1)]
        if half or inputs != outputs:
            layers.append(nn.Conv2d(inputs, outputs, 1))
        for name, layer in zip(names, layers, strict=False):
            self.add_module(name, spectral_norm(layer))

    def forward(self, x):
        c1, c2, shortcut = (getattr(self, name, nn.Identity()) for name in self.names)
        h = c2(c1(x if self.first else x.relu_()).relu_())
        return avg_pool2d(h, 2) + avg_pool2d(shortcut(x), 2) if self.half else h + shortcut(x)


class MimicryDiscriminator(nn.Module):
    """`last`: the number of the last layer."""

    def __init__(self, widths, flat, last, num_classes=None):
        super().__init__()
        self.count, self.last, pairs = len(widths), last, pairwise([3, *widths])
        for i, (a, b) in enumerate(pairs):
            between, half = a if i else b, i < len(widths) - flat
            self.add_module(f"block{i + 1}", Judging(a, b, half, i == 0, between, ("c1", "c2", "c_sc")))
        self.add_module(f"l{last}", spectral_norm(nn.Linear(widths[-1], 1)))
        self.l_y = None if num_classes is None else spectral_norm(nn.Embedding(num_classes, widths[-1]))

    def forward(self, x, labels=None):
        for i in range(self.count):
            x = getattr(self, f"block{i + 1}")(x)
        features = x.relu().sum((2, 3))
        logits = getattr(self, f"l{self.last}")(features)
        return logits if self.l_y is None else logits + (self.l_y(labels) * features).sum(1, keepdim=True)


class StudioDiscriminator(nn.Module):
    def __init__(self, widths, flat, num_classes=None):
        super().__init__()
        names = ("conv2d1", "conv2d2", "conv2d0")
        self.blocks = nn.ModuleList(
            nn.ModuleList([Judging(a, b, i < len(widths) - flat, i == 0, b, names)])
            for i, (a, b) in enumerate(pairwise([3, *widths]))
        )
        self.linear1 = spectral_norm(nn.Linear(widths[-1], 1))
        self.embedding = None if num_classes is None else spectral_norm(nn.Embedding(num_classes, widths[-1]))

    def forward(self, x, labels=None):
        for (block,) in self.blocks:
            x = block(x)
        features = x.relu().sum((2, 3))
        logits = self.linear1(features)[:, 0]
        return logits if self.embedding is None else logits + (self.embedding(labels) * features).sum(1)


def trained(module):
    """Statistics, scales and biases that matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.3, 1.0)
            elif tensor.is_floating_point() and tensor.dim() == 1 and not name.endswith(("weight_u", "weight_v")):
                tensor.uniform_(0.5, 1.5)
    return module
