"""A plugin for the tests: a tiny GAN on points in the plane, with everything that must survive a resume (BatchNorm
and Dropout), and the data it learns; and digits of which some are held out."""

import torch
from torch import nn

from ganzoo import Data, hookimpl
from ganzoo.data.loading import load

MEAN = (3.0, -2.0)


@hookimpl
def register_architectures(register):
    register("tiny", generator=Generator, discriminator=Discriminator, recipes={"slow": {"lr": 1e-5}}, summary="points")


@hookimpl
def register_data(register):
    register("gaussian", gaussian, summary="a Gaussian in the plane")
    register("held_out", held_out, summary="digits, of which the last thousand are the test part")


def gaussian(n: int = 1000) -> Data:
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return Data(torch.tensor(MEAN) + 0.5 * noise, labels=torch.arange(n) % 2)


def held_out(split: str = "train") -> Data:
    digits = load("digits")
    rows = slice(None, -1000) if split == "train" else slice(-1000, None)
    return Data(digits.items[rows], None if digits.labels is None else digits.labels[rows])


class Generator(nn.Module):
    def __init__(self, z_dim: int = 4, width: int = 32, norm: bool = False, dropout: float = 0.0):
        super().__init__()
        middle = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.layers = nn.Sequential(
            nn.Linear(z_dim, width), middle, nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 2)
        )

    def forward(self, z):
        return self.layers(z)


class Discriminator(nn.Module):
    def __init__(self, width: int = 32, norm: bool = False, dropout: float = 0.0):
        super().__init__()
        middle = nn.BatchNorm1d(width) if norm else nn.LeakyReLU(0.2)
        self.layers = nn.Sequential(
            nn.Linear(2, width), middle, nn.Dropout(dropout), nn.Linear(width, width), nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x).squeeze(1)
