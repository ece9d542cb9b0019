"""What differs between one process and many, and nowhere else.

Under `torchrun` each process takes its part of every batch. The gradients are summed in one all-reduce after backward:
DistributedDataParallel, which reduces during backward, disclaims the `autograd.grad` that gradient penalties need.
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
    """The processes that train together: this one's `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def first(self, function: Callable[[], T]) -> T:
        """The result of `function` on rank 0, on every process. A GanzooError that it raises is raised on all."""
        if self.size == 1:
            return function()
        message: list[Any] = [None]
        if self.rank == 0:
            try:
                message = [function()]
            except GanzooError as error:
                message = [error]
        with _together():
            dist.broadcast_object_list(message)
        if isinstance(message[0], GanzooError):
            raise message[0]
        result: T = message[0]
        return result

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            with _together():
                dist.barrier()


class Reducer:
    """Sums the gradients of some parameters over the processes, in one all-reduce."""

    def __init__(self, world: World, parameters: Sequence[nn.Parameter]) -> None:
        self.world, self.parameters = world, parameters
        self.flat: Tensor | None = None  # kept: fresh memory of that size costs as much as filling it

    def __call__(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put the sums in place of the gradients, valid until the next call; give the means of the scalar `values`."""
        if self.world.size == 1:
            return dict(values)
        pairs = [(p, p.grad) for p in self.parameters if p.grad is not None]
        # Each gradient as it lies in memory: no copy of a channels_last one into another order.
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
    """The world that torchrun's environment describes; a world of one without it.

    Raises:
        TrainingError: the other processes cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    if not dist.is_initialized():
        # gloo on a GPU too: what is not a gradient needs none.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with _together():
            dist.init_process_group(backend)
        atexit.register(dist.destroy_process_group)  # once: what another `train` meets on leaving and joining again
    return World(dist.get_rank(), dist.get_world_size())


def local_device(device: torch.device) -> torch.device:
    """`device`, with each process of a host on a GPU of its own.

    Raises:
        ConfigError: more processes on this host than GPUs, one GPU named for all of them, or a device that does not
            take part in distributed training.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ConfigError(f"many processes train on CUDA or the CPU, not on {device.type}: give --device cpu")
    if device.index is not None:
        raise ConfigError(f"--device {device} names one GPU for every process: leave the number to torchrun")
    here, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if here > there:
        raise ConfigError(f"{here} processes on a host with {there} GPUs: give torchrun --nproc-per-node {there}")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch.distributed raises for a peer that is gone
        cause = re.sub(r"^\[[^]]*\] ", "", str(error).strip()).partition("\n")[0].partition(". ")[0]
        raise TrainingError(
            f"another process of this run stopped or cannot be reached ({cause}). Nothing written is lost: start the "
            "same command with --resume --out RUN to go on from the last whole checkpoint"
        ) from error


def all_sum(value: Tensor) -> Tensor:
    """The sum of a tensor over the processes, in its place."""
    with _together():
        dist.all_reduce(value)
    return value
