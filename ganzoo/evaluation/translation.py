"""The inputs that generators translate in a measurement, what they should become, and a trivial answer to them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ganzoo.errors import EvaluationError
from ganzoo.evaluation.differences import Differences
from ganzoo.evaluation.real import Real, choice


@dataclass(frozen=True)
class Translation:
    """The inputs of a measurement.

    Attributes:
        real: the data that holds them.
        spec: the `--inputs` spec; None: the data has inputs of its own.
        n: how many of them are translated: all, or always the same ones in their order. Of pairs, these are the pairs
            of the images of the floor.
    """

    real: Real
    spec: str | None
    n: int

    @property
    def paired(self) -> bool:
        return self.real.data.paired

    @cached_property
    def rows(self) -> Tensor:
        return choice(len(self.real.data.inputs), self.n)  # type: ignore[arg-type]  # there are inputs

    @cached_property
    def inputs(self) -> Tensor:
        """The inputs (n, ...), images as uint8."""
        return self.real.data.inputs[self.rows]  # type: ignore[index]

    @property
    def labels(self) -> Tensor | None:
        """The classes (n,) of the images that they belong to; None without pairs or classes."""
        labels = self.real.data.labels
        return labels[self.rows] if self.paired and labels is not None else None

    @cached_property
    def baseline(self) -> str:
        """What the trivial answer is; empty if the inputs give none. Those of one channel are taken as grey images."""
        if self.inputs.dtype != torch.uint8 or self.inputs.shape[1] not in (1, self.real.shape[0]):
            return ""
        size, target = self.inputs.shape[2:], self.real.shape[1:]
        if tuple(size) == target:
            return "the inputs themselves"
        return "bicubic enlargement" if size[0] < target[0] and size[1] < target[1] else ""

    def answers(self, batch: int) -> Iterator[Tensor]:
        """The trivial answers, uint8 (batch, C, H, W) of the shape of the images, in batches."""
        channels, *size = self.real.shape
        for x in torch.split(self.inputs, batch):
            if list(x.shape[2:]) != size:
                x = interpolate(x.float(), size, mode="bicubic", antialias=True, align_corners=False)
                x = x.round().clamp(0, 255).byte()
            yield x.expand(-1, channels, -1, -1)

    def compared(self, images: Iterable[Tensor], differences: Differences) -> Iterator[Tensor]:
        """The images that were made of the inputs, in batches, each compared with those that they should be."""
        done = 0
        for batch in images:
            differences.add(batch, self.real.data.items[self.rows[done : done + len(batch)]])
            done += len(batch)
            yield batch

    @cached_property
    def protocol(self) -> dict[str, Any]:
        facts: dict[str, Any] = {} if self.spec is None else {"spec": Path(self.spec).resolve().name}
        if self.real.split is not None:
            facts["split"] = self.real.split
        return {
            **facts,
            "n": len(self.real.data.inputs),  # type: ignore[arg-type]
            "shape": list(self.inputs.shape[1:]),
            "paired": self.paired,
            "sha256": self.real.data.digest(),
            "baseline": self.baseline,
        }


def check_use(translates: bool, *, some: bool, asked: bool) -> None:
    """Check that there are inputs for a generator that translates, and that none were asked for where it does not.

    Args:
        translates: whether the generator does.
        some: whether there are inputs.
        asked: whether they, or metrics of pairs, were asked for.

    Raises:
        EvaluationError: they are missing, or there is no use for them.
    """
    if translates and not some:
        raise EvaluationError("this generator translates inputs, and there are none: add --inputs SPEC, as in training")
    if asked and not translates:
        raise EvaluationError("this generator translates nothing: leave --inputs and the metrics of pairs out")
