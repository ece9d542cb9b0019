"""The one training loop, for every architecture, loss and device."""

import contextlib
import copy
import logging
import math
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo import checkpoint as ckpt
from ganzoo.config import MACHINE, TrainConfig
from ganzoo.data import Batches, Data, load
from ganzoo.errors import CheckpointError, ConfigError, GanzooError, TrainingError
from ganzoo.loss import Batch, Loss, Objective
from ganzoo.plugins import registry
from ganzoo.registry import build
from ganzoo.rng import Rng, stream_seed
from ganzoo.sampling import draw_latent, estimate_statistics, grid, sample, to_uint8
from ganzoo.zoo import network

logger = logging.getLogger("ganzoo")

GRID = 64
"""Images in the sample grids."""


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
        resume: go on with the run in `config.out`, to the same bits as if it had never stopped. If nothing is there yet,
            start it.
        on_log: called with each line of metrics.jsonl: step, losses, accuracy, images a second (real images that D saw),
            seconds trained.
        on_step: called with the number of finished steps after each one.

    Returns:
        The finished run, or an interrupted one after SIGINT or SIGTERM, which write a checkpoint first.

    Raises:
        ConfigError: settings that do not fit each other, this machine, or the run to resume.
        DataError: the data is missing, unreadable or too small.
        CheckpointError: the run folder exists, is damaged, or cannot be written.
        TrainingError: a loss or weight became NaN or infinite; the last whole checkpoint is kept.
    """
    with torch.random.fork_rng(), _deterministic():
        return _train(config, resume, on_log, on_step)


def _train(
    config: TrainConfig,
    resume: bool,
    on_log: Callable[[dict[str, Any]], None] | None,
    on_step: Callable[[int], None] | None,
) -> Run:
    # Settings, and the data that completes them.
    stored: dict[str, Any] = {}
    resumed = None
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
    device = choose_device(config.device)
    config = config.replace(precision=choose_precision(config, device))
    data = load(
        config.data,
        config.data_dir,
        image_size=config.image_size,
        channels=config.channels,
        options=config.data_options,
    )
    layout = torch.channels_last if data.is_image else torch.contiguous_format
    batches = Batches(data, config.batch_size, config.seed, device, flip=config.flip, memory_format=layout)
    fingerprint = f"{tuple(data.items.shape)} {zlib.crc32(data.items.numpy().reshape(-1).view('u1')):08x}"
    if stored.get("data", fingerprint) != fingerprint:
        raise ConfigError(f"the data {config.data!r} has changed since the run in {config.out} began: train anew into another --out")

    # Networks, objective, optimizers, and the averaged generator.
    torch.manual_seed(stream_seed(config.seed, 0, "init"))
    g, d, adversarial, objective = make_networks(config, data)
    for module in (g, d):
        module.to(device=device, memory_format=layout)
    extra = list(objective.to(device).parameters()) if isinstance(objective, nn.Module) else []
    g_parameters = [p for p in [*g.parameters(), *extra] if p.requires_grad]
    d_parameters = [p for p in d.parameters() if p.requires_grad]
    g_optimizer = make_optimizer(config, g_parameters, config.lr)
    d_optimizer = make_optimizer(config, d_parameters, config.d_lr or config.lr)
    ema = copy.deepcopy(g).requires_grad_(False).eval()
    averaged, raw = list(ema.parameters()), list(g.parameters())
    parts: dict[str, nn.Module] = {"generator": g, "discriminator": d, "ema": ema}
    if isinstance(objective, nn.Module):
        parts["objective"] = objective
    optimizers = {"g_optimizer": g_optimizer, "d_optimizer": d_optimizer}

    # The run folder, new or as it was.
    step, seconds = 0, 0.0
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    facts = {"data": fingerprint}
    if stored:
        ckpt.rewrite_config(folder, config, facts)
    else:
        folder = ckpt.create_run(config, facts)
    if resumed is not None:
        step, seconds, counts = resumed.step, resumed.state["seconds"], resumed.state["counts"]
        for name, module in parts.items():
            module.load_state_dict(resumed.part(name))
        for name, optimizer in optimizers.items():
            load_optimizer(optimizer, resumed.part(name))
        totals = {key: value.to(device) for key, value in resumed.part("totals").items()}
        logger.info("resuming %s from step %d", folder, step)
    if stored:
        ckpt.cut_metrics(folder, step)
    if resumed is not None and step >= config.steps:
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
        broken += [name for name, module in parts.items() if not all(p.isfinite().all() for p in module.parameters())]
        if broken:
            raise _not_finite(broken[0], step, folder)
        refresh()
        tensors = {f"{name}.{key}": value for name, module in parts.items() for key, value in module.state_dict().items()}
        for name, optimizer in optimizers.items():
            tensors |= {f"{name}.{key}": value for key, value in optimizer_tensors(optimizer).items()}
        tensors |= {f"totals.{key}": value for key, value in totals.items()}
        model = {"architecture": config.architecture, "generator": g.config, "discriminator": d.config}
        ckpt.save(folder, step, tensors, {"seconds": seconds, "counts": counts, "model": model})

    # Training.
    began_at, logged_at, logged_step = time.perf_counter() - seconds, time.perf_counter(), step
    entry: dict[str, Any] = {"step": step}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    g.train()
    d.train()

    def draw(phase: str, real: Tensor, labels: Tensor | None, inputs: Tensor | None) -> Batch:
        # Dropout and whatever else draws from torch's own generator must resume exactly too.
        torch.manual_seed(stream_seed(config.seed, step, f"{phase}/torch"))
        rng = Rng(config.seed, step, phase, device)
        return Batch(real, draw_latent(g, len(real), rng), step, rng, labels=labels, inputs=inputs)

    def count(logs: dict[str, Tensor]) -> None:
        # Summed on the device and read once a log line: a read a step would wait for the device each time.
        for key, value in logs.items():
            totals[key] = totals[key] + value.detach() if key in totals else value.detach()
            counts[key] = counts.get(key, 0) + 1

    with _signals() as stop:
        while step < config.steps and not stop.is_set():
            scale = schedule(config.lr_schedule, step / config.steps)
            set_lr(g_optimizer, config.lr * scale)
            set_lr(d_optimizer, (config.d_lr or config.lr) * scale)

            # The discriminator's phase: n_critic updates.
            for i in range(config.n_critic):
                columns = batches[step * config.n_critic + i]
                batch = draw(f"d{i}", *columns)
                with autocast:
                    loss, logs = objective.discriminator_loss(g, d, batch)
                d_optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                d_optimizer.step()
                adversarial.after_discriminator_step(d)
                count(logs)

            # The generator's phase, through a discriminator that asks for no gradients of its own.
            with frozen(d_parameters):
                batch = draw("g", *columns)
                with autocast:
                    loss, logs = objective.generator_loss(g, d, batch)
                g_optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            g_optimizer.step()
            count(logs)

            # The averaged generator.
            torch._foreach_lerp_(averaged, raw, 1 - ema_decay(step, config.ema_decay))
            step += 1

            # What a person sees, and what survives.
            last = step == config.steps or stop.is_set()
            if step % config.log_every == 0 or last:
                means = {key: total.item() / counts[key] for key, total in totals.items()}
                if broken := [key for key, mean in means.items() if not math.isfinite(mean)]:
                    raise _not_finite(broken[0], step, folder)
                now = time.perf_counter()
                seconds = now - began_at
                images = (step - logged_step) * config.batch_size * config.n_critic
                entry = {"step": step, **means, "images_per_second": images / (now - logged_at), "seconds": seconds}
                logged_at, logged_step = now, step
                totals.clear()
                counts.clear()
                ckpt.append_metrics(folder, entry)
                if on_log:
                    on_log(entry)
            if (step % config.sample_every == 0 or last) and data.is_image:
                refresh()
                picture = grid(to_uint8(sample(ema, GRID, config.seed)))
                ckpt.save_picture(folder / "samples" / f"step-{step:07d}.png", picture)
            if step % config.checkpoint_every == 0 or last:
                save()
            if on_step:
                on_step(step)

    refresh()
    return Run(folder, config, step, ema, g, d, entry, interrupted=step < config.steps)


def make_networks(config: TrainConfig, data: Data) -> tuple[nn.Module, nn.Module, Loss, Any]:
    """Both networks, sized by the data, the adversarial loss, and the objective that trains with it.

    Raises:
        ConfigError: settings the networks refuse, or a generator whose items differ from the data's in shape.
    """
    zoo = registry()
    architecture = zoo.architecture(config.architecture)
    shared = {}
    if data.is_image:
        _, channels, height, width = data.items.shape
        if height != width:
            raise ConfigError(f"the data's images are {height}x{width}: choose a square with --image-size")
        shared = {"image_size": height, "channels": channels}
    g = network(config.architecture, "generator", shared, config.generator)
    d = network(config.architecture, "discriminator", shared, config.discriminator)
    penalties = []
    for spec in config.penalty_specs:
        offered = {} if spec.weight is None else {"weight": spec.weight}
        penalty, _ = build(zoo.penalty(spec.name).target, {}, offered, f"the penalty {spec.name}")
        penalty.every = spec.every
        penalties.append(penalty)
    loss, _ = build(
        zoo.loss(config.loss).target, {"penalized": bool(penalties)}, config.loss_options, f"the loss {config.loss}"
    )
    parts = {"loss": loss, "penalties": penalties}
    what = f"the objective of {config.architecture}"
    objective, _ = build(architecture.objective or Objective, parts, config.objective_options, what)
    with torch.no_grad():
        made = tuple(copy.deepcopy(g).eval()(draw_latent(g, 1, Rng(config.seed, 0, "shape"))).shape[1:])
    if made != tuple(data.items.shape[1:]):
        raise ConfigError(f"the generator of {config.architecture} makes items of shape {made}, the data has {tuple(data.items.shape[1:])}")
    return g, d, loss, objective


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: no such device on this machine.
    """
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in usable.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device must be auto, cpu, cuda, cuda:N or mps, not {name!r}") from error
    if not usable.get(device.type, False):
        there = ", ".join(kind for kind, usable_here in usable.items() if usable_here)
        raise ConfigError(f"--device {name} is not usable on this machine, which has: {there}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device


def choose_precision(config: TrainConfig, device: torch.device) -> str:
    """ "auto" as what the recipe names where the hardware computes it natively, else fp32."""
    if config.precision != "auto":
        return config.precision
    native = {
        "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
        "cpu": lambda: torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
    }.get(device.type, lambda: False)
    return "bf16" if config.auto_precision == "bf16" and native() else "fp32"


def make_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The configured optimizer, fused where torch has that."""
    beta1, beta2 = config.betas
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr, (beta1, beta2), fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, momentum=beta1, fused=True)
    return torch.optim.RMSprop(parameters, lr, foreach=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def schedule(kind: str, progress: float) -> float:
    """The factor on the learning rate after this share of the steps."""
    return {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[kind]


def ema_decay(step: int, decay: float) -> float:
    """min(decay, (1 + step) / (10 + step)): the ramp-up keeps early averages from remembering the initial weights."""
    return min(decay, (1 + step) / (10 + step))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors, "parameter number.name"."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(value) for i, entries in state.items() for key, value in entries.items() if value is not None}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        i, _, key = name.partition(".")
        p = parameters[int(i)]
        # Fused kernels walk memory in order: moments must lie as their parameter does (channels_last).
        state.setdefault(int(i), {})[key] = torch.empty_like(p).copy_(value) if value.shape == p.shape and value.dim() else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


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
def _deterministic() -> Iterator[None]:
    """cuDNN picks the same kernels each time; a no-op elsewhere."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True):
        yield


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second does what it always does."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

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
        hint = "only a larger --steps can change" if key == "steps" else "leave it out, or train anew into another --out"
        raise ConfigError(f"the run in {config.out} began with {key}={old[key]!r}, not {value!r}: {hint}")
    kept = {key: value for key, value in new.items() if key in MACHINE or key == "steps"}
    return began.replace(**kept)


def _not_finite(what: str, step: int, folder: Path) -> GanzooError:
    try:
        whole = ckpt.load_newest(folder)
    except CheckpointError:
        whole = None
    kept = f"the last whole checkpoint is {whole.path}" if whole else "there was no checkpoint yet"
    return TrainingError(
        f"{what} became NaN or infinite by step {step}; {kept}. Try a lower --lr, another --loss, or a --penalty such as r1"
    )
