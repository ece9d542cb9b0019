"""Differentiable augmentation of D's inputs, real and generated alike: the policies of DiffAugment (Zhao et al. 2020,
https://arxiv.org/abs/2006.10738, section 3 and the settings in its appendix), and ADA."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ganzoo.errors import ConfigError, did_you_mean
from ganzoo.rng import Rng
from ganzoo.training.ada import pipeline

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
        for name in self.policies:
            x = pipeline(x, self.p, rng) if name == ADA else POLICIES[name](x, rng)
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
