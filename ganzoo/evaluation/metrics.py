"""The metrics that torch-fidelity lacks: density and coverage, and the classes that a generator reaches."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def prdc(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al., arXiv:1904.06991), density and coverage (Naeem et al.,
    arXiv:2002.09797), from one pass over the distances, a block of rows at a time.

    A ball reaches from a sample to its k-th neighbour of its own kind. Precision is the share of fakes in any real
    ball, density the mean number of real balls a fake is in, over k; recall is the share of reals in any fake ball,
    coverage the share of real balls that hold a fake.

    Args:
        real, fake: features (N, F) and (M, F).
        k: neighbours, fewer than N and M.
    """
    rows = 1000

    def reach(x: Tensor) -> Tensor:
        near = [torch.cdist(part, x).topk(k + 1, largest=False).values[:, -1] for part in torch.split(x, rows)]
        return torch.cat(near)  # k + 1: each is its own nearest

    of_fake = reach(fake)
    balls = torch.zeros(len(fake), dtype=torch.long)
    recalled = covered = 0
    for part, radius in zip(torch.split(real, rows), torch.split(reach(real), rows), strict=True):
        distances = torch.cdist(part, fake)
        inside = distances <= radius[:, None]
        balls += inside.sum(0)
        covered += int(inside.any(1).sum())
        recalled += int((distances <= of_fake).any(1).sum())
    return {
        "precision": (balls > 0).double().mean().item(),
        "recall": recalled / len(real),
        "density": balls.double().mean().item() / k,
        "coverage": covered / len(real),
    }


def divergence(counts: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """KL(counts / their sum ‖ expected) in nats, over the last axis; expected sums to 1."""
    share = counts / counts.sum(-1, keepdims=True)
    terms = np.zeros(share.shape)
    np.divide(share, expected, out=terms, where=share > 0)
    np.log(terms, out=terms, where=share > 0)
    found: np.ndarray[Any, Any] = (share * terms).sum(-1)
    return found


def modes(counts: np.ndarray[Any, Any], balance: np.ndarray[Any, Any]) -> dict[str, float]:
    """Classes reached, and how far their balance is from the reference's.

    Args:
        counts: samples a class.
        balance: share of each class in the reference, none 0.

    Returns:
        "modes" reached, "kl" to the reference's balance and "kl_uniform" to equal shares, in nats; each `_perfect`
        is what a sampler gets on average that draws as many from `balance` (simulated 200 times).
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
