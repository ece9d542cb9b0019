"""BatchNorm over a batch that is split over several processes, and BatchNorm for gradient penalties."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganzoo.training.distributed import all_sum


class _Sum(torch.autograd.Function):
    """The sum over the processes, differentiable any number of times. Its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return all_sum(value.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0])


class _Normalised(torch.autograd.Function):
    """BatchNorm's training pass over the whole batch with torch's own kernels: (y, mean, variance)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        _, mean, scale = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        mean, variance = _merge(mean, scale.pow(-2) - eps)
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
            grads = iter(torch.autograd.grad(_normalise(x, weight, bias, ctx.eps), inputs, dy, create_graph=True))
            return *(next(grads) if tensor.requires_grad else None for tensor in (x, weight, bias)), None
        backward = torch.ops.aten.native_batch_norm_backward
        _, dweight, dbias = backward(dy, x, weight, None, None, mean, scale, True, ctx.eps, [False, True, True])
        # dx = k (dy - E dy - n E(dy n)) with n = (x - mean) scale, k = scale weight and E over the whole batch
        count = dist.get_world_size() * x.numel() / x.shape[1]
        mean_dy, mean_dy_n = all_sum(torch.stack([dbias, dweight])) / count
        k = scale * weight
        shape = (1, -1, *[1] * (x.dim() - 2))
        constant = k * (mean * scale * mean_dy_n - mean_dy)
        dx = torch.addcmul(constant.view(shape), x, -(k * scale * mean_dy_n).view(shape)).addcmul_(dy, k.view(shape))
        return dx.to(x.dtype), dweight, dbias, None


def _merge(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and variance of the whole batch from those of the processes' equal parts. Differentiable."""
    # A gather as a sum: each process contributes a row with its own statistics, and zeros for the others.
    own_row = torch.arange(dist.get_world_size(), device=mean.device).view(-1, 1, 1) == dist.get_rank()
    means, variances = _Sum.apply(own_row * torch.stack([mean, variance])).unbind(1)
    return means.mean(0), variances.mean(0) + means.var(0, correction=0)


def _normalise(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The y of `_Normalised` by elementary operations, which can be differentiated any number of times."""
    with torch.autocast(x.device.type, enabled=False):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        dimensions = [0, *range(2, x.dim())]
        shape = (1, -1, *[1] * (x.dim() - 2))
        mean = wide.mean(dimensions)
        mean, variance = _merge(mean, (wide - mean.view(shape)).square().mean(dimensions))
        scale = (variance + eps).rsqrt() * weight
        y: Tensor = ((wide - mean.view(shape)) * scale.view(shape) + bias.view(shape)).to(x.dtype)
    return y


class SynchronisedBatchNorm(_BatchNorm):
    """BatchNorm with the statistics of the whole batch, whatever the number of processes.

    torch's own works only on GPUs, and gradient penalties cannot differentiate it twice.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # the layer that it replaces may be for any number of dimensions

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


_FORWARD = SynchronisedBatchNorm.forward


def synchronise(module: nn.Module, *, compiled: bool = False) -> None:
    """Replace the BatchNorm layers in `module` by layers that use the statistics of the whole batch.

    The parameters and buffers stay the same, and so do their names. Subclasses with their own `forward` are not
    replaced.

    Args:
        module: the network.
        compiled: whether it is going to be compiled, which is then kept out of these layers.
    """
    if compiled:  # no decorator, because torch.compiler.disable imports the compiler, which takes a second
        SynchronisedBatchNorm.forward = torch.compiler.disable(_FORWARD)  # type: ignore
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and type(child).forward is _BatchNorm.forward:
            new = SynchronisedBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            new._parameters, new._buffers, new.training = child._parameters, child._buffers, child.training
            setattr(module, name, new)
        else:
            synchronise(child)


def item_by_item(d: nn.Module, judge: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Change the function `judge`, which maps items to D's logits, so that each logit depends only on its own item.

    A gradient penalty differentiates the sum of the logits with respect to all items at once. This gives the gradient
    at each item only if no logit depends on another item, but BatchNorm's statistics depend on all of them. So a first
    pass computes the statistics, and a second one uses them as constants with respect to the items. They remain
    functions of D's weights, with respect to which the penalty is differentiated next. If they were constants there
    too, the penalty would shrink weights whose scale BatchNorm cancels, with no effect on D.

    The logits are those of training mode, and the running statistics do not change. A BatchNorm subclass with its own
    `forward` is not changed, and a D without BatchNorm is called once.
    """
    norms = active(d)
    if not norms:
        return judge

    def independent(x: Tensor) -> Tensor:
        statistics: list[tuple[Tensor, Tensor]] = []
        with _forwards(norms, lambda norm, y: _record(norm, y, statistics)):
            judge(x.detach())
        replay = iter(statistics)
        with _forwards(norms, lambda norm, y: _affine(norm, y, *next(replay))):
            return judge(x)

    return independent


def kind_by_kind(d: nn.Module, judge: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Change the function `judge`, which maps real items followed by as many generated ones to D's logits, so that
    BatchNorm has statistics of each kind of its own, as if D got one after the other."""
    norms = active(d)
    if not norms:
        return judge

    def apart(norm: _BatchNorm, x: Tensor) -> Tensor:
        return torch.cat([type(norm).forward(norm, kind) for kind in x.chunk(2)])

    def both(x: Tensor) -> Tensor:
        with _forwards(norms, apart):
            return judge(x)

    return both


def active(d: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers in training mode that have no forward pass of their own."""
    plain = (_BatchNorm.forward, SynchronisedBatchNorm.forward)
    return [m for m in d.modules() if isinstance(m, _BatchNorm) and type(m).forward in plain and m.training]


@contextlib.contextmanager
def _forwards(norms: Sequence[_BatchNorm], forward: Callable[[_BatchNorm, Tensor], Tensor]) -> Iterator[None]:
    """In the block, these layers have another forward pass."""
    for norm in norms:
        norm.forward = partial(forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _record(norm: _BatchNorm, x: Tensor, statistics: list[tuple[Tensor, Tensor]]) -> Tensor:
    """BatchNorm's training pass, which adds the statistics to a list."""
    variance, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
    if isinstance(norm, SynchronisedBatchNorm):
        mean, variance = _merge(mean, variance)
    statistics.append((mean, variance))
    return _affine(norm, x, mean, variance)


def _affine(norm: _BatchNorm, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """BatchNorm with these statistics by elementary operations: torch's own has no derivative with respect to them."""
    shape = (1, -1, *[1] * (x.dim() - 2))
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    y = (x - mean.view(shape)) * scale.view(shape)
    return y + norm.bias.view(shape) if norm.affine else y
