"""Differentiable augmentation of what D sees, real and generated alike (Zhao et al. 2020, DiffAugment,
https://arxiv.org/abs/2006.10738, section 3 and the settings of its appendix)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganzoo.errors import ConfigError, did_you_mean
from ganzoo.rng import Rng

SHIFT = 1 / 8
"""Largest translation, as a share of the image's side."""
HOLE = 1 / 2
"""Side of the square that cutout clears, as a share of the image's."""


def _color(x: Tensor, rng: Rng) -> Tensor:
    """Brightness by up to 0.5 on the scale of [-1, 1]; saturation 0 to 2 times, contrast 0.5 to 1.5 times."""
    n = len(x)
    x = x + rng.rand(n, 1, 1, 1) - 0.5
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * (2 * rng.rand(n, 1, 1, 1)) + mean if x.shape[1] > 1 else x
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (rng.rand(n, 1, 1, 1) + 0.5) + mean


def _translation(x: Tensor, rng: Rng) -> Tensor:
    """Moved by up to an eighth of the side either way; zeros come in."""
    rows, columns = (_shifted(x, size, rng) for size in x.shape[2:])
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    n = torch.arange(len(x), device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[n, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _shifted(x: Tensor, size: int, rng: Rng) -> Tensor:
    """For each sample, which row of the image padded by one each row shows, (N, size)."""
    reach = int(size * SHIFT + 0.5)
    by = rng.randint(2 * reach + 1, len(x), 1) - reach
    return (torch.arange(size, device=x.device) + by + 1).clamp(0, size + 1)


def _cutout(x: Tensor, rng: Rng) -> Tensor:
    """A square of half the side set to zero, anywhere, perhaps half outside."""
    keep = torch.ones((), device=x.device, dtype=torch.bool)
    for dimension, size in ((2, x.shape[2]), (3, x.shape[3])):
        hole = int(size * HOLE + 0.5)
        start = rng.randint(size + (1 - hole % 2), len(x), 1) - hole // 2
        place = torch.arange(size, device=x.device)
        inside = (place >= start) & (place < start + hole)
        keep = keep & inside.view(len(x), *(size if d == dimension else 1 for d in (1, 2, 3)))
    return x * ~keep


POLICIES: dict[str, Callable[[Tensor, Rng], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def check_policies(policies: Sequence[str]) -> None:
    """Raises ConfigError for a policy that does not exist."""
    for name in policies:
        if name not in POLICIES:
            raise ConfigError(f"no augmentation is called {name!r}: {did_you_mean(name, POLICIES)}")


def augment(x: Tensor, policies: Sequence[str], rng: Rng) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as D is to see them, each changed on its own; differentiable twice."""
    for name in policies:
        x = POLICIES[name](x, rng)
    return x
