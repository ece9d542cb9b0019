"""Differentiable augmentation of D's inputs, real and generated alike (Zhao et al. 2020, DiffAugment,
https://arxiv.org/abs/2006.10738, section 3 and the settings in its appendix)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganzoo.errors import ConfigError, did_you_mean
from ganzoo.rng import Rng

SHIFT = 1 / 8
"""The largest translation, as a fraction of the image's side."""
HOLE = 1 / 2
"""The side of the square that cutout clears, as a fraction of the image's side."""


def _color(x: Tensor, rng: Rng) -> Tensor:
    """Shift the brightness by -0.5 to 0.5, and scale the saturation by 0 to 2 and the contrast by 0.5 to 1.5."""
    n = len(x)
    x = x + rng.rand(n, 1, 1, 1) - 0.5
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * (2 * rng.rand(n, 1, 1, 1)) + mean if x.shape[1] > 1 else x
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (rng.rand(n, 1, 1, 1) + 0.5) + mean


def _translation(x: Tensor, rng: Rng) -> Tensor:
    """Shift by up to an eighth of the side in each direction, and fill with zeros."""
    rows, columns = (_shifted_indices(x, size, rng) for size in x.shape[2:])
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    n = torch.arange(len(x), device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[n, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _shifted_indices(x: Tensor, size: int, rng: Rng) -> Tensor:
    """For each sample and each row, the row of the padded image to take, (N, size)."""
    largest = int(size * SHIFT + 0.5)
    shift = rng.randint(2 * largest + 1, len(x), 1) - largest
    return (torch.arange(size, device=x.device) + shift + 1).clamp(0, size + 1)


def _cutout(x: Tensor, rng: Rng) -> Tensor:
    """Clear a square of half the side. Its centre is anywhere in the image, so part of it may lie outside."""
    keep = torch.ones((), device=x.device, dtype=torch.bool)
    for dimension, size in ((2, x.shape[2]), (3, x.shape[3])):
        hole = int(size * HOLE + 0.5)
        start = rng.randint(size + (1 - hole % 2), len(x), 1) - hole // 2
        position = torch.arange(size, device=x.device)
        inside = (position >= start) & (position < start + hole)
        keep = keep & inside.view(len(x), *(size if d == dimension else 1 for d in (1, 2, 3)))
    return x * ~keep


POLICIES: dict[str, Callable[[Tensor, Rng], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def check_policies(policies: Sequence[str]) -> None:
    """Refuse unknown policies.

    Raises:
        ConfigError: there is no policy of that name.
    """
    for name in policies:
        if name not in POLICIES:
            raise ConfigError(f"no augmentation is called {name!r}: {did_you_mean(name, POLICIES)}")


def augment(x: Tensor, policies: Sequence[str], rng: Rng) -> Tensor:
    """Augment images for D, each independently of the others. The result is twice differentiable.

    Args:
        x: images (N, C, H, W) in [-1, 1].
        policies: names out of `POLICIES`, applied in this order.
        rng: the random stream.

    Returns:
        Images (N, C, H, W), which may leave [-1, 1].
    """
    for name in policies:
        x = POLICIES[name](x, rng)
    return x
