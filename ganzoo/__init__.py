"""ganzoo: a zoo of generative adversarial networks. Names that need torch are imported when they are first used."""

from typing import TYPE_CHECKING, Any

from ganzoo._lazy import lazy
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
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.hookspecs import Register, hookimpl
from ganzoo.zoo.networks import (
    create,
    list_architectures,
    list_data,
    list_losses,
    list_penalties,
    list_pretrained,
    list_trackers,
)
from ganzoo.zoo.plugins import register, unregister

if TYPE_CHECKING:
    from ganzoo.data.dataset import Composed, Data
    from ganzoo.evaluation.evaluator import Evaluator
    from ganzoo.evaluation.measure import evaluate
    from ganzoo.evaluation.perceptual import perceptual_distance
    from ganzoo.latent.directions import Directions, directions
    from ganzoo.latent.invert import Inversion, invert
    from ganzoo.latent.latents import Latents, latents, render
    from ganzoo.latent.walk import walk
    from ganzoo.report.shown import Shown, show
    from ganzoo.report.trackers import TrackedRun, Tracker
    from ganzoo.rng import Rng, seeds_of, uniform_of
    from ganzoo.sampling.draw import sample
    from ganzoo.store.card import cards_folder
    from ganzoo.store.hub import fetch_file
    from ganzoo.store.publish import push
    from ganzoo.store.results import Result
    from ganzoo.store.save import save_pretrained
    from ganzoo.store.source import from_pretrained
    from ganzoo.training.loop import Run, train
    from ganzoo.training.objective import Batch, Loss, Objective, Penalty

__all__ = [
    "Batch",
    "CheckError",
    "CheckpointError",
    "Composed",
    "ConfigError",
    "Data",
    "DataError",
    "Directions",
    "EvaluationError",
    "Evaluator",
    "ExportError",
    "GanzooError",
    "HubError",
    "Inversion",
    "Latents",
    "Loss",
    "Objective",
    "Penalty",
    "PluginError",
    "Register",
    "Result",
    "Rng",
    "Run",
    "SampleError",
    "Shown",
    "TrackedRun",
    "Tracker",
    "TrainConfig",
    "TrainingError",
    "UnknownNameError",
    "WeightsError",
    "cards_folder",
    "create",
    "directions",
    "evaluate",
    "fetch_file",
    "from_pretrained",
    "hookimpl",
    "invert",
    "latents",
    "list_architectures",
    "list_data",
    "list_losses",
    "list_penalties",
    "list_pretrained",
    "list_trackers",
    "perceptual_distance",
    "push",
    "register",
    "render",
    "sample",
    "save_pretrained",
    "seeds_of",
    "show",
    "train",
    "uniform_of",
    "unregister",
    "walk",
]

_imported = lazy(
    "ganzoo",
    {
        "Batch": "training.objective",
        "Composed": "data.dataset",
        "Data": "data.dataset",
        "cards_folder": "store.card",
        "Evaluator": "evaluation.evaluator",
        "evaluate": "evaluation.measure",
        "perceptual_distance": "evaluation.perceptual",
        "fetch_file": "store.hub",
        "from_pretrained": "store.source",
        "Directions": "latent.directions",
        "directions": "latent.directions",
        "Inversion": "latent.invert",
        "invert": "latent.invert",
        "Latents": "latent.latents",
        "latents": "latent.latents",
        "render": "latent.latents",
        "walk": "latent.walk",
        "Loss": "training.objective",
        "Objective": "training.objective",
        "Penalty": "training.objective",
        "push": "store.publish",
        "Result": "store.results",
        "Rng": "rng",
        "seeds_of": "rng",
        "uniform_of": "rng",
        "Shown": "report.shown",
        "show": "report.shown",
        "TrackedRun": "report.trackers",
        "Tracker": "report.trackers",
        "Run": "training.loop",
        "sample": "sampling.draw",
        "save_pretrained": "store.save",
        "train": "training.loop",
    },
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ganzoo")
    return _imported(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
