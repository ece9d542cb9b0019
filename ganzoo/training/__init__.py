"""The trainer, for every architecture, loss and device."""

from typing import TYPE_CHECKING

from ganzoo._lazy import lazy

if TYPE_CHECKING:
    from ganzoo.training.loop import Run, train

__all__ = ["Run", "train"]

# Lazy, because plugins import the contract (training.objective), which needs none of the rest.
__getattr__ = lazy("ganzoo.training", dict.fromkeys(__all__, "loop"))
