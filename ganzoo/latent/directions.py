"""Directions in latent space along which one thing changes, found without labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from ganzoo.errors import SampleError
from ganzoo.latent.latents import (
    Kind,
    Latents,
    has_styles,
    read_points,
    render,
    space_shape,
    to_latents,
    write_points,
)
from ganzoo.rng import Rng
from ganzoo.sampling.classes import class_names, find_class
from ganzoo.sampling.draw import (
    class_labels,
    draw_latent,
    generate,
    generating,
    require_classes,
    require_no_inputs,
)
from ganzoo.sampling.pictures import grid, to_uint8

Method = Literal["factorise", "components"]
METHODS = ("factorise", "components")
DRAWN = 10_000
"""Latents from which components and deviations are computed."""
COLUMNS = 7
REACH = 3.0
"""Deviations from the middle to the ends of a sheet."""


@dataclass(frozen=True)
class Directions:
    """Directions in a generator's latent space.

    Attributes:
        values: (n, D) float32, of length 1: directions of w, or of z.
        deviations: (n,): the standard deviation of w (of z: 1) along each.
        kind: "w" or "z".
        layers: the rows of w that they act on; None: all.
    """

    values: Tensor
    deviations: Tensor
    kind: Kind
    layers: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def move(self, points: Latents, index: int, strength: float) -> Latents:
        """Latents moved along a direction.

        Args:
            points: the latents, of the same kind.
            index: the number of the direction, from 0.
            strength: how far, in standard deviations.

        Raises:
            SampleError: there is no such direction, or the latents are of another kind or size.
        """
        if not 0 <= index < len(self):
            raise SampleError(f"there is no direction {index}: this file has 0 to {len(self) - 1}")
        if points.kind != self.kind or points.values.shape[-1] != self.values.shape[1]:
            raise SampleError(
                f"these directions are of {self.kind} with {self.values.shape[1]} numbers, the latents are of "
                f"{points.kind} with {points.values.shape[-1]}"
            )
        step = strength * self.deviations[index] * self.values[index]
        values = points.values.clone()
        if self.layers is None or points.kind == "z":
            values += step
        elif max(self.layers) < values.shape[1]:
            values[:, list(self.layers)] += step
        else:
            raise SampleError(f"these directions act on layer {max(self.layers)}, and w has {values.shape[1]} layers")
        return Latents(values, points.kind, points.labels)

    def save(self, path: str | Path) -> None:
        """Write them as safetensors.

        Raises:
            SampleError: the file cannot be written.
        """
        tensors = {f"directions.{self.kind}": self.values, "deviations": self.deviations}
        if self.layers is not None:
            tensors["layers"] = torch.tensor(self.layers)
        write_points(tensors, path)

    @classmethod
    def load(cls, path: str | Path) -> "Directions":
        """Read what `save` wrote.

        Raises:
            SampleError: the file cannot be read, or holds something else.
        """
        tensors = read_points(path, "directions")
        kinds: list[Kind] = [kind for kind in ("z", "w") if f"directions.{kind}" in tensors]
        known = {"deviations", "layers", *(f"directions.{kind}" for kind in kinds)}
        if len(kinds) != 1 or not {"deviations"} <= tensors.keys() <= known:
            raise SampleError(f"{path} holds {', '.join(tensors) or 'nothing'}: that is no file of directions")
        values, deviations = tensors[f"directions.{kinds[0]}"].float(), tensors["deviations"].float()
        layers = tensors.get("layers")
        valid = values.dim() == 2 and len(values) and deviations.shape == values.shape[:1]
        if layers is not None:
            whole = layers.dim() == 1 and len(layers) and layers.dtype == torch.int64
            valid = valid and whole and int(layers.min()) >= 0
        if not valid or not (values.isfinite().all() and deviations.isfinite().all()):
            raise SampleError(f"{path} holds directions of shape {tuple(values.shape)}, which cannot be used")
        return cls(values, deviations, kinds[0], None if layers is None else tuple(layers.tolist()))


def directions(
    g: nn.Module, n: int = 8, *, method: Method | None = None, layers: Sequence[int] | None = None
) -> Directions:
    """Find directions of latent space along which images change most.

    Args:
        g: a generator.
        n: the number of directions, at most as many as w (or z) has numbers.
        method: "factorise": the directions that the weights after w, or the first layer after z, amplify most, which
            are eigenvectors of the weights' Gram matrix (SeFa, Shen & Zhou 2021, https://arxiv.org/abs/2007.06600);
            "components": the principal components of w (GANSpace, Härkönen et al. 2020,
            https://arxiv.org/abs/2004.02546), for generators with styles; None: "factorise".
        layers: the layers whose weights count, and which the directions act on; None: all. Only with styles.

    Returns:
        The directions, those of the largest effect first.

    Raises:
        SampleError: the generator has too few dimensions or no such layer, no styles where they are needed, or it
            translates inputs.
    """
    require_no_inputs(g, "a direction of latents")
    if method is not None and method not in METHODS:
        raise SampleError(f"the method is {' or '.join(METHODS)}, not {method!r}")
    if not has_styles(g):
        if method == "components" or layers is not None:
            what = "layers" if layers is not None else "components"
            raise SampleError(f"{what} are those of styles w, and this generator has only z: leave {what} out")
        values = _top(_first_layer(g), n)
        return Directions(values, torch.ones(len(values)), "z")
    kept = tuple(sorted(set(layers))) if layers is not None else None
    rows = space_shape(g, "w")[0]
    if kept is not None and (not kept or not all(0 <= layer < rows for layer in kept)):
        raise SampleError(f"there is no such layer in {list(kept)}: this generator has 0 to {rows - 1}")
    w = _styles(g)
    if method == "components":
        values = _top(w - w.mean(0), n)
    else:
        weights: list[Tensor] = g.style_weights()  # type: ignore[operator]
        chosen = weights if kept is None else [weights[layer] for layer in kept]
        values = _top(torch.cat([weight.detach().float().cpu() for weight in chosen]), n)
    return Directions(values, (w @ values.T).std(0), "w", kept)


def class_direction(g: nn.Module, start: int | str, end: int | str) -> Directions:
    """The direction from the mean w of one class to that of another. Moving by its length changes the class.

    Its deviation is that length, so that a strength of 1 leads from the mean of one class to that of the other.

    Raises:
        SampleError: the generator has no styles or no such classes.
    """
    count = require_classes(g)
    if not has_styles(g):
        raise SampleError("in z there is no direction between classes: they are an input of their own (--class)")
    names = class_names(g)
    numbers = [find_class(one, names, count) if isinstance(one, str) else one for one in (start, end)]
    before, after = (_styles(g, number).mean(0) for number in numbers)
    length = torch.linalg.vector_norm(after - before)
    if not length > 0:
        raise SampleError("both classes have the same mean: choose two different ones")
    return Directions(((after - before) / length)[None], length[None], "w")


def _styles(g: nn.Module, label: int | None = None) -> Tensor:
    """The w of many latents, (N, D), of all classes in turn or of one."""
    z = draw_latent(g, DRAWN, Rng(0, 0, "directions"))
    labels = class_labels(g, DRAWN, label)
    w = to_latents(g, z, labels, {}).values
    first: Tensor = w[:, 0]
    return first


def _top(weights: Tensor, n: int) -> Tensor:
    """The n directions (n, D) that a matrix (rows, D) amplifies most, with their largest number positive."""
    size = weights.shape[1]
    if not 1 <= n <= size:
        raise SampleError(f"there are 1 to {size} directions here, not {n}: choose another -n")
    _, vectors = torch.linalg.eigh((weights.T @ weights).double())
    top: Tensor = vectors.flip(1)[:, :n].T
    signs = top.gather(1, top.abs().argmax(1, keepdim=True)).sign()
    return torch.mul(top, signs).float().contiguous()


def _first_layer(g: nn.Module) -> Tensor:
    """The weights (outputs, z_dim) of the first layer that the latent reaches."""
    z = draw_latent(g, 1, Rng(0, 0, "shape"))
    first: list[Tensor] = []

    def record(module: nn.Module, *_: Any) -> None:
        weight: Tensor = module.weight.detach().float()  # type: ignore[operator]
        matrix = weight.flatten(2).permute(0, 2, 1).flatten(0, 1) if weight.dim() > 2 else weight
        if isinstance(module, nn.ConvTranspose2d):
            matrix = weight.flatten(1).T
        if not first and matrix.shape[1] >= z.shape[1]:
            first.append(matrix[:, : z.shape[1]].cpu())

    kinds = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
    handles = [module.register_forward_pre_hook(record) for module in g.modules() if isinstance(module, kinds)]
    try:
        with generating(g) as device:
            generate(g, z.to(device))
    finally:
        for handle in handles:
            handle.remove()
    if not first or z.dim() != 2:
        raise SampleError("this generator has no layer that takes its latent as it is, so it cannot be factorised")
    return first[0]


def sheet(g: nn.Module, found: Directions, points: Latents, **options: Any) -> Image.Image:
    """A picture with a direction a row: the image of one latent from -3 to 3 standard deviations along it."""
    strengths = torch.linspace(-REACH, REACH, COLUMNS).tolist()
    moved = [found.move(points[:1], i, strength) for i in range(len(found)) for strength in strengths]
    labels = None if points.labels is None else points.labels[:1].expand(len(moved))
    images = render(g, Latents(torch.cat([one.values for one in moved]), points.kind, labels), **options)
    return grid(to_uint8(images), COLUMNS, [str(i) for i in range(len(found))])
