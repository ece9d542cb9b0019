"""The real images of a measurement: the reference, images that are not in it, whose figures are the floor, and those
whose inputs are translated."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.data.dataset import Composed, Data
from ganzoo.data.loading import HALVES, SIDES, has_test_split, load
from ganzoo.errors import EvaluationError
from ganzoo.rng import Rng
from ganzoo.zoo.plugins import registry

logger = logging.getLogger("ganzoo")


@dataclass(frozen=True)
class Real:
    """Real images.

    Attributes:
        name: that of the data.
        split: which part of it; None: the data's default, or all of it.
        data: the images, and their inputs if they have any.
    """

    name: str
    split: str | None
    data: Data

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.items.shape[1:])

    @cached_property
    def sha256(self) -> str:
        """The hash of the images alone."""
        return replace(self.data, inputs=None).digest()

    def protocol(self) -> dict[str, Any]:
        """The name, and the part if one was named."""
        return {"data": self.name, **({} if self.split is None else {"split": self.split})}

    def at_most(self, n: int) -> Tensor | Composed:
        """All images, or n of them in their order, always the same ones."""
        items, subset = self.data.items, choice(len(self.data.items), n)
        return Composed(items.source, items.table[subset]) if isinstance(items, Composed) else items[subset]


def choice(count: int, n: int) -> Tensor:
    """n of `count` indices in rising order, always the same ones; all of them if there are no more."""
    return torch.randperm(count, generator=Rng(0, 0, "floor").generator)[:n].sort().values


@dataclass(frozen=True)
class Opened:
    """The real images of a measurement.

    Attributes:
        reference: the images to compare samples with.
        held_out: images that are not in the reference, in its shape; None if there are none.
        given: the images whose inputs are translated: the test part of the data if it has one, else the reference; None
            if there are no inputs.
    """

    reference: Real
    held_out: Real | None
    given: Real | None


def open_images(
    data: str | Data,
    held_out: str | Data | None,
    split: str | None,
    inputs: str | None,
    options: Mapping[str, Any],
    *,
    input_size: int | None,
    input_channels: int | None,
    **shape: Any,
) -> Opened:
    """Open the real images of a measurement.

    Args:
        data: a data spec or `ganzoo.Data`.
        held_out: images of their own: a data spec, of which the test split is taken if it has one, or `ganzoo.Data`.
            None: the other part of data with a train and a test split.
        split: the part of the data that is the reference; None: the training split, or all of it.
        inputs: an `--inputs` spec; None: those that the data brings.
        options: for `ganzoo.data.load`.
        input_size: height and width of the inputs, as an option.
        input_channels: channels of the inputs, as an option.
        **shape: `data_dir`, `image_size` and `channels` of `ganzoo.data.load`.

    Raises:
        EvaluationError: they are no images, the held-out ones have another shape or are the reference itself, or
            `ganzoo.Data` cannot have that split, inputs or options.
        DataError, ConfigError, UnknownNameError: as `ganzoo.data.load`.
    """
    sizes = {"input_size": input_size, "input_channels": input_channels}
    options = {**{name: size for name, size in sizes.items() if size is not None}, **options}
    if isinstance(data, Data):
        if split is not None:
            raise EvaluationError(f"ganzoo.Data has no split {split!r}: pass the images of the split themselves")
        if inputs is not None or options:
            raise EvaluationError("ganzoo.Data holds its inputs itself: leave inputs and data_options out")
        reference, other = _checked(Real("data", None, data)), None
    else:
        reference = _checked(_open(data, split, inputs, options, **shape))
        other = "train" if split == "test" else "test" if has_test_split(data, inputs) else None
    if reference.shape[0] == 3 and _is_grey(reference.data.items):
        logger.warning("the images of %s are grey, and samples in colour are compared with them", reference.name)
    second, translates = None, reference.data.inputs is not None
    if isinstance(data, str) and other and (held_out is None or (other == "test" and translates)):
        second = _open(data, other, inputs, options, **{**shape, **_shape_of(reference)})
    held = second if held_out is None else _open_held_out(held_out, inputs, reference, shape["data_dir"])
    if held is not None:
        _check_held_out(held, reference)
    given = second if second is not None and other == "test" else reference
    return Opened(reference, held, given if translates else None)


def _shape_of(reference: Real) -> dict[str, int | None]:
    channels, height, width = reference.shape
    return {"image_size": height if height == width else None, "channels": channels}


def _open_held_out(held_out: str | Data, inputs: str | None, reference: Real, data_dir: str) -> Real:
    """Images of their own. Where the inputs lie beside the images, these are looked for in the same place."""
    if isinstance(held_out, Data):
        return Real("data", None, held_out)
    beside = inputs if inputs in SIDES or inputs in HALVES else None
    part = "test" if has_test_split(held_out, beside) else None
    options = {} if beside is None else {"paired": False}
    return _open(held_out, part, beside, options, data_dir=data_dir, **_shape_of(reference))


def _check_held_out(real: Real, reference: Real) -> None:
    _checked(real)
    if real.shape != reference.shape:
        raise EvaluationError(
            f"the held-out images of {real.name} are {real.shape} and the reference's {reference.shape}: give both the "
            "same shape"
        )
    if real.sha256 == reference.sha256:
        raise EvaluationError(f"the held-out images of {real.name} are the reference itself: choose others")


def _open(spec: str, split: str | None, inputs: str | None, options: Mapping[str, Any], **shape: Any) -> Real:
    part = {} if split is None else {"split": split}
    name = spec if spec in registry().data else Path(spec).resolve().name
    return Real(name, split, load(spec, inputs=inputs, options={**options, **part}, **shape))


def _is_grey(items: Any) -> bool:
    """Whether the three channels of images (N, 3, H, W) are the same in all of a thousand of them."""
    some = items[:: -(-len(items) // 1000)]
    return bool((some == some[:, :1]).all())


def _checked(real: Real) -> Real:
    if not real.data.is_image:
        raise EvaluationError(f"{real.name} holds no images, and only images can be measured")
    return real
