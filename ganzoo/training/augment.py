"""Differentiable augmentation of D's inputs, real and generated alike: the policies of DiffAugment (Zhao et al. 2020,
https://arxiv.org/abs/2006.10738, section 3 and the settings in its appendix), and ADA."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import ConfigError, did_you_mean
from ganzoo.rng import Rng, to_device
from ganzoo.training.ada import draw, pipeline

ADA = "ada"
UPDATES = 4
"""Updates of D between two changes of ADA's probability (Karras et al. 2020, section 3.1)."""
HIGHEST = 0.8
"""The highest probability that steering reaches. Above about this, augmentations leak into the generator's images
(Karras et al. 2020, section 2.2)."""
SHIFT = 1 / 8
"""The largest translation, as a fraction of the image's side."""
HOLE = 1 / 2
"""The side of the square that cutout clears, as a fraction of the image's side."""


class Policy(NamedTuple):
    """A policy of DiffAugment.

    Attributes:
        draw: draws its numbers (N, K) for images of this shape.
        apply: changes images (N, C, H, W) by these numbers.
    """

    draw: Callable[[Rng, torch.Size], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]


def _draw_color(rng: Rng, shape: torch.Size) -> Tensor:
    return torch.cat([rng.rand(shape[0], 1) for _ in range(3 if shape[1] > 1 else 2)], 1)


def _color(x: Tensor, numbers: Tensor) -> Tensor:
    """Shift the brightness by -0.5 to 0.5, and scale the saturation by 0 to 2 and the contrast by 0.5 to 1.5."""
    brightness, *saturation, contrast = numbers[:, :, None, None, None].unbind(1)
    x = x + brightness - 0.5
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * (2 * saturation[0]) + mean if saturation else x
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def _draw_translation(rng: Rng, shape: torch.Size) -> Tensor:
    """The shifts down and to the right."""
    largest = [int(size * SHIFT + 0.5) for size in shape[2:]]
    return torch.cat([rng.randint(2 * most + 1, shape[0], 1) - most for most in largest], 1).float()


def _translation(x: Tensor, shifts: Tensor) -> Tensor:
    """Shift by up to an eighth of the side in each direction, and fill with zeros."""
    # For each sample and each row, the row of the padded image to take, (N, size).
    rows, columns = (
        (torch.arange(1.0, size + 1, device=x.device) + shift).clamp(0, size + 1).long()
        for size, shift in zip(x.shape[2:], shifts[:, :, None].unbind(1), strict=True)
    )
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    n = torch.arange(len(x), device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[n, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _draw_cutout(rng: Rng, shape: torch.Size) -> Tensor:
    """The first row and the first column of the square."""
    holes = [(size, int(size * HOLE + 0.5)) for size in shape[2:]]
    return torch.cat([rng.randint(size + (1 - hole % 2), shape[0], 1) - hole // 2 for size, hole in holes], 1).float()


def _cutout(x: Tensor, starts: Tensor) -> Tensor:
    """Clear a square of half the side. Its centre is anywhere in the image, so part of it may lie outside."""
    inside = []
    for size, start in zip(x.shape[2:], starts.unbind(1), strict=True):
        position = torch.arange(float(size), device=x.device) - start[:, None]
        inside.append((position >= 0) & (position < int(size * HOLE + 0.5)))
    rows, columns = inside
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])


POLICIES: dict[str, Policy] = {
    "color": Policy(_draw_color, _color),
    "translation": Policy(_draw_translation, _translation),
    "cutout": Policy(_draw_cutout, _cutout),
}


class Augmentation:
    """The augmentations of D's inputs: policies of DiffAugment, and ADA with its probability.

    The probability `p` of ADA's operations rises while D separates the real items from the boundary of its decision
    too well, r_t = E[sign(D(real))] > target, and falls otherwise (Karras et al. 2020, ADA, arXiv:2006.06676, section
    3.1). It stays on the device, and is part of the checkpoint.

    Args:
        policies: any of "color", "translation", "cutout" and "ada", applied in this order.
        p: the probability, which then stays as it is unless it is scheduled; None: it is steered, from 0.
        target: the r_t that is aimed at.
        images: real images from one bound of the probability to the other, if r_t stays on one side.

    Raises:
        ConfigError: there is no policy of that name, or a number is out of range.
    """

    def __init__(
        self,
        policies: Sequence[str] = (),
        p: float | None = None,
        target: float = 0.6,
        images: float = 100_000,
    ) -> None:
        for name in policies:
            if name != ADA and name not in POLICIES:
                raise ConfigError(f"no augmentation is called {name!r}: {did_you_mean(name, [*POLICIES, ADA])}")
        for name, value in (("p", p or 0.0), ("target", target)):
            if not 0 <= value <= 1:
                raise ConfigError(f"augment.{name} must be a number from 0 to 1, not {value}")
        if not images > 0:
            raise ConfigError(f"augment.images must be above 0, not {images}")
        self.policies, self.target, self.images = tuple(policies), target, images
        self.steered = ADA in policies and p is None
        self.p = torch.tensor(p or 0.0)
        self.signs = torch.zeros(UPDATES)

    def __len__(self) -> int:
        """The number of policies."""
        return len(self.policies)

    def __iter__(self) -> Iterator[str]:
        """The names of the policies."""
        return iter(self.policies)

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Augment images for D, each independently of the others. The result is twice differentiable.

        Args:
            x: images (N, C, H, W) in [-1, 1].
            rng: the random stream.

        Returns:
            Images (N, C, H, W), which may leave [-1, 1].
        """
        if not self.policies:
            return x
        host = rng.on("cpu")
        drawn = [(draw if name == ADA else POLICIES[name].draw)(host, x.shape) for name in self.policies]
        numbers = to_device(torch.cat([part.flatten() for part in drawn]), rng.device)  # in one copy
        parts = torch.split(numbers, [part.numel() for part in drawn])
        for name, flat, part in zip(self.policies, parts, drawn, strict=True):
            own = flat.view_as(part)
            x = pipeline(x, self.p, own) if name == ADA else POLICIES[name].apply(x, own)
        return x

    @torch.no_grad()
    def steer(self, update: int, sign: Tensor, batch_size: int) -> None:
        """Take in the r_t of an update of D, and every four of them move the probability.

        Args:
            update: the number of updates of D before this one.
            sign: the mean of sign(D(real)) over the whole batch, a scalar.
            batch_size: the number of real images in it.
        """
        self.signs[update % UPDATES] = sign
        if update % UPDATES == UPDATES - 1:
            step = torch.sign(self.signs.mean() - self.target) * (UPDATES * batch_size / self.images)
            self.p.add_(step).clamp_(0, HIGHEST)

    def to(self, device: torch.device) -> None:
        """Move its state to a device."""
        self.p, self.signs = self.p.to(device), self.signs.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """Its state."""
        return {"p": self.p, "signs": self.signs}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state."""
        self.p.copy_(state["p"])
        self.signs.copy_(state["signs"])
