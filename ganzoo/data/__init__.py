"""Training data: loading it from a `--data` spec, and drawing the batch of any step."""

from typing import TYPE_CHECKING

from ganzoo._lazy import lazy

if TYPE_CHECKING:
    from ganzoo.data.dataset import Batches, Composed, Data, has_test_split, load

__all__ = ["Batches", "Composed", "Data", "has_test_split", "load"]

# Lazy, because the processes that decode images import this package and need no torch.
__getattr__ = lazy("ganzoo.data", dict.fromkeys(__all__, "dataset"))
