"""The output of a run: log lines, grids of samples, checkpoints and the model folder."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.data.dataset import Data
from ganzoo.evaluation.evaluator import Evaluator
from ganzoo.evaluation.features import choose_features
from ganzoo.files import replacing
from ganzoo.report.page import RunPage
from ganzoo.report.trackers import Tracking
from ganzoo.sampling import pictures, sound
from ganzoo.sampling.options import takes_inputs
from ganzoo.store.runs import append_metrics, save_picture, step_name
from ganzoo.store.save import save_pretrained
from ganzoo.training.distributed import World
from ganzoo.training.objective import Batch
from ganzoo.training.state import State, not_finite
from ganzoo.training.warnings import TrainingWarnings, diversity
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.networks import resolve
from ganzoo.zoo.plugins import registry

logger = logging.getLogger("ganzoo")

Log = dict[str, Any]


@dataclass(frozen=True)
class Watchers:
    """Whom to tell of each log line, each finished step, and each picture of samples."""

    log: Sequence[Callable[[Log], None]] = ()
    step: Sequence[Callable[[int], None]] = ()
    picture: Sequence[Callable[[int, Path], None]] = ()


class Recorder:
    """Writes into the run folder; of several processes, the first one does.

    Args:
        config: the run's settings.
        data: the training data.
        folder: the run folder.
        state: the state to record.
        evaluator: measures the averaged generator; None: it is not measured.
        world: the processes that train together.
        tracking: the trackers of the run.
        watchers: whom to tell of log lines and pictures.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: Data,
        folder: Path,
        state: State,
        evaluator: Evaluator | None,
        world: World,
        tracking: Tracking,
        watchers: Watchers,
    ) -> None:
        self.config, self.folder, self.state, self.world = config, folder, state, world
        self.tracking, self.watchers = tracking, watchers
        self.draws = (data.is_image or data.is_sound) and world.writes
        self.overview = sound.overview if data.is_sound else pictures.overview
        self.evaluator = evaluator
        self.warnings = TrainingWarnings(config, data)
        self.page = RunPage(folder)
        self.entry: Log = {"step": state.step}
        self.improved = False
        self._logged_at, self._logged_step = time.perf_counter(), state.step

    def due(self, every: int | None) -> bool:
        """Whether something that happens every so many steps, and at the last one, happens now."""
        step = self.state.step
        return every is not None and (step % every == 0 or step == self.config.steps)

    def log(self, batch: Batch) -> None:
        """Write a line of metrics.jsonl: the means since the last one, and the diversity of the generator's batch,
        unless that has one item.

        Raises:
            TrainingError: a mean is NaN or infinite.
        """
        state, now = self.state, time.perf_counter()
        varied: dict[str, Tensor] = {}
        if batch.fakes is not None and len(batch.fakes) > 1:
            varied["diversity"] = diversity(batch.fakes, batch.real)
        means = state.means.read(**varied)
        spread = {key: means.pop(key) for key in varied}
        if broken := [key for key, mean in means.items() if not math.isfinite(mean)]:
            raise not_finite(broken[0], state.step, self.folder)
        images = (state.step - self._logged_step) * self.config.batch_size * self.config.n_critic
        speed = images / (now - self._logged_at)
        self.entry = {"step": state.step, **means, "images_per_second": speed, "seconds": state.seconds, **spread}
        if self.due(self.config.eval_every) and self.evaluator is not None:
            self._measure(self.evaluator)
        self._logged_at, self._logged_step = time.perf_counter(), state.step
        if self.world.writes:
            if texts := self.warnings.check(self.entry):
                self.entry["warnings"] = texts
            append_metrics(self.folder, self.entry)
            self.tracking.log(self.entry)
            for tell in self.watchers.log:
                tell(self.entry)

    def _measure(self, evaluator: Evaluator) -> None:
        """Add the FID of the averaged generator to the log line, and note whether it is the best so far."""
        state, began_at = self.state, time.perf_counter()
        state.refresh()
        result = evaluator(state.ema)
        self.entry["fid"] = result.values["fid"]
        if result.fid_multiple is not None:
            self.entry["fid_multiple"] = result.fid_multiple
        self.improved = state.best is None or self.entry["fid"] < state.best["fid"]
        if self.improved:
            state.best = {"step": state.step, "fid": self.entry["fid"]}
        state.began_at += time.perf_counter() - began_at  # measuring is not training

    def sample(self) -> None:
        """Write the picture of samples of this step, always from the same latents, and the run's page."""
        if self.draws:
            self.state.refresh()
            g, seed, examples = self.state.ema, self.config.seed, self.state.examples
            if picture := self.overview(g, seed) if examples is None else examples.picture(g, seed):
                path = save_picture(self.folder, self.state.step, picture)
                self.tracking.picture(self.state.step, path)
                for tell in self.watchers.picture:
                    tell(self.state.step, path)
        if self.world.writes:
            self.page.write()

    def checkpoint(self) -> None:
        """Write a checkpoint, if everything in it is finite.

        Raises:
            TrainingError: something is NaN or infinite.
            CheckpointError: it cannot be written.
        """
        self.state.check_finite(self.folder)
        if self.world.writes:
            self.state.save(self.folder)

    def finish(self, *, trained: bool) -> None:
        """Refresh the averaged generator, and at the last step write the model folder.

        Args:
            trained: whether this call of `train` made at least one step.
        """
        state = self.state
        state.refresh()
        if not self.world.writes:
            return
        if state.best is not None:
            path = self.folder / "checkpoints" / step_name(int(state.best["step"]))
            logger.info("best fid %.4g at step %d, kept in %s", state.best["fid"], state.best["step"], path)
        model = self.folder / "model"
        if state.step >= self.config.steps and (trained or not model.exists()):
            # Written elsewhere first: if the disk is full, the model of a shorter run remains.
            name = model.as_posix() if model.is_absolute() else f"./{model.as_posix()}"
            with replacing(model) as temporary:
                save_pretrained(self.folder, temporary, name=name)
        self.page.write(force=True)


def make_evaluator(config: TrainConfig, data: Data, device: torch.device, world: World) -> Evaluator | None:
    """The evaluator of the averaged generator during training. None if `eval_every` is not set, and on all processes
    but the first.

    Raises:
        EvaluationError: the data or the features do not allow it.
    """
    if config.eval_every is None or not world.writes:
        return None
    translates = takes_inputs(resolve(registry().architecture(config.architecture).generator))
    return Evaluator(
        # by its name, its test split gives a floor, and the inputs of a translation
        config.data if translates or not config.data_options else data,
        data_dir=config.data_dir,
        inputs=config.inputs if translates else None,
        data_options=config.data_options if translates else None,
        translates=translates,
        metrics=("fid",),
        features=choose_features(config.eval_features, config.data),
        n=config.eval_samples,
        image_size=config.image_size,
        channels=config.channels,
        device=device,
    )
