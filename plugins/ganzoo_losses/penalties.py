"""Gradient penalties on D. In the formulas w is `weight`, and the norm is over all dimensions except the first."""

from collections.abc import Callable

import torch
from torch import Tensor

from ganzoo import Batch, Penalty, uniform_of

Discriminator = Callable[[Tensor], Tensor]


def gradient_norm(d: Discriminator, x: Tensor) -> Tensor:
    """||grad_x D(x)|| of each item, (N,), over all dimensions except the first, with a graph to differentiate through.

    It is the gradient of the sum of all logits, so an item's logit must not depend on the other items. The trainer sees
    to that where D has BatchNorm, which would make it depend on them.
    """
    norm: Tensor = torch.linalg.vector_norm(gradient(d, x).flatten(1), dim=1)
    return norm


def gradient(d: Discriminator, x: Tensor) -> Tensor:
    """grad_x of the sum of D(x), in the shape of x, with a graph to differentiate through."""
    x = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
    return grad


def _per_item(x: Tensor) -> tuple[int, ...]:
    return (len(x), *[1] * (x.dim() - 1))


class GP(Penalty):
    """w E(||grad D(x')|| - 1)^2 at points on lines between real and generated items: x' = x + e (G(z) - x), where e ~
    U[0, 1] for each item (Gulrajani et al. 2017, equation 3, w = 10)."""

    weight = 10.0

    def __call__(self, d: Discriminator, real: Tensor, fake: Tensor, *, batch: Batch) -> Tensor:
        epsilon = batch.rng.rand(*_per_item(real))
        return self.weight * (gradient_norm(d, real + epsilon * (fake - real)) - 1).square().mean()


class R1(Penalty):
    """w/2 E||grad D(x)||^2 at real items (Mescheder et al. 2018, equation 9; w is their gamma)."""

    def __call__(self, d: Discriminator, real: Tensor, fake: Tensor, *, batch: Batch) -> Tensor:
        return self.weight / 2 * gradient(d, real).square().flatten(1).sum(1).mean()


class R2(Penalty):
    """w/2 E||grad D(G(z))||^2 at generated items (Mescheder et al. 2018, equation 10; w is their gamma)."""

    def __call__(self, d: Discriminator, real: Tensor, fake: Tensor, *, batch: Batch) -> Tensor:
        return self.weight / 2 * gradient(d, fake).square().flatten(1).sum(1).mean()


class Dragan(Penalty):
    """w E(||grad D(x')|| - 1)^2 at points near real items (Kodali et al. 2017, section 2.3, w = 10), perturbed as in
    the authors' code: x' = x + a s u / 2, where s is the standard deviation of all values of the batch, u ~ U[0, 1] for
    each value and a ~ U[0, 1] for each item.

    The device computes u from a seed for each item, with the same bits everywhere: as many numbers as the images have
    pixels took the host longer to draw than small networks take for a step."""

    weight = 10.0

    def __call__(self, d: Discriminator, real: Tensor, fake: Tensor, *, batch: Batch) -> Tensor:
        seeds = batch.rng.randint(1 << 32, len(real))
        uniform = uniform_of(seeds, 0, real[0].numel()).view(real.shape)
        noise = batch.whole_real().std(correction=0) / 2 * uniform
        near = real + batch.rng.rand(*_per_item(real)) * noise
        return self.weight * (gradient_norm(d, near) - 1).square().mean()
