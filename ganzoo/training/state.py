"""The state of a training: networks, optimizers and counters."""

import copy
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.devices import to_host
from ganzoo.errors import CheckpointError, ConfigError, TrainingError
from ganzoo.sampling.classes import class_names, name_classes
from ganzoo.sampling.examples import Examples
from ganzoo.sampling.sound import rate_of
from ganzoo.sampling.statistics import estimate_statistics
from ganzoo.store.models import compare_tensors, tensor_facts
from ganzoo.store.runs import Checkpoint, load_newest, save_checkpoint
from ganzoo.training.augment import ADA
from ganzoo.training.batchnorm import synchronise
from ganzoo.training.build import Players
from ganzoo.training.distributed import Reducer, World
from ganzoo.training.optimizers import Optimizer
from ganzoo.training.schedules import Schedules
from ganzoo.training.settings import Pretrained
from ganzoo.zoo.config import TrainConfig

logger = logging.getLogger("ganzoo")


class Means:
    """Means of logged values. They are summed on the device and read once a log line: a read each step would wait for
    the device each time."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for key, value in values.items():
            self.totals[key] = self.totals[key] + value if key in self.totals else value
            self.counts[key] = self.counts.get(key, 0) + 1

    def read(self, **values: Tensor) -> dict[str, float]:
        """The means since the last call, and these scalars."""
        read = to_host({**self.totals, **values})
        means = {key: value.item() / (1 if key in values else self.counts[key]) for key, value in read.items()}
        self.totals.clear()
        self.counts.clear()
        return means


class State:
    """Networks, their average, optimizers and counters.

    Args:
        config: the run's settings.
        players: both networks and their objective, on the CPU; they are moved and become this state's.
        pretrained: the weights to start from, and the names of their classes, which stay where the data has none.
        device: where training runs.
        world: the processes that train together.
        memory_format: layout of the networks' weights.

    Raises:
        WeightsError: pretrained weights that do not fit the networks.
    """

    def __init__(
        self,
        config: TrainConfig,
        players: Players,
        pretrained: Pretrained,
        device: torch.device,
        world: World,
        memory_format: torch.memory_format,
    ) -> None:
        self.config, self.device = config, device
        self.g, self.d, self.objective, self.loss = players.g, players.d, players.objective, players.loss
        self.augmentation = players.augmentation
        self.augmentation.to(device)
        for module, state in ((self.g, pretrained.generator), (self.d, pretrained.discriminator)):
            if state is not None:
                own = tensor_facts(module.state_dict())
                compare_tensors(tensor_facts(state), own, f"{config.start} with these settings")
                module.load_state_dict(state)
        for module in (self.g, self.d):
            if hasattr(module, "prepare"):
                module.prepare()  # type: ignore[operator]
            module.to(device).to(memory_format=memory_format)
        extra: list[nn.Parameter] = []
        self.modules = {"generator": self.g, "discriminator": self.d}
        if isinstance(self.objective, nn.Module):
            extra = list(self.objective.to(device).parameters())
            self.modules["objective"] = self.objective
        self.ema = self.modules["ema"] = copy.deepcopy(self.g).requires_grad_(False).eval()
        if pretrained.classes and world.writes:
            _warn_of_moved(pretrained.classes, class_names(self.g) or [], f"{config.start}")
        self._keep_names(pretrained.classes)
        if pretrained.rate not in (None, rate_of(self.g)) and world.writes:
            change = f"{pretrained.rate} Hz, and those of the data {rate_of(self.g)} Hz"
            logger.warning("the sounds of %s have %s, so what it learned changes its pitch", config.start, change)
        if world.size > 1:
            for module in (self.g, self.d):
                synchronise(module, compiled=config.compile)
        if config.compile:
            self.g.compile(dynamic=False)
            self.d.compile(dynamic=False)
        g_parameters = [p for p in [*self.g.parameters(), *extra] if p.requires_grad]
        self.d_parameters = [p for p in self.d.parameters() if p.requires_grad]
        self.g_optimizer = Optimizer(config, g_parameters, config.lr)
        self.d_optimizer = Optimizer(config, self.d_parameters, config.d_lr or config.lr)
        self.optimizers = {"g_optimizer": self.g_optimizer, "d_optimizer": self.d_optimizer}
        self.g_reduce, self.d_reduce = Reducer(world, g_parameters), Reducer(world, self.d_parameters)
        self.schedules = Schedules(config, players.penalties, players.augmentation)
        self._averages: list[Tensor] = list(self.ema.parameters())
        self._raw: list[Tensor] = list(self.g.parameters())
        self.means = Means()
        self.examples: Examples | None = None  # of a translation
        self.statistics_inputs: Tensor | None = None
        self.step = 0
        self.best: dict[str, float] | None = None  # the step and the fid of the best checkpoint
        self.began_at = time.perf_counter()
        self._refreshed = -1

    @property
    def seconds(self) -> float:
        """Seconds of training so far, including those before a resumption; measurements do not count."""
        return time.perf_counter() - self.began_at

    def set_schedules(self) -> None:
        """Set the learning rates, and all other scheduled numbers, to their values at this step."""
        self.schedules.apply(self.step, {"g": self.g_optimizer, "d": self.d_optimizer})

    def steer(self, update: int, means: Mapping[str, Tensor]) -> None:
        """Take in the logged means of D's update 0 to n_critic - 1 of this step, over all processes, and steer ADA.

        Raises:
            ConfigError: the objective does not log what ADA is steered by.
        """
        self.means.add(means)
        if ADA not in self.augmentation:
            return
        if self.augmentation.steered:
            if "r_t" not in means:
                raise ConfigError(
                    f"the objective of {self.config.architecture} logs no r_t, by which ADA is steered: fix its "
                    "probability, as by --set augment.p=0.2, or take another augmentation"
                )
            self.augmentation.steer(self.step * self.config.n_critic + update, means["r_t"], self.config.batch_size)
        self.means.add({"augment_p": self.augmentation.p.clone()})

    @torch.no_grad()
    def average(self) -> None:
        """Update the averaged generator's parameters."""
        torch._foreach_lerp_(self._averages, self._raw, 1 - self.schedules.decay(self.step))

    @torch.no_grad()
    def refresh(self) -> None:
        """Update the averaged generator's buffers for its present parameters, at most once for each step."""
        if self._refreshed != self.step:
            for average, raw in zip(self.ema.buffers(), self.g.buffers(), strict=True):
                average.copy_(raw)
            estimate_statistics(self.ema, self.statistics_inputs)
            self._refreshed = self.step

    def check_finite(self, folder: Path) -> None:
        """Check the logged values, the weights and their averages.

        Raises:
            TrainingError: one of them is NaN or infinite.
        """
        finite = {("logged", key): total.isfinite() for key, total in self.means.totals.items()}
        for name, module in self.modules.items():
            if parts := [p.isfinite().all() for p in module.parameters()]:
                finite["network", name] = torch.stack(parts).all()
        if broken := [name for (_, name), fine in to_host(finite).items() if not fine]:
            raise not_finite(broken[0], self.step, folder)

    def save(self, folder: Path) -> None:
        """Write a checkpoint into the run folder.

        Raises:
            CheckpointError: it cannot be written.
        """
        self.refresh()
        tensors = {
            f"{name}.{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }
        for name, optimizer in self.optimizers.items():
            tensors |= {f"{name}.{key}": value for key, value in optimizer.tensors().items()}
        if ADA in self.augmentation:
            tensors |= {f"augment.{key}": value for key, value in self.augmentation.state_dict().items()}
        if self.examples is not None:
            tensors |= {f"examples.{key}": value for key, value in self.examples.tensors().items()}
        tensors |= {f"totals.{key}": value for key, value in self.means.totals.items()}
        model: dict[str, Any] = {"architecture": self.config.architecture}
        model |= {"generator": self.g.config, "discriminator": self.d.config, "classes": class_names(self.g)}
        model |= {"rate": rate_of(self.g)}
        state = {"seconds": self.seconds, "counts": self.means.counts, "model": model, "best": self.best}
        save_checkpoint(folder, self.step, tensors, state, best=None if self.best is None else int(self.best["step"]))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: something in it does not fit this run. Nothing is loaded then.
        """
        self._check(checkpoint)
        self.step, self.best = checkpoint.step, checkpoint.state.get("best")
        self.began_at -= checkpoint.state["seconds"]
        self._keep_names(checkpoint.state["model"].get("classes"))
        for name, module in self.modules.items():
            module.load_state_dict(checkpoint.part(name))
        for name, optimizer in self.optimizers.items():
            optimizer.load(checkpoint.part(name))
        if ADA in self.augmentation:
            self.augmentation.load_state_dict(checkpoint.part("augment"))
        self.examples = Examples.of(checkpoint.part("examples"))
        self.means.counts = dict(checkpoint.state["counts"])
        self.means.totals = {key: value.to(self.device) for key, value in checkpoint.part("totals").items()}

    def _check(self, checkpoint: Checkpoint) -> None:
        """Check a whole checkpoint before any of it is loaded."""

        def require(fine: bool, what: str) -> None:
            if not fine:
                raise CheckpointError(f"checkpoint {checkpoint.path} {what}: start a new run with another --out")

        state = checkpoint.state
        for name, module in self.modules.items():
            if name == "objective":  # may hold a history that grows, and loads it by its own rules
                try:
                    copy.deepcopy(module).load_state_dict(checkpoint.part(name))
                except RuntimeError as error:
                    require(False, f"does not fit this run at objective: {' '.join(str(error).split())}")
                continue
            own = tensor_facts(module.state_dict())
            actual = tensor_facts(checkpoint.part(name))
            wrong = next((key for key in {**own, **actual} if own.get(key) != actual.get(key)), None)
            require(wrong is None, f"does not fit this run at {name}.{wrong}")
        for name, optimizer in self.optimizers.items():
            fault = optimizer.fault(checkpoint.part(name))
            require(not fault, f"does not fit this run: {name} {fault}")
        if ADA in self.augmentation:
            own, actual = tensor_facts(self.augmentation.state_dict()), tensor_facts(checkpoint.part("augment"))
            require(own == actual, "does not fit this run at augment")
        totals, counts = checkpoint.part("totals"), state.get("counts")
        require(
            isinstance(counts, dict)
            and counts.keys() == totals.keys()
            and all(type(n) is int and n > 0 for n in counts.values())
            and not any(total.dim() for total in totals.values()),
            "has means that belong to nothing",
        )
        best = state.get("best")
        require(
            best is None
            or (isinstance(best, dict) and best.keys() == {"step", "fid"} and all(map(is_number, best.values()))),
            "has no step and fid of its best",
        )

    def _keep_names(self, names: list[str] | None) -> None:
        """Keep the names of classes from before this run, or before it was resumed, where the data has none."""
        for g in (self.g, self.ema):
            name_classes(g, class_names(g) or names)


def _warn_of_moved(before: list[str], names: list[str], start: str) -> None:
    """Warn where classes keep their names and change their numbers, because weights belong to numbers."""
    if moved := [name for number, name in enumerate(before) if name in names and names.index(name) != number]:
        logger.warning(
            "the class %r is number %d in %s and number %d in the data, so it starts as another class%s",
            moved[0],
            before.index(moved[0]),
            start,
            names.index(moved[0]),
            f", and so do {len(moved) - 1} more" if len(moved) > 1 else "",
        )


def not_finite(name: str, step: int, folder: Path) -> TrainingError:
    """The error for a value that became NaN or infinite."""
    try:
        checkpoint = load_newest(folder)
    except CheckpointError:
        checkpoint = None
    rest = f"the last whole checkpoint is {checkpoint.path}" if checkpoint else "there was no checkpoint yet"
    hint = "Try a lower --lr, another --loss, or a --penalty such as r1"
    return TrainingError(f"{name} became NaN or infinite by step {step}; {rest}. {hint}")


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
