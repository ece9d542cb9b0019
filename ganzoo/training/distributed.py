"""All that differs between training on one process and on many.

Under `torchrun`, each process takes its part of every batch, and the gradients are summed in one all-reduce after the
backward pass. DistributedDataParallel, which reduces during it, does not support the `autograd.grad` of gradient
penalties.
"""

import atexit
import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ganzoo.errors import ConfigError, GanzooError, TrainingError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Attributes:
        rank: the index of this process, from 0.
        size: the number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def first(self, function: Callable[[], T]) -> T:
        """Call `function` on rank 0 and return its result on every process. A GanzooError is raised on all of them."""
        if self.size == 1:
            return function()
        message: list[Any] = [None]
        if self.rank == 0:
            try:
                message = [function()]
            except GanzooError as error:
                message = [error]
        with _collective():
            dist.broadcast_object_list(message)
        if isinstance(message[0], GanzooError):
            raise message[0]
        result: T = message[0]
        return result

    def gather(self, x: Tensor) -> Tensor:
        """The tensors (n, ...) of all processes, each of the same shape, as one (size * n, ...), without a graph."""
        if self.size == 1:
            return x.detach()
        x = x.detach().contiguous()
        every = [torch.empty_like(x) for _ in range(self.size)]
        with _collective():
            dist.all_gather(every, x)
        return torch.cat(every)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            with _collective():
                dist.barrier()


class Reducer:
    """Sums the gradients of some parameters over the processes, in one all-reduce."""

    def __init__(self, world: World, parameters: Sequence[nn.Parameter]) -> None:
        self.world, self.parameters = world, parameters
        self.flat: Tensor | None = None  # reused: allocating memory of that size costs as much as filling it

    def __call__(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Replace the gradients by their sums, which are valid until the next call.

        Args:
            values: scalars to average in the same all-reduce.

        Returns:
            The means of the values over the processes.
        """
        if self.world.size == 1:
            return dict(values)
        pairs = [(p, p.grad) for p in self.parameters if p.grad is not None]
        # Views in the order of memory, because a channels_last gradient would otherwise be copied.
        parts = [grad.as_strided((grad.numel(),), (1,)) for _, grad in pairs]
        parts.append(torch.stack([value.detach().to(parts[0]) / self.world.size for value in values.values()]))
        sizes = [part.numel() for part in parts]
        if self.flat is None or len(self.flat) != sum(sizes):
            self.flat = parts[0].new_empty(sum(sizes))
        torch.cat(parts, out=self.flat)
        all_sum(self.flat)
        *sums, scalars = torch.split(self.flat, sizes)
        for (p, grad), total in zip(pairs, sums, strict=True):
            p.grad = total.as_strided(grad.size(), grad.stride())
        return dict(zip(values, scalars.clone(), strict=True))


def join(device: torch.device) -> World:
    """Join the processes that torchrun's environment describes. Without it, the world is this process alone.

    Raises:
        TrainingError: the other processes cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    if not dist.is_initialized():
        # gloo on a GPU too: only the gradients are on the GPU.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with _collective():
            dist.init_process_group(backend)
        atexit.register(dist.destroy_process_group)  # not after each `train`, which may be called again
    return World(dist.get_rank(), dist.get_world_size())


def local_device(device: torch.device) -> torch.device:
    """The device of this process: on CUDA, each process of a host gets a GPU of its own.

    Raises:
        ConfigError: there are more processes than GPUs on this host, `device` names one GPU for all of them, or it does
            not support distributed training.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ConfigError(f"several processes can train on CUDA or the CPU, but not on {device.type}: use --device cpu")
    if device.index is not None:
        raise ConfigError(f"--device {device} names one GPU for every process: leave the number to torchrun")
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if processes > gpus:
        raise ConfigError(f"{processes} processes on a host with {gpus} GPUs: give torchrun --nproc-per-node {gpus}")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


@contextlib.contextmanager
def _collective() -> Iterator[None]:
    """Turn the error of torch.distributed for a process that is gone into a TrainingError."""
    try:
        yield
    except RuntimeError as error:
        cause = re.sub(r"^\[[^]]*\] ", "", str(error).strip()).partition("\n")[0].partition(". ")[0]
        raise TrainingError(
            f"another process of this run stopped or cannot be reached ({cause}). Nothing written is lost: start the "
            "same command with --resume --out RUN to go on from the last whole checkpoint"
        ) from error


def all_sum(value: Tensor) -> Tensor:
    """Sum a tensor over the processes, in place."""
    with _collective():
        dist.all_reduce(value)
    return value
