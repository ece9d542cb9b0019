"""Inversion: the latents whose images are nearest to given images."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.errors import SampleError
from ganzoo.evaluation.perceptual import perceptual_distance
from ganzoo.latent.latents import Latents, has_styles, render, to_latents
from ganzoo.progress import counting
from ganzoo.rng import Rng
from ganzoo.sampling.draw import Labels, class_count, class_labels, draw_latent, generate, generating

CANDIDATES = 512
"""Random latents among which the starts are chosen."""
RAMP_UP, RAMP_DOWN, CALM = 0.05, 0.25, 0.75
"""Shares of the steps in which the learning rate rises, in which it falls, and after which no noise is added (Karras et
al. 2020, appendix D)."""
NOISE = 0.05
"""The noise on the latents at the start, in their standard deviations."""


@dataclass(frozen=True)
class Inversion:
    """The result of `invert`.

    Attributes:
        latents: a point for each image.
        images: (N, C, H, W) the images of these points.
        distances: (N,) their distances from the targets: the perceptual one, if there is one, plus the mean square of
            the pixels' differences on [-1, 1].
    """

    latents: Latents
    images: Tensor
    distances: Tensor


def invert(
    g: nn.Module,
    images: Tensor,
    *,
    steps: int = 300,
    starts: int = 2,
    lr: float = 0.1,
    seed: int = 0,
    labels: Labels | None = None,
    features: str = "auto",
) -> Inversion:
    """Find the latents whose images are nearest to given images.

    Adam moves w, a row for each layer, or z where there are no styles. Each image has several starts, of which the best
    end is kept: the mean, and the nearest among random latents. Noise on the latents, which falls to zero, keeps them
    from settling at once.

    Args:
        g: a generator of images.
        images: (N, C, H, W) of the generator's size, in [-1, 1], all of them in one batch.
        steps: updates.
        starts: starts for each image, at least 1.
        lr: the largest step, in standard deviations of the latents.
        seed: of the random latents and the noise.
        labels: the classes of the images, for a conditional generator without styles: its z does not hold them.
        features: what the perceptual distance is computed by: "auto" or "auto=FILE" (timm's tf_efficientnet_lite0),
            "timm:NAME", "timm:NAME=FILE", "mnist" for digits, or "none" for pixels alone.

    Raises:
        SampleError: the images are not of the generator's shape, or a number is out of range.
        EvaluationError: the weights of the features cannot be loaded.
    """
    if steps < 1 or starts < 1 or not lr > 0:
        raise SampleError(f"steps and starts are at least 1 and lr is above 0, not {steps}, {starts} and {lr}")
    with generating(g) as device:
        perceptual = None if features == "none" else perceptual_distance(features).to(device)
        targets, n = images.to(device, torch.float32), len(images)
        begun, mean, deviation = _starts(g, targets, starts, seed, _classes(g, n, labels))
        targets = targets.repeat(starts, 1, 1, 1)
        repeated = None if begun.labels is None else begun.labels.to(device)
        synthesise: Any = g.synthesize if begun.kind == "w" else lambda z: generate(g, z, repeated)
        offset = (begun.values.to(device) - mean) / deviation
        noise = Rng(seed, 0, "invert/noise", device)
        with torch.enable_grad(), counting(steps, f"steps of {n} image{'s' if n > 1 else ''}") as advance:
            offset.requires_grad_()
            optimizer = torch.optim.Adam([offset])
            for step in range(steps):
                share = step / steps
                optimizer.param_groups[0]["lr"] = lr * min(1.0, (1 - share) / RAMP_DOWN, (share + 1 / steps) / RAMP_UP)
                strength = NOISE * max(0.0, 1 - share / CALM) ** 2
                drawn = synthesise(mean + deviation * (offset + strength * noise.randn(*offset.shape)))
                distance = _distances(drawn.float(), targets, perceptual).sum()
                (offset.grad,) = torch.autograd.grad(distance, offset)
                optimizer.step()
                advance(1)
        ends = replace(begun, values=(mean + deviation * offset).detach().cpu())
        drawn = render(g, ends)
        distances = _distances(drawn, targets, perceptual).reshape(starts, n)
    best = distances.argmin(0).cpu() * n + torch.arange(n)
    return Inversion(ends[best], drawn[best.to(drawn.device)], distances.amin(0).cpu())


def _classes(g: nn.Module, n: int, labels: Labels | None) -> Tensor | None:
    """The classes of n images."""
    if labels is None and not has_styles(g) and class_count(g) is not None:
        raise SampleError("this generator draws by class: say of which class the pictures are")
    return None if labels is None else class_labels(g, n, labels)


def _starts(
    g: nn.Module, images: Tensor, starts: int, seed: int, classes: Tensor | None
) -> tuple[Latents, Tensor, Tensor]:
    """Where to begin, start by start for all images, and the mean and the deviation of the latents.

    The first start is the mean, the others are the nearest images among random latents.

    Raises:
        SampleError: the images are not of the generator's shape.
    """
    n = len(images)
    z = draw_latent(g, CANDIDATES, Rng(seed, 0, "invert"))
    some = to_latents(g, z, class_labels(g, CANDIDATES, None), {})
    drawn = render(g, some)
    if images.dim() != 4 or images.shape[1:] != drawn.shape[1:] or not n:
        raise SampleError(f"images of shape {tuple(images.shape)}: this generator's are {tuple(drawn.shape[1:])} each")
    if some.kind == "z":
        mean, deviation = torch.zeros(()), torch.ones(())
    else:
        mean, deviation = some.values.mean(0), some.values.std((0, 1))
    squares = torch.cdist(images.flatten(1), drawn.clamp(-1, 1).flatten(1))
    order = squares.argsort(1)[:, : starts - 1].T.flatten().cpu()
    first = mean.expand(some.values.shape[1:]).expand(n, *some.values.shape[1:])
    values = torch.cat([first, some.values[order]])
    begun = Latents(values, some.kind, None if classes is None else classes.repeat(starts))
    return begun, mean.to(images.device), deviation.to(images.device)


def _distances(images: Tensor, targets: Tensor, perceptual: nn.Module | None) -> Tensor:
    """(N,) distances: the mean square of the pixels' differences, and the perceptual distance if there is one."""
    pixels = (images - targets).square().mean((1, 2, 3))
    return pixels if perceptual is None else pixels + perceptual(images, targets)
