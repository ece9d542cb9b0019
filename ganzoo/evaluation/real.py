"""The real images of a measurement: the reference, and images that are not in it, whose figures are the floor."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.data.dataset import Composed, Data
from ganzoo.data.loading import has_test_split, load
from ganzoo.errors import EvaluationError
from ganzoo.rng import Rng
from ganzoo.zoo.plugins import registry


@dataclass(frozen=True)
class Real:
    """Real images.

    Attributes:
        name: that of the data.
        split: which part of it; None: the data's default, or all of it.
        data: the images.
    """

    name: str
    split: str | None
    data: Data

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.items.shape[1:])

    @cached_property
    def sha256(self) -> str:
        return self.data.digest()

    def protocol(self) -> dict[str, Any]:
        """The name, and the part if one was named."""
        return {"data": self.name, **({} if self.split is None else {"split": self.split})}

    def at_most(self, n: int) -> Tensor | Composed:
        """All images, or n of them in their order, always the same ones."""
        items = self.data.items
        subset = torch.randperm(len(items), generator=Rng(0, 0, "floor").generator)[:n].sort().values
        return Composed(items.source, items.table[subset]) if isinstance(items, Composed) else items[subset]


def open_reference(
    data: str | Data, split: str | None, data_dir: str, image_size: int | None, channels: int | None
) -> Real:
    """The images to compare samples with.

    Raises:
        EvaluationError: they are no images, or `ganzoo.Data` cannot have that split.
        DataError, ConfigError, UnknownNameError: as `ganzoo.data.load`.
    """
    if isinstance(data, Data):
        if split is not None:
            raise EvaluationError(f"ganzoo.Data has no split {split!r}: pass the images of the split themselves")
        return _checked(Real("data", None, data))
    return _checked(_open(data, split, data_dir, image_size, channels))


def open_held_out(
    held_out: str | Data | None, data: str | Data, split: str | None, data_dir: str, reference: Real
) -> Real | None:
    """Images that are not in the reference, in its shape.

    Args:
        held_out: images of their own: a data spec, of which the test split is taken if it has one, or `ganzoo.Data`.
            None: the other part of data with a train and a test split.
        data: the data spec or the data of the reference.
        split: the part of it that is the reference; None: the training split, or all of it.
        data_dir: the folder of named data sets.
        reference: the images that they must fit.

    Returns:
        The images; None if there are none.

    Raises:
        EvaluationError: they are no images, have another shape, or are the reference itself.
        DataError, ConfigError, UnknownNameError: as `ganzoo.data.load`.
    """
    channels, height, width = reference.shape
    side = height if height == width else None
    if isinstance(held_out, Data):
        real = Real("data", None, held_out)
    elif held_out is not None:
        real = _open(held_out, "test" if has_test_split(held_out) else None, data_dir, side, channels)
    elif isinstance(data, str) and (split == "test" or has_test_split(data)):
        real = _open(data, "train" if split == "test" else "test", data_dir, side, channels)
    else:
        return None
    _checked(real)
    if real.shape != reference.shape:
        raise EvaluationError(
            f"the held-out images of {real.name} are {real.shape} and the reference's {reference.shape}: give both the "
            "same shape"
        )
    if real.sha256 == reference.sha256:
        raise EvaluationError(f"the held-out images of {real.name} are the reference itself: choose others")
    return real


def _open(spec: str, split: str | None, data_dir: str, image_size: int | None, channels: int | None) -> Real:
    options = {} if split is None else {"split": split}
    name = spec if spec in registry().data else Path(spec).resolve().name
    return Real(name, split, load(spec, data_dir, image_size=image_size, channels=channels, options=options))


def _checked(real: Real) -> Real:
    if not real.data.is_image:
        raise EvaluationError(f"{real.name} holds no images, and only images can be measured")
    return real
