"""A plugin for the tests: a tiny GAN on points in the plane, with everything that must survive a resume (BatchNorm
and Dropout), and the data it learns."""

import torch
from torch import nn

from ganzoo import Data, hookimpl

MEAN = (3.0, -2.0)


@hookimpl
def register_architectures(register):
    register("tiny", generator=Generator, discriminator=Discriminator, recipes={"slow": {"lr": 1e-5}}, summary="points")


@hookimpl
def register_data(register):
    register("gaussian", gaussian, summary="a Gaussian in the plane")


def gaussian(n: int = 1000) -> Data:
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return Data(torch.tensor(MEAN) + 0.5 * noise, labels=torch.arange(n) % 2)


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
