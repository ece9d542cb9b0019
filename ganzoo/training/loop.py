"""The one training loop, for every architecture, loss and device."""

import contextlib
import dataclasses
import logging
import platform
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.data.dataset import Batches
from ganzoo.devices import choose_device, fast_arithmetic, keep_freed_memory
from ganzoo.errors import ConfigError, TrainingError
from ganzoo.progress import Progress, in_notebook
from ganzoo.report.shown import run_html
from ganzoo.report.trackers import Tracker, Tracking, make_trackers
from ganzoo.rng import preserve_torch, seed_torch, stream_seed
from ganzoo.sampling.options import takes_inputs
from ganzoo.store.owner import check_name, owning
from ganzoo.store.runs import create_run, cut_metrics, rewrite_config
from ganzoo.training.build import build_players, choose_augmentation, load_data
from ganzoo.training.distributed import World, join, local_device
from ganzoo.training.examples import choose_examples, statistics_inputs
from ganzoo.training.objective import Batch
from ganzoo.training.phases import Phases
from ganzoo.training.recorder import Recorder, Watchers, make_evaluator
from ganzoo.training.settings import Plan, check_batch_size, plan
from ganzoo.training.state import State
from ganzoo.training.stopping import stop_signals
from ganzoo.training.warnings import announce
from ganzoo.zoo.config import TrainConfig

logger = logging.getLogger("ganzoo")

STOP_EVERY = 10
"""Steps between checks, on a GPU, whether another process is to stop: each check waits for the device."""

Minimised = Callable[[nn.Module, nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]


@dataclass
class Run:
    """The result of `train`.

    Attributes:
        folder: the run folder.
        config: the settings, as they were used.
        step: the number of finished steps.
        generator: the averaged generator, in evaluation mode.
        raw_generator: the one that the optimizer updates.
        discriminator: the discriminator.
        metrics: the last log line.
        interrupted: whether a signal ended the run before its last step.
        signal: the number of that signal, of this process; None if there was none.
    """

    folder: Path
    config: TrainConfig
    step: int
    generator: nn.Module
    raw_generator: nn.Module
    discriminator: nn.Module
    metrics: dict[str, Any]
    interrupted: bool
    signal: int | None = None

    def __repr__(self) -> str:
        values = ", ".join(f"{k!r}: {v:.4g}" for k, v in self.metrics.items() if isinstance(v, int | float))
        facts = f"architecture={self.config.architecture!r}, step={self.step}, metrics={{{values}}}"
        text = f"Run({str(self.folder)!r}, {facts})"
        return textwrap.fill(text, 110, subsequent_indent="    ", max_lines=3, placeholder=" ...})")

    def _repr_html_(self) -> str:
        return run_html(self.folder, f"{self.folder}, step {self.step} of {self.config.steps}", self.metrics)


def train(
    config: TrainConfig | str,
    *,
    resume: bool = False,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    on_step: Callable[[int], None] | None = None,
    on_picture: Callable[[int, Path], None] | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Run:
    """Train a GAN into a run folder.

    Args:
        config: what to train, and how; or the name of an architecture.
        resume: continue the run in `config.out`, with the same result, bit for bit, as if it had never stopped. If
            there is none yet, start it.
        on_log: called with each line of metrics.jsonl, on the first process: the step, losses, accuracy, real images
            per second, and seconds of training.
        on_step: called after each step with the number of finished steps, on the first process.
        on_picture: called with the step and the PNG file of each picture of samples, on the first process.
        progress: show how far the training is, on one line that changes; None: in a notebook only.
        **settings: with the name of an architecture, settings as of `TrainConfig`, such as `steps=1000`.

    Returns:
        The finished run, or an interrupted one after SIGINT, SIGTERM or SIGHUP, which write a checkpoint first.

    Raises:
        ConfigError: settings that do not fit each other, this machine, or the run to resume.
        DataError: the data is missing, unreadable or too small.
        CheckpointError: the run folder exists, is damaged, or cannot be written.
        TrainingError: a loss or weight became NaN or infinite; the last whole checkpoint is kept.
    """
    if isinstance(config, str):
        config = TrainConfig(config, **settings)
    elif settings:
        raise ConfigError(f"{next(iter(settings))} is a setting of TrainConfig: set it there")
    device = local_device(choose_device(config.device))
    progress = in_notebook() if progress is None else progress
    keep_freed_memory()
    with preserve_torch(device), fast_arithmetic(device), warnings.catch_warnings():
        # torch.compile reads the gradient of D's input, which is not a leaf and has none.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
        warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, about a bar that a notebook does not miss
        try:
            with Progress(config.steps, enabled=progress) as line:
                watchers = Watchers(
                    log=[tell for tell in (line.log if progress else None, on_log) if tell],
                    step=[tell for tell in (line.step if progress else None, on_step) if tell],
                    picture=[on_picture] if on_picture else [],
                )
                return _train(config, device, resume, watchers)
        except _compiler_errors() as error:
            cause = str(error).strip().partition("\n")[0]
            raise TrainingError(f"torch.compile failed ({cause}): train without --compile") from error


def _compiler_errors() -> tuple[type[Exception], ...]:
    """The errors of torch.compile, if it has been imported, which takes a second."""
    module = sys.modules.get("torch._dynamo.exc")
    return (module.TorchDynamoException,) if module else ()


def _train(
    config: TrainConfig,
    device: torch.device,
    resume: bool,
    watchers: Watchers,
) -> Run:
    """The stages of a run: settings, data, networks, folder, loop."""
    world = join(device)
    if config.out is not None:
        check_name(config.out)
    with contextlib.ExitStack() as owned:
        if resume and config.out is not None and Path(config.out).is_dir():
            world.first(lambda: owned.enter_context(owning(Path(str(config.out)))))
        planned = world.first(lambda: plan(config, device, resume))
        return _run(planned, device, world, owned, watchers)


def _run(
    planned: Plan,
    device: torch.device,
    world: World,
    owned: contextlib.ExitStack,
    watchers: Watchers,
) -> Run:
    """The stages after the settings. `owned` holds the lock of the run folder, if that is there already."""
    config = planned.config
    check_batch_size(config, world.size)
    data = load_data(config)
    config = choose_augmentation(config, data)
    planned = dataclasses.replace(planned, config=config)
    memory_format = torch.channels_last if data.is_image else torch.contiguous_format
    batches = Batches(data, config.batch_size, config.seed, device, flip=config.flip, memory_format=memory_format)
    fingerprint = _check_fingerprint(data.digest(), planned, world)

    seed_torch(stream_seed(config.seed, 0, "init"), device)
    players = build_players(config, data)
    state = State(config, players, planned.pretrained, device, world, memory_format)
    if takes_inputs(players.g):
        state.examples, state.statistics_inputs = choose_examples(config, data), statistics_inputs(data)
    # Before there is a folder, because these may fail.
    evaluator = make_evaluator(config, data, device, world)
    trackers: dict[str, Tracker] = {}
    world.first(lambda: trackers.update(make_trackers(config.tracker_specs)))
    facts = {"fingerprint": fingerprint, "hardware": _hardware(device, world)}
    folder = world.first(lambda: _open_folder(planned, facts, device))
    if not planned.recorded:
        world.first(lambda: owned.enter_context(owning(folder)))
    if planned.checkpoint is not None:
        state.restore(planned.checkpoint)
    if world.writes:
        announce(config, data, players)
    if planned.recorded and world.writes:
        logger.info("resuming %s from step %d", folder, state.step)
        cut_metrics(folder, state.step)
        if state.step >= config.steps:
            logger.info("%s has all its %d steps already: give a larger --steps to go on", folder, state.step)

    first = state.step
    settings = {key: value for key, value in config.to_dict().items() if key not in ("out", "track")}
    tracking = owned.enter_context(Tracking(trackers, folder, settings, first))
    recorder = Recorder(config, data, folder, state, evaluator, world, tracking, watchers)
    if world.writes:
        recorder.page.write()
        logger.info("its page, written again as it goes on: %s", recorder.page.path)
    phases = Phases(config, batches, state.g, device, world)
    ended_by = _loop(config, state, phases, recorder, watchers.step if world.writes else ())
    recorder.finish(trained=state.step > first)
    world.wait()
    interrupted = state.step < config.steps
    number = ended_by if interrupted else None
    return Run(folder, config, state.step, state.ema, state.g, state.d, recorder.entry, interrupted, number)


def _loop(
    config: TrainConfig, state: State, phases: Phases, recorder: Recorder, on_step: Sequence[Callable[[int], None]]
) -> int | None:
    """Train until the last step, or until a signal asks to stop, and return its number."""
    g, d, objective, device, world = state.g, state.d, state.objective, state.device, phases.world
    observe = getattr(objective, "observe", lambda logs: None)  # a class of its own may have none
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    g.train()
    d.train()
    with stop_signals() as stop:
        stopping = False
        while state.step < config.steps and not stopping:
            state.set_schedules()

            # The discriminator's phase: n_critic updates.
            for update in range(config.n_critic):
                state.d_optimizer.zero_grad()
                logs: dict[str, Tensor] = {}
                for batch in phases.discriminator(state.step, update):
                    with autocast:
                        loss, values = objective.discriminator_loss(g, d, batch)
                    torch.autograd.backward(_part(loss, phases.parts))
                    _add(logs, values, config.accumulate)
                state.steer(update, state.d_reduce(logs))
                state.d_optimizer.step()
                state.loss.after_discriminator_step(d)

            # The generator's phase, through a discriminator whose parameters need no gradients.
            state.g_optimizer.zero_grad()
            logs = {}
            with frozen(state.d_parameters):
                for batch in phases.generator(state.step):
                    with autocast:
                        loss, values = objective.generator_loss(g, d, batch)
                    torch.autograd.backward(_part(loss, phases.parts))
                    _add(logs, values, config.accumulate)
            if world.size > 1:
                logs["stop"] = torch.full((), float(stop.is_set()), device=device)
            logs = state.g_reduce(logs)
            stops = logs.pop("stop", None)
            state.means.add(logs)
            observe(logs)
            state.g_optimizer.step()

            # The averaged generator.
            state.average()
            state.step += 1

            # Log, sample, checkpoint. A signal adds a checkpoint and nothing else, so that the log of a resumed run is
            # the uninterrupted one's too. It is read once: one that comes later waits for the next step.
            if stops is None:
                stopping = stop.is_set()
            elif device.type == "cpu" or state.step % STOP_EVERY == 0:  # all processes stop at the same step
                stopping = bool(stops > 0)
            recorder.improved = False
            if recorder.due(config.log_every) or recorder.due(config.eval_every):
                recorder.log(batch)
            if recorder.due(config.sample_every):
                recorder.sample()
            if recorder.due(config.checkpoint_every) or stopping or recorder.improved:
                recorder.checkpoint()
            for tell in on_step:
                tell(state.step)
    return stop.number


def _add(logs: dict[str, Tensor], values: Mapping[str, Tensor], parts: int) -> None:
    """Add the values that one of `parts` parts of a batch logs to the batch's means."""
    for key, value in values.items():
        mean = _part(value.detach(), parts)
        logs[key] = logs[key] + mean if key in logs else mean


def _part(mean: Tensor, parts: int) -> Tensor:
    """What the mean over one of `parts` equal parts adds to the mean over all."""
    return mean if parts == 1 else mean / parts


def _check_fingerprint(fingerprint: str, planned: Plan, world: World) -> str:
    """The data's hash, which must be that of the run to resume and of all processes."""
    config = planned.config
    if planned.recorded.get("fingerprint", fingerprint) != fingerprint:
        before = planned.recorded["config"]["data"]
        what = "has changed since" if before == config.data else f"is not that of {before!r}, with which"
        raise ConfigError(
            f"the data {config.data!r} {what} the run in {config.out} began: start a new run with another --out"
        )
    if world.first(lambda: fingerprint) != fingerprint:
        raise ConfigError(f"the data {config.data!r} of process {world.rank} is not that of process 0")
    return fingerprint


def _open_folder(planned: Plan, facts: dict[str, Any], device: torch.device) -> Path:
    """Create the run folder, or bring that of a run that goes on up to date."""
    config = planned.config
    if planned.recorded:
        folder = Path(str(config.out))
        rewrite_config(folder, config, facts)
        return folder
    folder = create_run(config, facts)
    logger.info(
        "training %s on %s into %s (%s, %s)", config.architecture, config.data, folder, device, config.precision
    )
    return folder


def _hardware(device: torch.device, world: World) -> str:
    count = torch.get_num_threads()
    one = f"{count} thread{'s' if count > 1 else ''} of a {platform.machine()} CPU"
    if device.type == "cuda":
        one = f"one {torch.cuda.get_device_name(device)}"
    return one if world.size == 1 else f"{world.size} processes, each on {one}"


@contextlib.contextmanager
def frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    """In the block, these parameters require no gradients."""
    flags = [p.requires_grad for p in parameters]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p, flag in zip(parameters, flags, strict=True):
            p.requires_grad_(flag)
