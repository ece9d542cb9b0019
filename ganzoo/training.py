"""The one training loop, for every architecture, loss and device."""

import contextlib
import copy
import dataclasses
import logging
import math
import platform
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from ganzoo import checkpoint as ckpt
from ganzoo.config import MACHINE, TrainConfig
from ganzoo.data import Batches, Data
from ganzoo.distributed import Reducer, World, join, local_device, synchronise
from ganzoo.errors import CheckpointError, ConfigError, GanzooError, TrainingError
from ganzoo.evaluation import Evaluator
from ganzoo.health import Health, diversity
from ganzoo.loss import Batch
from ganzoo.parts import (
    choose_device,
    choose_precision,
    load_data,
    load_optimizer,
    make_networks,
    make_optimizer,
    optimizer_tensors,
    start_from,
)
from ganzoo.plugins import registry
from ganzoo.rng import Rng, preserve_torch, seed_torch, stream_seed
from ganzoo.sampling import draw_latent, estimate_statistics, overview
from ganzoo.weights import compare, save_pretrained

logger = logging.getLogger("ganzoo")

STOP_EVERY = 10
"""Steps between looks at another process's wish to stop on a GPU: each look waits for the device."""

Minimised = Callable[[nn.Module, nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]


@dataclass
class Run:
    """What `train` gives back.

    `generator` is the averaged one in evaluation mode, `raw_generator` the one the optimizer updates; `metrics` is the
    last log entry; `interrupted` is True if a signal ended the run before its last step.
    """

    folder: Path
    config: TrainConfig
    step: int
    generator: nn.Module
    raw_generator: nn.Module
    discriminator: nn.Module
    metrics: dict[str, Any]
    interrupted: bool


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Run:
    """Train a GAN into a run folder.

    Args:
        config: what to train, and how.
        resume: go on with the run in `config.out`, to the same bits as if it had never stopped. If nothing is there
            yet, start it.
        on_log: called with each line of metrics.jsonl: step, losses, accuracy, images a second (real images that D
            saw), seconds trained.
        on_step: called with the number of finished steps after each one. Of many processes, the first calls both.

    Returns:
        The finished run, or an interrupted one after SIGINT or SIGTERM, which write a checkpoint first.

    Raises:
        ConfigError: settings that do not fit each other, this machine, or the run to resume.
        DataError: the data is missing, unreadable or too small.
        CheckpointError: the run folder exists, is damaged, or cannot be written.
        TrainingError: a loss or weight became NaN or infinite; the last whole checkpoint is kept.
    """
    device = local_device(choose_device(config.device))
    with preserve_torch(device), _backends(device), warnings.catch_warnings():
        # torch.compile looks at the gradient of D's input, which has none to show.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
        try:
            return _train(config, device, join(device), resume, on_log, on_step)
        except TorchDynamoException as error:
            cause = str(error).strip().partition("\n")[0]
            raise TrainingError(f"torch.compile failed ({cause}): train without --compile") from error


def _train(
    config: TrainConfig,
    device: torch.device,
    world: World,
    resume: bool,
    on_log: Callable[[dict[str, Any]], None] | None,
    on_step: Callable[[int], None] | None,
) -> Run:
    # Settings, and the data that completes them.
    config, stored, resumed, pretrained = world.first(lambda: _settings(config, device, resume))
    parts = world.size * config.accumulate
    if config.batch_size % (parts * config.pack):
        split = f"{world.size} processes x {config.accumulate} parts x packs of {config.pack}"
        wanted = f"give a multiple of {parts * config.pack}"
        raise ConfigError(f"a batch of {config.batch_size} does not divide into {split}: {wanted}")
    data = load_data(config)
    layout = torch.channels_last if data.is_image else torch.contiguous_format
    batches = Batches(data, config.batch_size, config.seed, device, flip=config.flip, memory_format=layout)
    fingerprint = data.digest()
    if stored.get("fingerprint", fingerprint) != fingerprint:
        raise ConfigError(
            f"the data {config.data!r} has changed since the run in {config.out} began: train anew into another --out"
        )
    if world.first(lambda: fingerprint) != fingerprint:
        raise ConfigError(f"the data {config.data!r} of process {world.rank} is not that of process 0")

    # Networks, objective, optimizers, and the averaged generator.
    seed_torch(stream_seed(config.seed, 0, "init"), device)
    g, d, adversarial, objective = make_networks(config, data)
    if pretrained is not None:
        for module, state in zip((g, d), pretrained, strict=True):
            if state is not None:
                compare(_shapes(state), _shapes(module.state_dict()), f"{config.start} with these settings")
                module.load_state_dict(state)
    for module in (g, d):
        if hasattr(module, "prepare"):
            module.prepare()  # type: ignore[operator]
        module.to(device).to(memory_format=layout)
    extra = list(objective.to(device).parameters()) if isinstance(objective, nn.Module) else []
    ema = copy.deepcopy(g).requires_grad_(False).eval()
    if world.size > 1:
        synchronise(g)
        synchronise(d)
    if config.compile:
        g.compile(dynamic=False)
        d.compile(dynamic=False)
    g_parameters = [p for p in [*g.parameters(), *extra] if p.requires_grad]
    d_parameters = [p for p in d.parameters() if p.requires_grad]
    g_optimizer = make_optimizer(config, g_parameters, config.lr)
    d_optimizer = make_optimizer(config, d_parameters, config.d_lr or config.lr)
    g_reduce, d_reduce = Reducer(world, g_parameters), Reducer(world, d_parameters)
    averaged: list[Tensor] = list(ema.parameters())
    raw: list[Tensor] = list(g.parameters())
    modules: dict[str, nn.Module] = {"generator": g, "discriminator": d, "ema": ema}
    if isinstance(objective, nn.Module):
        modules["objective"] = objective
    optimizers = {"g_optimizer": g_optimizer, "d_optimizer": d_optimizer}

    evaluator = None
    if config.eval_every is not None and world.writes:
        evaluator = _evaluator(config, data, device)

    # The run folder, new or as it was.
    step, began_at = 0, time.perf_counter()
    best: dict[str, float] | None = None  # the step and fid of the best measured
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    facts = {"fingerprint": fingerprint, "hardware": _hardware(device, world)}
    folder = world.first(lambda: _open_run(config, facts, began=bool(stored), device=device))
    if resumed is not None:
        step, counts, best = resumed.step, resumed.state["counts"], resumed.state.get("best")
        began_at -= resumed.state["seconds"]
        for name, module in modules.items():
            module.load_state_dict(resumed.part(name))
        for name, optimizer in optimizers.items():
            load_optimizer(optimizer, resumed.part(name))
        totals = {key: value.to(device) for key, value in resumed.part("totals").items()}
    if stored and world.writes:
        logger.info("resuming %s from step %d", folder, step)
        ckpt.cut_metrics(folder, step)
        if step >= config.steps:
            logger.info("%s has all its %d steps already: give a larger --steps to go on", folder, step)

    refreshed = -1

    def refresh() -> None:
        """Bring the averaged generator's buffers up to its parameters, once a step at most."""
        nonlocal refreshed
        if refreshed != step:
            for mine, theirs in zip(ema.buffers(), g.buffers(), strict=True):
                mine.copy_(theirs)
            estimate_statistics(ema)
            refreshed = step

    def save() -> None:
        broken = [key for key, total in totals.items() if not math.isfinite(total.item())]
        broken += [name for name, module in modules.items() if not all(p.isfinite().all() for p in module.parameters())]
        if broken:
            raise _not_finite(broken[0], step, folder)
        if not world.writes:
            return
        refresh()
        tensors = {
            f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()
        }
        for name, optimizer in optimizers.items():
            tensors |= {f"{name}.{key}": value for key, value in optimizer_tensors(optimizer).items()}
        tensors |= {f"totals.{key}": value for key, value in totals.items()}
        model = {"architecture": config.architecture, "generator": g.config, "discriminator": d.config}
        state = {"seconds": time.perf_counter() - began_at, "counts": counts, "model": model, "best": best}
        ckpt.save(folder, step, tensors, state, best=None if best is None else int(best["step"]))

    # Training.
    logged_at, logged_step = time.perf_counter(), step
    entry: dict[str, Any] = {"step": step}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    g.train()
    d.train()
    last_critic = config.n_critic - 1
    latest: Batch | None = None
    health = Health()

    def draw(phase: str, k: int, part: int) -> Batch:
        # Dropout and whatever else draws from torch's own generator must resume exactly too.
        apart = f"/{part}" if parts > 1 else ""
        seed_torch(stream_seed(config.seed, step, f"{phase}/torch{apart}"), device)
        rng = Rng(config.seed, step, phase, device, part, parts)
        if phase == "g" and latest is not None and latest.shared:
            return dataclasses.replace(latest, rng=rng)
        real, labels, inputs = batches.get(k, part, parts)
        latents = f"z{last_critic if phase == 'g' else phase[1:]}"
        z = draw_latent(g, len(real), Rng(config.seed, step, latents, device, part, parts))
        whole = None if parts == 1 else lambda: batches.get(k)[0]
        shared = config.accumulate == 1 and phase == f"d{last_critic}"
        asked = labels if config.conditional else None
        return Batch(
            real, z, step, rng, labels=labels, fake_labels=asked, inputs=inputs, whole=whole, shared=shared
        )  # fmt: skip

    def gradients(phase: str, k: int, minimised: Minimised) -> dict[str, Tensor]:
        """Add the gradients of a phase's loss over this process's share of batch k; the means of what it logs."""
        nonlocal latest
        logged: dict[str, Tensor] = {}
        for j in range(config.accumulate):
            latest = draw(phase, k, world.rank * config.accumulate + j)
            with autocast:
                loss, logs = minimised(g, d, latest)
            torch.autograd.backward(loss / parts)
            for key, value in logs.items():
                mean = value.detach() / config.accumulate
                logged[key] = logged[key] + mean if key in logged else mean
        return logged

    def count(logs: dict[str, Tensor]) -> None:
        # Summed on the device and read once a log line: a read a step would wait for the device each time.
        for key, value in logs.items():
            totals[key] = totals[key] + value if key in totals else value
            counts[key] = counts.get(key, 0) + 1

    with _signals() as stop:
        stopping = False
        while step < config.steps and not stopping:
            scale = schedule(config.lr_schedule, step / config.steps)
            set_lr(g_optimizer, config.lr * scale)
            set_lr(d_optimizer, (config.d_lr or config.lr) * scale)

            # The discriminator's phase: n_critic updates.
            for i in range(config.n_critic):
                d_optimizer.zero_grad()
                logs = gradients(f"d{i}", step * config.n_critic + i, objective.discriminator_loss)
                count(d_reduce(logs))
                d_optimizer.step()
                adversarial.after_discriminator_step(d)

            # The generator's phase, through a discriminator that asks for no gradients of its own.
            g_optimizer.zero_grad()
            with frozen(d_parameters):
                logs = gradients("g", step * config.n_critic + last_critic, objective.generator_loss)
            seen, latest = latest, None
            if world.size > 1:
                logs["stop"] = torch.tensor(float(stop.is_set()))
            logs = g_reduce(logs)
            stops = logs.pop("stop", None)
            count(logs)
            g_optimizer.step()

            # The averaged generator.
            torch._foreach_lerp_(averaged, raw, 1 - ema_decay(step, config.ema_decay))
            step += 1

            # What a person sees, and what survives. A signal adds a checkpoint and nothing else, so that the log of a
            # resumed run is the uninterrupted one's too. It is read once: what comes later waits for the next step.
            if stops is None:
                stopping = stop.is_set()
            elif device.type == "cpu" or step % STOP_EVERY == 0:  # all processes stop at the same step
                stopping = bool(stops > 0)
            last = step == config.steps
            measured = config.eval_every is not None and (step % config.eval_every == 0 or last)
            improved = False
            if step % config.log_every == 0 or last or measured:
                means = {key: total.item() / counts[key] for key, total in totals.items()}
                if broken := [key for key, mean in means.items() if not math.isfinite(mean)]:
                    raise _not_finite(broken[0], step, folder)
                now = time.perf_counter()
                images = (step - logged_step) * config.batch_size * config.n_critic
                entry = {
                    "step": step,
                    **means,
                    "images_per_second": images / (now - logged_at),
                    "seconds": now - began_at,
                }
                totals.clear()
                counts.clear()
                if seen is not None and seen.made is not None:
                    entry["diversity"] = diversity(seen.made, seen.real).item()
                if measured and evaluator is not None:
                    refresh()
                    result = evaluator(ema)
                    entry["fid"] = result.values["fid"]
                    if result.fid_multiple is not None:
                        entry["fid_multiple"] = result.fid_multiple
                    improved = best is None or entry["fid"] < best["fid"]
                    if improved:
                        best = {"step": step, "fid": entry["fid"]}
                    began_at += time.perf_counter() - now  # measuring is not training
                logged_at, logged_step = time.perf_counter(), step
                if world.writes:
                    health.look(entry)
                    ckpt.append_metrics(folder, entry)
                    if on_log:
                        on_log(entry)
            if (step % config.sample_every == 0 or last) and data.is_image and world.writes:
                refresh()
                picture = folder / "samples" / f"step-{step:07d}.png"
                ckpt.save_picture(picture, overview(ema, config.seed))
            if step % config.checkpoint_every == 0 or last or stopping or improved:
                save()
            if on_step and world.writes:
                on_step(step)

    refresh()
    if best is not None and world.writes:
        where = folder / "checkpoints" / f"step-{int(best['step']):07d}"
        logger.info("best fid %.4g at step %d, kept in %s", best["fid"], best["step"], where)
    run = Run(folder, config, step, ema, g, d, entry, interrupted=step < config.steps)
    trained = resumed is None or step > resumed.step
    if world.writes and not run.interrupted and (trained or not (folder / "model").exists()):
        # Beside, then swapped: a full disk costs the new one, not that of the run before it was made longer.
        model, beside = folder / "model", folder / ".model.new"
        shutil.rmtree(beside, ignore_errors=True)
        save_pretrained(run, beside, name=model.as_posix() if model.is_absolute() else f"./{model.as_posix()}")
        shutil.rmtree(model, ignore_errors=True)
        beside.rename(model)
    world.wait()
    return run


def _settings(
    config: TrainConfig, device: torch.device, resume: bool
) -> tuple[TrainConfig, dict[str, Any], ckpt.Checkpoint | None, list[dict[str, Tensor] | None] | None]:
    """The settings as they will be used; what training.json holds and the newest checkpoint, if the run goes on; the
    weights it starts from, if a new one does not start from random ones."""
    stored: dict[str, Any] = {}
    resumed = pretrained = None
    if resume:
        if config.out is None:
            raise ConfigError("resume needs the run's folder: set out")
        folder = Path(config.out)
        if folder.exists() and any(folder.iterdir()):
            began, stored = ckpt.read_training(folder)
            config = _continued(began, config)
            resumed = ckpt.load_newest(folder)
        else:
            logger.info("nothing to resume in %s: starting there", folder)
    config = config.replace(precision=choose_precision(config, device))
    if config.start is not None and resumed is None:
        config, pretrained = start_from(config)
    return config, stored, resumed, pretrained


def _evaluator(config: TrainConfig, data: Data, device: torch.device) -> Evaluator:
    """What measures the averaged generator while it trains."""
    named = config.data in registry().data and not config.data_options  # whose test split gives a floor
    return Evaluator(
        config.data if named else data,
        data_dir=config.data_dir,
        metrics=("fid",),
        features=config.eval_features,
        n=config.eval_samples,
        image_size=config.image_size,
        channels=config.channels,
        device=device,
    )


def _open_run(config: TrainConfig, facts: dict[str, Any], *, began: bool, device: torch.device) -> Path:
    """Make the run folder, or bring that of a run that goes on up to date."""
    if began:
        folder = Path(str(config.out))
        ckpt.rewrite_config(folder, config, facts)
        return folder
    folder = ckpt.create_run(config, facts)
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


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()}


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def schedule(kind: str, progress: float) -> float:
    """The factor on the learning rate after this share of the steps."""
    return {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[kind]


def ema_decay(step: int, decay: float) -> float:
    """min(decay, (1 + step) / (10 + step)): the ramp-up keeps early averages from remembering the initial weights."""
    return min(decay, (1 + step) / (10 + step))


@contextlib.contextmanager
def frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    """No gradients for these parameters inside, each one's own `requires_grad` after."""
    flags = [p.requires_grad for p in parameters]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p, flag in zip(parameters, flags, strict=True):
            p.requires_grad_(flag)


@contextlib.contextmanager
def _backends(device: torch.device) -> Iterator[None]:
    """On CUDA: the same kernels each time, and TF32; nothing elsewhere."""
    if device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True):
        matmul.fp32_precision = "tf32"
        try:
            yield
        finally:
            matmul.fp32_precision = before


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second does what it always does."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[number])
        logger.info("stopping after this step: writing a checkpoint")

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _continued(began: TrainConfig, config: TrainConfig) -> TrainConfig:
    """The configuration to go on with: as the run began, but for a larger `steps` and where things are.

    Raises:
        ConfigError: another setting differs.
    """
    old, new = began.to_dict(), config.to_dict()
    for key, value in new.items():
        undecided = value is None or value == "auto"
        if key in MACHINE or undecided or value == old[key] or (key == "steps" and value > old[key]):
            continue
        hint = (
            "only a larger --steps can change" if key == "steps" else "leave it out, or train anew into another --out"
        )
        raise ConfigError(f"the run in {config.out} began with {key}={old[key]!r}, not {value!r}: {hint}")
    kept = {key: value for key, value in new.items() if key in MACHINE or key == "steps"}
    return began.replace(**kept)


def _not_finite(what: str, step: int, folder: Path) -> GanzooError:
    try:
        whole = ckpt.load_newest(folder)
    except CheckpointError:
        whole = None
    kept = f"the last whole checkpoint is {whole.path}" if whole else "there was no checkpoint yet"
    hint = "Try a lower --lr, another --loss, or a --penalty such as r1"
    return TrainingError(f"{what} became NaN or infinite by step {step}; {kept}. {hint}")
