"""Spectral normalisation (Miyato et al. 2018, https://arxiv.org/abs/1802.05957) of the layers of a discriminator."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import register_parametrization

ITERATIONS = 2
"""Of the power method for each update. The paper has one, at a tenth of the learning rates of the recipes here: with
these, one left a layer at a norm of 1.3 in a test."""


class SpectralNorms:
    """Divides the weight of each layer by an estimate of its largest singular value, u^T W v.

    The vectors u and v are iterated once for each update of the weights, as in the paper's algorithm 1, and what that
    gives serves all passes until the next backward pass. torch's own `spectral_norm`, whose tensors have the same
    names, makes an iteration in each of the three or more passes of a training step.

    Args:
        layers: the layers, whose `weight` becomes the normalised one.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.layers: list[Any] = list(layers)
        for layer in self.layers:
            register_parametrization(layer, "weight", _Norm(layer.weight, self))

    def update(self) -> None:
        """Make the iteration if the weights may have changed since the last one; in evaluation mode, nothing. A network
        calls this at the start of each pass."""
        if torch.compiler.is_compiling():  # versions are no part of a graph
            # No decorator, because that would import the compiler, which takes a second.
            torch.compiler.disable(self._update)()  # type: ignore[no-untyped-call]
        else:
            self._update()

    @torch.no_grad()
    def _update(self) -> None:
        norms: list[_Norm] = [layer.parametrizations.weight[0] for layer in self.layers]
        weights: list[Tensor] = [layer.parametrizations.weight.original for layer in self.layers]
        if not norms[0].training:
            return
        for norm, weight in zip(norms, weights, strict=True):
            norm.watch(weight)
        if all(map(_Norm.fits, norms, weights)):
            return
        changed = any(norm.version not in (None, weight._version) for norm, weight in zip(norms, weights, strict=True))
        with _exact(weights[0].device):
            matrices = [weight.flatten(1) for weight in weights]
            if changed:
                vectors = [norm._v for norm in norms]
                for _ in range(ITERATIONS - 1):  # there is no need for vectors of norm 1 in between
                    vectors = [matrix.T.mv(matrix.mv(v)) for matrix, v in zip(matrices, vectors, strict=True)]
                _normalise(list(map(torch.mv, matrices, vectors)), [norm._u for norm in norms])
            images = [matrix.T.mv(norm._u) for matrix, norm in zip(matrices, norms, strict=True)]
            sigmas = _normalise(images, [norm._v for norm in norms] if changed else [])
            for norm, weight, sigma in zip(norms, weights, sigmas, strict=True):
                norm.sigma, norm.normalised, norm.version = sigma, weight / sigma, weight._version


def _exact(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Products of full precision, also within autocast."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else contextlib.nullcontext()


def _normalise(vectors: list[Tensor], outputs: list[Tensor]) -> Sequence[Tensor]:
    """The norms of vectors. The vectors divided by them are written into `outputs`, if there are any."""
    norms = torch._foreach_norm(vectors)
    torch._foreach_clamp_min_(norms, 1e-12)
    for vector, norm, output in zip(vectors, norms, outputs, strict=False):
        torch.div(vector, norm, out=output)
    return norms


class _Norm(_SpectralNorm):
    """The normalisation of one layer.

    Attributes:
        normalised: the normalised weight of the present iteration, without a graph; None: there has been none since the
            tensors were made, moved or loaded.
        sigma: the estimate.
        version: the version of the weight that u and v belong to; None: they were made or loaded together with it;
            -1: to none, since an update follows the gradients that came. Fused optimizers leave the version as it is.
    """

    _u: Tensor
    _v: Tensor
    sigma: Tensor

    def __init__(self, weight: Tensor, owner: SpectralNorms) -> None:
        super().__init__(weight)
        self.owner = owner
        self.normalised: Tensor | None = None
        self.version: int | None = None
        self.watched = 0

    def _power_method(self, matrix: Tensor, iterations: int) -> None:
        if not matrix.is_meta:  # there is nothing to iterate, and torch takes half a second for it
            super()._power_method(matrix, iterations)

    def watch(self, weight: Tensor) -> None:
        """Notice the gradients of a weight."""
        if self.watched != id(weight) and weight.is_leaf and weight.requires_grad:
            weight.register_post_accumulate_grad_hook(self._outdate)  # type: ignore[no-untyped-call]
            self.watched = id(weight)

    def _outdate(self, weight: Tensor) -> None:
        self.version = -1

    def fits(self, weight: Tensor) -> bool:
        """Whether the normalised weight is that of the present one."""
        return self.normalised is not None and self.version == weight._version

    def forward(self, weight: Tensor) -> Tensor:
        # A compiled graph computes it anew from u and v, because versions are no part of it.
        if not torch.compiler.is_compiling() and self.training and self.fits(weight):
            normalised: Tensor = _Division.apply(weight, self.normalised, self._u, self._v, self.sigma)
            return normalised
        with _exact(weight.device):
            return _divided(weight, self._u.clone(), self._v.clone())  # the next iteration overwrites them

    def _apply(self, fn: Any, recurse: bool = True) -> "_Norm":
        self.normalised = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        self.normalised = self.version = None
        super()._load_from_state_dict(*args)

    def _save_to_state_dict(self, *args: Any) -> None:
        # Saved vectors belong to the weights beside them, so that a resumed training makes no iteration more or less.
        self.owner.update()
        super()._save_to_state_dict(*args)


def _divided(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """W / u^T W v, as torch computes it."""
    return weight / torch.dot(u, weight.flatten(1).mv(v))


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """The inner product of two tensors without gaps, in the order of memory where both lie alike."""
    if x.stride() != y.stride():
        return (x * y).sum()
    return torch.dot(*(tensor.as_strided((tensor.numel(),), (1,)) for tensor in (x, y)))


class _Division(torch.autograd.Function):
    """W / u^T W v, where the result is known already. Its gradient takes a third of the kernels of torch's."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, normalised: Tensor, u: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
        ctx.save_for_backward(weight, normalised, u, v, sigma)
        return normalised.view_as(normalised)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gradient = gradients[0]
        weight, normalised, u, v, sigma = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody will differentiate this again
            return *torch.autograd.grad(_divided(weight, u, v), weight, gradient, create_graph=True), *[None] * 4
        # (dY - <dY, Y> u v^T) / sigma
        scaled = (u * _inner(gradient, normalised)).view(-1, *[1] * (weight.dim() - 1))
        return torch.addcmul(gradient, scaled, v.view(1, *weight.shape[1:]), value=-1).div_(sigma), *[None] * 4
