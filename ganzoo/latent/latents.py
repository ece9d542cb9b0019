"""Latents as values that can be kept, changed and drawn: styles w where a generator has them, and z otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganzoo.errors import SampleError
from ganzoo.files import reason, write_tensors
from ganzoo.rng import Rng
from ganzoo.sampling.classes import check_number
from ganzoo.sampling.draw import (
    BLOCK,
    Labels,
    class_count,
    class_labels,
    draw_latent,
    generate,
    generating,
    require_no_inputs,
)
from ganzoo.sampling.options import check_options, options_of

Kind = Literal["z", "w"]


@dataclass(frozen=True)
class Latents:
    """Points of a generator's latent space, in the order of their images.

    Attributes:
        values: (N, ...) float32 on the CPU: z, (N, z_dim), or w, such as (N, layers, w_dim).
        kind: "z", or "w" if the generator has styles.
        labels: (N,) int64, the classes of a conditional generator; None for others. In w, which holds the class
            already, they are not needed.
    """

    values: Tensor
    kind: Kind
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> "Latents":
        """Some of these points, as a slice or by a list of indices."""
        return replace(self, values=self.values[index], labels=None if self.labels is None else self.labels[index])

    def save(self, path: str | Path) -> None:
        """Write them as safetensors: `z` or `w`, and `labels` if there are any.

        Raises:
            SampleError: the file cannot be written.
        """
        tensors: dict[str, Tensor] = {self.kind: self.values}
        if self.labels is not None:
            tensors["labels"] = self.labels
        write_points(tensors, path)

    @classmethod
    def load(cls, path: str | Path) -> "Latents":
        """Read what `save` wrote.

        Raises:
            SampleError: the file cannot be read, or holds something else.
        """
        tensors = read_points(path, "latents")
        kinds: list[Kind] = [kind for kind in ("z", "w") if kind in tensors]
        if len(kinds) != 1 or not tensors.keys() <= {*kinds, "labels"}:
            raise SampleError(f"{path} holds {', '.join(tensors) or 'nothing'}: a file of latents holds z or w alone")
        values, labels = tensors[kinds[0]].float(), tensors.get("labels")
        if not len(values) or values.dim() < 2 or (labels is not None and labels.shape != (len(values),)):
            raise SampleError(f"{path} holds {kinds[0]} of shape {tuple(values.shape)}, which are no latents")
        if not values.isfinite().all():
            raise SampleError(f"{path} holds NaN or infinite values: write it again")
        return cls(values, kinds[0], labels)


def write_points(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Write latents or directions as safetensors.

    Raises:
        SampleError: the file cannot be written.
    """
    try:
        write_tensors({name: tensor.contiguous() for name, tensor in tensors.items()}, Path(path))
    except (OSError, SafetensorError) as error:
        raise SampleError(f"{path} cannot be written: {reason(error)}. Choose another file") from error


def read_points(path: str | Path, what: str) -> dict[str, Tensor]:
    """The tensors of a file of latents or directions.

    Raises:
        SampleError: the file cannot be read.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SampleError(f"{path} cannot be read as {what}: {reason(error)}. Name a file that ganzoo wrote") from error
    return tensors


def has_styles(g: nn.Module) -> bool:
    """Whether a generator has styles w between its latents and its images."""
    return callable(getattr(g, "style", None)) and callable(getattr(g, "synthesize", None))


def split_options(g: nn.Module, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A generator's call options, as those of its style and those of its synthesis, or all in the second.

    Raises:
        SampleError: it has no such option.
    """
    check_options(g, options)
    if not has_styles(g):
        return {}, dict(options)
    of_style = options_of(g.style)  # type: ignore[arg-type]  # has_styles
    styled = {name: value for name, value in options.items() if name in of_style}
    return styled, {name: value for name, value in options.items() if name not in of_style}


def latents(g: nn.Module, seeds: Sequence[int], labels: Labels | None = None, **options: Any) -> Latents:
    """The latents of the first image of each of these seeds, in w if the generator has styles.

    Args:
        g: a generator.
        seeds: as for `ganzoo.sample`: the first image of `ganzoo.sample(g, 1, seed=5)` belongs to seed 5.
        labels: for a conditional generator, a class for all or one for each; None: the classes in turn.
        **options: of the generator's own that act on w, such as `truncation=0.7`.

    Raises:
        SampleError: there is no seed, a seed is negative, or the generator lacks classes or options.
    """
    require_no_inputs(g, "a choice of latents")
    if not seeds or any(seed < 0 for seed in seeds):
        raise SampleError(f"seeds are whole numbers from 0, and at least one: not {list(seeds)}")
    own, _ = split_options(g, options)
    z = torch.cat([draw_latent(g, BLOCK, Rng(seed, 0, "sample"))[:1] for seed in seeds])
    return to_latents(g, z, class_labels(g, len(seeds), labels), own)


def sampled(g: nn.Module, n: int, seed: int = 0, labels: Labels | None = None, **options: Any) -> Latents:
    """The latents of the images that `ganzoo.sample(g, n, seed, labels)` gives, in w if the generator has styles.

    Raises:
        SampleError: n is below 1, or the generator lacks classes or options.
    """
    if n < 1:
        raise SampleError(f"n must be at least 1, not {n}")
    require_no_inputs(g, "moving latents")
    own, _ = split_options(g, options)
    z = torch.cat([draw_latent(g, BLOCK, Rng(seed, k, "sample")) for k in range(-(-n // BLOCK))])
    return to_latents(g, z[:n], class_labels(g, n, labels), own)


def to_latents(g: nn.Module, z: Tensor, labels: Tensor | None, options: Mapping[str, Any]) -> Latents:
    """Latents z, (N, ...), as points of the space that is walked in: w if the generator has styles."""
    if not has_styles(g):
        return Latents(z, "z", labels)
    with generating(g) as device:
        arguments = [z.to(device)] if labels is None else [z.to(device), labels.to(device)]
        w: Tensor = g.style(*arguments, **options)  # type: ignore[operator]
        return Latents(w.float().cpu().contiguous(), "w", labels)


def render(g: nn.Module, points: Latents, **options: Any) -> Tensor:
    """The images of latents.

    Args:
        g: the generator that the latents belong to.
        points: the latents.
        **options: of the generator's own; in w those that act after it, such as `noise="none"`.

    Returns:
        (N, C, H, W) float32 on the generator's device, with values as those of `ganzoo.sample`.

    Raises:
        SampleError: the latents are not of this generator's shape or kind, or it has no such option, or translates.
    """
    return preview(g, points, BLOCK, options)


def preview(g: nn.Module, points: Latents, size: int, options: Mapping[str, Any]) -> Tensor:
    """The images that `render` gives, generated in blocks of another size. They differ from those by what kernels round
    differently, which no eye sees, and a few images take less time.

    Args:
        g, points, options: as for `render`.
        size: images that are generated at once.

    Raises:
        SampleError: as `render`.
    """
    require_no_inputs(g, "rendering latents")
    check(g, points)
    of_style, rest = split_options(g, options)
    if points.kind == "w" and of_style:
        raise SampleError(f"{next(iter(of_style))} acts on z, and these are w already: leave it out")
    images = []
    with generating(g) as device:
        for start in range(0, len(points), size):
            block = points[start : start + size]
            # Blocks of one size, because kernels round differently at others.
            values = torch.cat([block.values, block.values[:1].expand(size - len(block), *block.values.shape[1:])])
            if points.kind == "w":
                items: Tensor = g.synthesize(values.to(device), **rest)  # type: ignore[operator]
            else:
                labels = block.labels
                if labels is not None:
                    labels = torch.cat([labels, labels.new_zeros(size - len(block))]).to(device)
                items = generate(g, values.to(device), labels, **of_style, **rest)
            images.append(items[: len(block)].float())
    return torch.cat(images)


def check(g: nn.Module, points: Latents) -> None:
    """Check that latents can be this generator's.

    Raises:
        SampleError: they have another shape or kind, or lack the classes of a conditional generator.
    """
    if points.kind == "w" and not has_styles(g):
        raise SampleError("these latents are styles w, and this generator has none: take one with styles")
    expected = space_shape(g, points.kind)
    if tuple(points.values.shape[1:]) != expected:
        shape = tuple(points.values.shape[1:])
        raise SampleError(f"these latents have the shape {shape} each, this generator's {points.kind} {expected}")
    count = class_count(g)
    if points.kind == "z" and count is not None and points.labels is None:
        raise SampleError("this generator is conditional, and these latents have no classes: write them with labels")
    if points.labels is not None and count is not None:
        for number in points.labels.tolist():
            check_number(number, count)


def space_shape(g: nn.Module, kind: Kind) -> tuple[int, ...]:
    """The shape of one z or w of a generator."""
    z = draw_latent(g, 1, Rng(0, 0, "shape"))
    if kind == "z":
        return tuple(z.shape[1:])
    return tuple(to_latents(g, z, class_labels(g, 1, None), {}).values.shape[1:])
