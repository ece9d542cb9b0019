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
from torch.nn.modules.batchnorm import _BatchNorm

from ganzoo.errors import ConfigError, GanzooError, TrainingError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that train together: this one's `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and tells of progress."""
        return self.rank == 0

    def first(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, on every process. A GanzooError that it raises there is raised on all."""
        if self.size == 1:
            return make()
        told: list[Any] = [None]
        if self.rank == 0:
            try:
                told = [make()]
            except GanzooError as error:
                told = [error]
        with _together():
            dist.broadcast_object_list(told)
        if isinstance(told[0], GanzooError):
            raise told[0]
        made: T = told[0]
        return made

    def reduce(self, parameters: Sequence[nn.Parameter], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sum the parameters' gradients over the processes, in place, and give the means of the scalar `values`, all in
        one all-reduce."""
        if self.size == 1:
            return dict(values)
        # Each gradient as it lies in memory: no copy of a channels_last one into another order.
        grads = [p.grad.as_strided((p.grad.numel(),), (1,)) for p in parameters if p.grad is not None]
        like = grads[0]
        scalars = torch.stack([value.detach().to(like) / self.size for value in values.values()])
        flat = torch.cat([*grads, scalars])
        with _together():
            dist.all_reduce(flat)
        *parts, scalars = torch.split(flat, [*(grad.numel() for grad in grads), len(values)])
        torch._foreach_copy_(grads, parts)
        return dict(zip(values, scalars, strict=True))

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            with _together():
                dist.barrier()


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


class _Sum(torch.autograd.Function):
    """The sum over the processes, differentiable any number of times: its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone(memory_format=torch.contiguous_format)
        with _together():
            dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0])


class SynchronisedBatchNorm(_BatchNorm):
    """BatchNorm with the statistics of the whole batch, whatever the number of processes.

    torch's own is for GPUs alone and cannot be differentiated twice, which gradient penalties need.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # it stands in for one whose author has chosen the dimensions

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        size, rank = dist.get_world_size(), dist.get_rank()
        with torch.autocast(input.device.type, enabled=False):
            x: Tensor = input.to(torch.promote_types(input.dtype, torch.float32))
            across = [0, *range(2, x.dim())]
            local = torch.stack([x.mean(across), x.var(across, correction=0)])
            # A row for each process, of which all but one's own are zero: their sum is the gathered statistics.
            mine = torch.arange(size, device=x.device).view(-1, 1, 1) == rank
            means, variances = _Sum.apply(mine * local).unbind(1)
            mean = means.mean(0)
            variance = variances.mean(0) + means.var(0, correction=0)
            if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
                with torch.no_grad():
                    self.num_batches_tracked.add_(1)
                    factor = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                    n = x.numel() / x.shape[1] * size
                    self.running_mean.lerp_(mean.to(self.running_mean), factor)
                    self.running_var.lerp_((variance * n / (n - 1)).to(self.running_var), factor)
            shape = (1, -1, *[1] * (x.dim() - 2))
            scale = (variance + self.eps).rsqrt()
            if self.affine:
                scale = scale * self.weight
            y = (x - mean.view(shape)) * scale.view(shape)
            if self.affine:
                y = y + self.bias.view(shape)
            out: Tensor = y.to(input.dtype)
        return out


def synchronise(module: nn.Module) -> None:
    """Replace the BatchNorm layers below `module` by ones that take the statistics of the whole batch. Parameters,
    buffers and their names stay. A subclass with a `forward` of its own is left as it is."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and type(child).forward is _BatchNorm.forward:
            new = SynchronisedBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            new._parameters, new._buffers, new.training = child._parameters, child._buffers, child.training
            setattr(module, name, new)
        else:
            synchronise(child)
