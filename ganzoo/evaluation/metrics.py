"""The metrics that torch-fidelity lacks: density and coverage, diversity, and the number of classes that a generator
reaches."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


def prdc(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 and 2), density and coverage
    (Naeem et al. 2020, arXiv:2002.09797, section 3), from one pass over blocks of the distance matrix.

    The ball of a real (or generated) sample reaches to its k-th nearest neighbour among the real (or generated) ones.
    Precision is the share of generated samples in any real ball. Density is the mean number of real balls that a
    generated sample is in, divided by k. Recall is the share of real samples in any generated ball. Coverage is the
    share of real balls that contain a generated sample.

    Args:
        real: features (N, F) of real samples.
        fake: features (M, F) of generated samples.
        k: the number of neighbours, below N and M.

    Returns:
        "precision", "recall" and "coverage", from 0 to 1, and "density", at least 0.
    """
    rows = 1000

    def radii(x: Tensor) -> Tensor:
        # k + 1, because the nearest neighbour of each sample is itself.
        return torch.cat([torch.cdist(p, x).topk(k + 1, largest=False).values[:, -1] for p in torch.split(x, rows)])

    fake_radii = radii(fake)
    balls = torch.zeros(len(fake), dtype=torch.long)
    recalled = covered = 0
    for part, radius in zip(torch.split(real, rows), torch.split(radii(real), rows), strict=True):
        distances = torch.cdist(part, fake)
        inside = distances <= radius[:, None]
        balls += inside.sum(0)
        covered += int(inside.any(1).sum())
        recalled += int((distances <= fake_radii).any(1).sum())
    return {
        "precision": (balls > 0).double().mean().item(),
        "recall": recalled / len(real),
        "density": balls.double().mean().item() / k,
        "coverage": covered / len(real),
    }


class Spread:
    """How far apart images lie in pixels, from one pass over batches of them."""

    def __init__(self) -> None:
        self.n = 0
        self.sums, self.squares = torch.zeros((), dtype=torch.double), 0.0

    def add(self, images: Tensor) -> None:
        """Count a batch of uint8 images (N, C, H, W) of one shape."""
        pixels = images.flatten(1).float()
        self.n += len(pixels)
        self.sums = self.sums + pixels.sum(0, dtype=torch.double)
        self.squares += pixels.square().sum(dtype=torch.double).item()

    @property
    def variance(self) -> float:
        """The sum of the variances of all pixels: half of the mean squared distance between two images."""
        return (self.squares - self.sums.square().sum().item() / self.n) / max(self.n - 1, 1)


def diversity(fake: float, real: float) -> float:
    """The root mean squared distance between two samples, divided by that between two real images, from the sums of
    their variances. At 1, samples vary as much as real images; at 0, they are all the same."""
    return math.sqrt(max(fake, 0) / max(real, 1e-12))


def divergence(counts: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """KL(counts / sum(counts) ‖ expected) in nats, over the last axis. `expected` must sum to 1."""
    share = counts / counts.sum(-1, keepdims=True)
    terms = np.zeros(share.shape)
    np.divide(share, expected, out=terms, where=share > 0)
    np.log(terms, out=terms, where=share > 0)
    total: np.ndarray[Any, Any] = (share * terms).sum(-1)
    return total


def modes(counts: np.ndarray[Any, Any], balance: np.ndarray[Any, Any]) -> dict[str, float]:
    """The number of classes reached, and the divergence of their proportions from the reference's.

    Args:
        counts: the number of samples of each class.
        balance: the share of each class in the reference, above 0; the shares sum to 1.

    Returns:
        The number of "modes" reached, and the KL divergence in nats from `balance` ("kl") and from equal shares
        ("kl_uniform"). The same names with `_perfect` are the means over 200 simulations of as many draws from
        `balance`.
    """
    perfect = np.random.default_rng(0).multinomial(counts.sum(), balance, 200)
    uniform = np.full(len(balance), 1 / len(balance))
    return {
        "modes": float((counts > 0).sum()),
        "modes_perfect": float((perfect > 0).sum(1).mean()),
        "kl": float(divergence(counts, balance)),
        "kl_perfect": float(divergence(perfect, balance).mean()),
        "kl_uniform": float(divergence(counts, uniform)),
        "kl_uniform_perfect": float(divergence(perfect, uniform).mean()),
    }
