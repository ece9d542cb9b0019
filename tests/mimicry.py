"""Residual generators in the layouts of mimicry and of StudioGAN, as their checkpoints hold them."""

from itertools import pairwise

from torch import nn
from torch.nn.functional import interpolate


class Block(nn.Module):
    """mimicry's generator block, or StudioGAN's with its names."""

    def __init__(self, inputs, outputs, mode):
        super().__init__()
        first = {"bilinear": "b1 b2 c1 c2 c_sc", "nearest": "bn1 bn2 conv2d1 conv2d2 conv2d0"}[mode].split()
        layers = [nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs), nn.Conv2d(inputs, outputs, 3, padding=1)]
        layers += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.Conv2d(inputs, outputs, 1)]
        for name, layer in zip(first, layers, strict=True):
            self.add_module(name, layer)
        self.names, self.mode = first, mode

    def larger(self, x):
        return interpolate(x, scale_factor=2, mode=self.mode, align_corners=False if self.mode == "bilinear" else None)

    def forward(self, x):
        b1, b2, c1, c2, shortcut = (getattr(self, name) for name in self.names)
        h = c2(b2(c1(self.larger(b1(x).relu()))).relu())
        return h + shortcut(self.larger(x))


class Mimicry(nn.Module):
    def __init__(self, widths, side=4):
        super().__init__()
        self.l1 = nn.Linear(6, side**2 * widths[0])
        self.side, self.count = side, len(widths) - 1
        for i in range(self.count):
            self.add_module(f"block{i + 2}", Block(widths[i], widths[i + 1], "bilinear"))
        self.add_module(f"b{self.count + 2}", nn.BatchNorm2d(widths[-1]))
        self.add_module(f"c{self.count + 2}", nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, z):
        h = self.l1(z).view(len(z), -1, self.side, self.side)
        for i in range(self.count):
            h = getattr(self, f"block{i + 2}")(h)
        norm, conv = (getattr(self, f"{name}{self.count + 2}") for name in "bc")
        return conv(norm(h).relu()).tanh()


class StudioGAN(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.linear0 = nn.Linear(6, 16 * widths[0])
        pairs = pairwise(widths)
        self.blocks = nn.ModuleList(nn.ModuleList([Block(a, b, "nearest")]) for a, b in pairs)
        self.bn4, self.conv2d5 = nn.BatchNorm2d(widths[-1]), nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z):
        h = self.linear0(z).view(len(z), -1, 4, 4)
        for (block,) in self.blocks:
            h = block(h)
        return self.conv2d5(self.bn4(h).relu()).tanh()
