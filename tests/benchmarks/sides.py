"""What is compared, and the worker processes that take turns at it.

Each side has a process of its own, so that neither changes the other's settings or memory, and works only while it is
its turn. This module imports torch and ganzoo late: a textbook worker never imports ganzoo.
"""

import multiprocessing
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

NEVER = 10**9
"""Steps that no measurement reaches: when samples and checkpoints are due."""
WARM_UP = 3
"""Steps before anything is measured."""


@dataclass(frozen=True)
class Case:
    """One comparison. `networks` and `loop` are names in textbook.py, `config` is ganzoo's side of the same thing."""

    title: str
    networks: str
    loop: str
    batch_size: int
    config: dict[str, Any]
    n_critic: int = 1
    penalty: bool = False
    image_size: int = 28
    channels: int = 1

    @property
    def critic(self) -> bool:
        return self.loop != "gan"

    def settings(self) -> dict[str, Any]:
        """What `TrainConfig` takes, with pictures and checkpoints out of the way; all else as a user has it."""
        return {
            "batch_size": self.batch_size,
            "n_critic": self.n_critic,
            "lr_schedule": "constant",
            "image_size": self.image_size,
            "channels": self.channels,
            "steps": NEVER,
            "sample_every": NEVER,
            "checkpoint_every": NEVER,
            **self.config,
        }


ADAM = {"optimizer": "adam", "lr": 2e-4, "betas": [0.5, 0.999]}
MLP = {"architecture": "vanilla", "recipe": "textbook", "generator": {"hidden": [128, 256, 512, 1024], "norm": "batch"}}
CLIPPED = {"loss": "wasserstein", "optimizer": "rmsprop", "lr": 5e-5}
GP = {"loss": "wasserstein", "penalties": ["gp=10"], **ADAM}
# Batches are those of the copied scripts.
CASES = {
    "vanilla": Case("MLP GAN, 28 px", "mlp", "gan", 64, MLP),
    "dcgan28": Case("DCGAN, 28 px", "dcgan28", "gan", 64, {"architecture": "dcgan", "recipe": "paper", **ADAM}),
    "dcgan64": Case(
        "DCGAN, 64 px", "dcgan64", "gan", 128, {"architecture": "dcgan", "recipe": "paper"}, image_size=64, channels=3
    ),
    "wgan": Case("WGAN, 28 px, DCGAN networks", "dcgan28", "wgan", 64, {"architecture": "wgan", "recipe": "paper"}, 5),
    "wgan-mlp": Case("WGAN, 28 px, MLP", "mlp", "wgan", 64, {**MLP, **CLIPPED}, 5),
    "wgan-gp": Case("WGAN-GP, 28 px, MLP", "mlp", "wgan_gp", 64, {**MLP, **GP}, 5, True),
    "wgan-gp-conv": Case(
        "WGAN-GP, 28 px, DCGAN networks",
        "dcgan28",
        "wgan_gp",
        64,
        {"architecture": "dcgan", "recipe": "paper", **GP},
        5,
        True,
    ),
}


class _Stop(Exception):
    """Ends a loop from inside."""


@dataclass
class _Turns:
    """A worker's end of the pipe: counts steps, and waits after the last one of a turn for the next."""

    pipe: Connection
    device: str
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    least: int = WARM_UP
    steps: int = 0
    images: int = 0

    def step(self, images: int) -> None:
        self.steps += 1
        self.images += images
        if self.steps < self.least or time.perf_counter() - self.began < self.seconds:
            return
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        self.pipe.send((self.steps, self.images, time.perf_counter() - self.began))
        order = self.pipe.recv()
        if order is None:
            raise _Stop
        self.steps, self.images, self.least, self.seconds = 0, 0, 1, order
        self.began = time.perf_counter()


def peak_memory(device: str) -> int:
    """Bytes this process held at most: resident on a CPU, allocated by torch on a GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there includes the parent's peak before exec
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _serve(pipe: Connection, name: str, settings: dict[str, Any] | None, threads: int, device: str) -> None:
    """A worker's life. `settings` are ganzoo's; None: the textbook's side."""
    import torch

    torch.set_num_threads(threads)
    case = CASES[name]
    pipe.recv()
    turns = _Turns(pipe, device)
    try:
        if settings is None:
            import textbook

            dataset = textbook.Photos() if case.image_size == 64 else textbook.Digits()
            networks = getattr(textbook, case.networks)(case.critic)
            getattr(textbook, case.loop)(networks, dataset, case.batch_size, torch.device(device), turns.step)
        else:
            import ganzoo

            config = ganzoo.TrainConfig(**{**case.settings(), "device": device, **settings})
            ganzoo.train(config, on_step=lambda step: turns.step(config.batch_size * config.n_critic))
    except _Stop:
        pipe.send(peak_memory(device))


class Worker:
    """One side of a case in a process of its own, idle except in `turn`.

    Args:
        name: the case.
        settings: for ganzoo's side, what the variant adds to the case's settings; None: the textbook's side.
        threads: of torch.
        device: "cpu" or "cuda".
    """

    def __init__(self, name: str, settings: dict[str, Any] | None, threads: int, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, settings, threads, device), daemon=True)
        self._process.start()
        theirs.close()
        self._side = f"{name} ({'textbook' if settings is None else 'ganzoo'})"

    def turn(self, seconds: float) -> tuple[int, int, float]:
        """Work for so long, a step at least (the first turn: `WARM_UP` steps, data and networks before them).

        Returns:
            steps, real images that D saw, and the seconds they took.
        """
        return self._ask(seconds)

    def end(self) -> int:
        """Stop the process; its peak memory in bytes."""
        peak: int = self._ask(None)
        self._process.join()
        return peak

    def _ask(self, order: float | None) -> Any:
        try:
            self._pipe.send(order)
            return self._pipe.recv()
        except (EOFError, BrokenPipeError):
            raise SystemExit(f"the worker of {self._side} died: see above") from None
