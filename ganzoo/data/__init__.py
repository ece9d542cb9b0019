"""Training data: loading it from a `--data` spec, and drawing the batch of any step."""

from typing import TYPE_CHECKING

from ganzoo._lazy import lazy

if TYPE_CHECKING:
    from ganzoo.data.dataset import Batches, Composed, Data
    from ganzoo.data.inputs import make_inputs
    from ganzoo.data.loading import has_test_split, load

__all__ = ["Batches", "Composed", "Data", "has_test_split", "load", "make_inputs"]

# Lazy, because the processes that decode images import this package and need no torch.
__getattr__ = lazy(
    "ganzoo.data",
    {
        **dict.fromkeys(("Batches", "Composed", "Data"), "dataset"),
        **dict.fromkeys(("has_test_split", "load"), "loading"),
        "make_inputs": "inputs",
    },
)
