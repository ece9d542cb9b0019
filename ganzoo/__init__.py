"""ganzoo: a zoo of generative adversarial networks. Names that need torch are imported when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ganzoo.config import TrainConfig
from ganzoo.errors import (
    CheckError,
    CheckpointError,
    ConfigError,
    DataError,
    EvaluationError,
    ExportError,
    GanzooError,
    HubError,
    PluginError,
    SampleError,
    TrainingError,
    UnknownNameError,
    WeightsError,
)
from ganzoo.hookspecs import Register, hookimpl
from ganzoo.plugins import register, unregister
from ganzoo.zoo import create, list_architectures, list_data, list_losses, list_penalties, list_pretrained

if TYPE_CHECKING:
    from ganzoo.card import cards_folder
    from ganzoo.data import Composed, Data
    from ganzoo.evaluation import Evaluator, evaluate
    from ganzoo.hub import fetch_file, from_pretrained, push
    from ganzoo.loss import Batch, Loss, Objective, Penalty
    from ganzoo.results import Result
    from ganzoo.rng import Rng
    from ganzoo.sampling import sample
    from ganzoo.training import Run, train
    from ganzoo.weights import save_pretrained

__all__ = [
    "Batch",
    "CheckError",
    "CheckpointError",
    "Composed",
    "ConfigError",
    "Data",
    "DataError",
    "EvaluationError",
    "Evaluator",
    "ExportError",
    "GanzooError",
    "HubError",
    "Loss",
    "Objective",
    "Penalty",
    "PluginError",
    "Register",
    "Result",
    "Rng",
    "Run",
    "SampleError",
    "TrainConfig",
    "TrainingError",
    "UnknownNameError",
    "WeightsError",
    "cards_folder",
    "create",
    "evaluate",
    "fetch_file",
    "from_pretrained",
    "hookimpl",
    "list_architectures",
    "list_data",
    "list_losses",
    "list_penalties",
    "list_pretrained",
    "push",
    "register",
    "sample",
    "save_pretrained",
    "train",
    "unregister",
]

_LAZY = {
    "Batch": "loss",
    "Composed": "data",
    "Data": "data",
    "cards_folder": "card",
    "Evaluator": "evaluation",
    "evaluate": "evaluation",
    "fetch_file": "hub",
    "from_pretrained": "hub",
    "Loss": "loss",
    "Objective": "loss",
    "Penalty": "loss",
    "push": "hub",
    "Result": "results",
    "Rng": "rng",
    "Run": "training",
    "sample": "sampling",
    "save_pretrained": "weights",
    "train": "training",
}
"""Where the names that need torch live."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ganzoo")
    if name not in _LAZY:
        raise AttributeError(f"module 'ganzoo' has no attribute {name!r}")
    value = getattr(import_module(f"ganzoo.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
