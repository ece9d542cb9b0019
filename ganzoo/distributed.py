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

    def wait(self) -> None:
        """Until every process is here."""
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
        held = [(p, p.grad) for p in self.parameters if p.grad is not None]
        # Each gradient as it lies in memory: no copy of a channels_last one into another order.
        parts = [grad.as_strided((grad.numel(),), (1,)) for _, grad in held]
        parts.append(torch.stack([value.detach().to(parts[0]) / self.world.size for value in values.values()]))
        sizes = [part.numel() for part in parts]
        if self.flat is None or len(self.flat) != sum(sizes):
            self.flat = parts[0].new_empty(sum(sizes))
        torch.cat(parts, out=self.flat)
        _summed(self.flat)
        *sums, scalars = torch.split(self.flat, sizes)
        for (p, grad), total in zip(held, sums, strict=True):
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


def _summed(value: Tensor) -> Tensor:
    with _together():
        dist.all_reduce(value)
    return value


class _Sum(torch.autograd.Function):
    """The sum over the processes, differentiable any number of times: its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0])


class _Normalised(torch.autograd.Function):
    """BatchNorm's training pass over the whole batch by torch's own kernels: (y, mean, variance)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        _, mean, scale = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        mean, variance = _merged(mean, scale.pow(-2) - eps)
        y, _, _ = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)
        ctx.save_for_backward(x, weight, bias, mean, (variance + eps).rsqrt())
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        dy = gradients[0]
        x, weight, bias, mean, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient penalty will differentiate this again
            inputs = [tensor for tensor in (x, weight, bias) if tensor.requires_grad]
            found = iter(torch.autograd.grad(_normalised(x, weight, bias, ctx.eps), inputs, dy, create_graph=True))
            return *(next(found) if tensor.requires_grad else None for tensor in (x, weight, bias)), None
        backward = torch.ops.aten.native_batch_norm_backward
        _, dweight, dbias = backward(dy, x, weight, None, None, mean, scale, True, ctx.eps, [False, True, True])
        # dx = k (dy - E dy - n E(dy n)) with n = (x - mean) scale, k = scale weight and E over the whole batch
        of_dy, of_product = _summed(torch.stack([dbias, dweight])) / (dist.get_world_size() * x.numel() / x.shape[1])
        k = scale * weight
        shape = (1, -1, *[1] * (x.dim() - 2))
        constant = k * (mean * scale * of_product - of_dy)
        dx = torch.addcmul(constant.view(shape), x, -(k * scale * of_product).view(shape)).addcmul_(dy, k.view(shape))
        return dx.to(x.dtype), dweight, dbias, None


def _merged(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the whole batch from those of the processes' equal parts; differentiable."""
    # A row for each process, of which all but one's own are zero: their sum is the gathered statistics.
    mine = torch.arange(dist.get_world_size(), device=mean.device).view(-1, 1, 1) == dist.get_rank()
    means, variances = _Sum.apply(mine * torch.stack([mean, variance])).unbind(1)
    return means.mean(0), variances.mean(0) + means.var(0, correction=0)


def _normalised(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The same by elementary operations, which can be differentiated any number of times."""
    with torch.autocast(x.device.type, enabled=False):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        across = [0, *range(2, x.dim())]
        shape = (1, -1, *[1] * (x.dim() - 2))
        mean = wide.mean(across)
        mean, variance = _merged(mean, (wide - mean.view(shape)).square().mean(across))
        scale = (variance + eps).rsqrt() * weight
        y: Tensor = ((wide - mean.view(shape)) * scale.view(shape) + bias.view(shape)).to(x.dtype)
    return y


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
        wide = torch.promote_types(input.dtype, torch.float32)
        ones = torch.ones(self.num_features, device=input.device, dtype=wide)
        weight, bias = (self.weight, self.bias) if self.affine else (ones, torch.zeros_like(ones))
        y: Tensor
        y, mean, variance = _Normalised.apply(input, weight, bias, self.eps)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                factor = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                n = input.numel() / input.shape[1] * dist.get_world_size()
                self.running_mean.lerp_(mean.to(self.running_mean), factor)
                self.running_var.lerp_((variance * n / (n - 1)).to(self.running_var), factor)
        return y


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
