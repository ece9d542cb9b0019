"""Latents, samples and walks.

Images are generated in whole blocks of one fixed size and each block has a random stream of its own, so the first
samples of a seed do not depend on how many are drawn.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.devices import exact_arithmetic
from ganzoo.errors import SampleError
from ganzoo.rng import Rng, preserve_torch, seed_torch, stream_seed, to_device
from ganzoo.sampling.classes import check_number, class_names, find_class
from ganzoo.sampling.options import check_options, input_channels, takes_inputs
from ganzoo.sampling.values import from_uint8

BLOCK = 64
"""Images generated at once: kernels round differently at other batch sizes."""
PIECE = 1 << 18
"""The most pixels of inputs, of all their channels' common height and width, that are translated at once."""

Labels = int | str | Sequence[int | str] | Tensor


def draw_latent(g: nn.Module, n: int, rng: Rng) -> Tensor:
    """n latents for `g`: from its own `draw_latent(n, rng)` if it has one, else (n, z_dim) from N(0, I)."""
    own: Callable[[int, Rng], Tensor] | None = getattr(g, "draw_latent", None)
    if own is not None:
        return own(n, rng)
    config: dict[str, Any] = g.config  # type: ignore[assignment]  # set by create
    return rng.randn(n, config["z_dim"])


@contextlib.contextmanager
def generating(g: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode, no graph and exact arithmetic; the modes and the caller's random state are restored at the end.

    Yields:
        The generator's device.
    """
    modes = [(module, module.training) for module in g.modules()]
    parameter = next(g.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    g.eval()
    try:
        with preserve_torch(device), exact_arithmetic(device), torch.no_grad():
            yield device
    finally:
        for module, mode in modes:
            module.training = mode


def class_count(g: nn.Module) -> int | None:
    """The number of classes that a generator was conditioned on; None for an unconditional one."""
    count: int | None = getattr(g, "config", {}).get("num_classes")
    return count


def require_classes(g: nn.Module) -> int:
    """The number of classes of a conditional generator.

    Raises:
        SampleError: it is unconditional.
    """
    count = class_count(g)
    if count is None:
        raise SampleError("this generator is unconditional, so there is no class to choose: leave it out")
    return count


def generate(
    g: nn.Module, z: Tensor, labels: Tensor | None = None, inputs: Tensor | None = None, **options: Any
) -> Tensor:
    """One forward pass of a generator. A conditional one without labels makes item i of class i mod num_classes."""
    count = class_count(g)
    if inputs is not None:
        options["inputs"] = inputs
    if count is None:
        items: Tensor = g(z, **options)
    else:
        items = g(z, torch.arange(len(z), device=z.device) % count if labels is None else labels, **options)
    return items


def class_labels(g: nn.Module, n: int, labels: Labels | None) -> Tensor | None:
    """A class for each of n samples, (n,) int64; None for an unconditional generator.

    Raises:
        SampleError: the generator has no classes, or not these, or their number is not n.
    """
    if labels is None and class_count(g) is None:
        return None
    count = require_classes(g)
    if labels is None:
        return torch.arange(n) % count
    if isinstance(labels, int | str):
        labels = [labels] * n
    if not isinstance(labels, Tensor):
        names = class_names(g)
        labels = [find_class(label, names, count) if isinstance(label, str) else label for label in labels]
    classes = torch.as_tensor(labels).long().cpu()
    if classes.shape != (n,):
        raise SampleError(f"labels of shape {tuple(classes.shape)} for {n} samples: give one class, or one for each")
    for number in sorted(set(classes.tolist())):
        check_number(number, count)
    return classes


def _padded(g: nn.Module, n: int, labels: Labels | None) -> Tensor | None:
    """The classes of n samples, padded to whole blocks."""
    whole = -(-n // BLOCK) * BLOCK
    classes = class_labels(g, whole if labels is None else n, labels)
    return None if classes is None else torch.cat([classes, classes.new_zeros(whole - len(classes))])


def _block(
    g: nn.Module,
    k: int,
    seed: int,
    labels: Tensor | None,
    move: Callable[[Tensor], Tensor],
    options: dict[str, Any],
    inputs: Tensor | None = None,
) -> Tensor:
    """Block k of a seed's samples, with `move` applied to its latents, from `inputs`, which are this block's."""
    with generating(g) as device:
        z = move(draw_latent(g, BLOCK, Rng(seed, k, "sample", device)))
        seed_torch(stream_seed(seed, k, "sample/torch"), device)  # for generators that draw noise of their own
        classes = None if labels is None else to_device(labels[k * BLOCK : (k + 1) * BLOCK], device)
        if inputs is None:
            return generate(g, z, classes, **options).float()
        size, pieces = piece(inputs), []
        for start in range(0, len(inputs), size):
            rows = slice(start, start + size)
            own = to_device(inputs[rows], device)
            padded = torch.cat([own, own[-1:].expand(size - len(own), *own.shape[1:])])
            made = generate(g, z[rows], None if classes is None else classes[rows], padded, **options)
            pieces.append(made[: len(own)].float())
        return torch.cat(pieces)


def piece(inputs: Any) -> int:
    """The number of such inputs (N, ...) that are translated at once: as many as in a block, or fewer if they are
    large. It depends on their shape alone."""
    pixels: int = math.prod(inputs.shape[2:])
    return max(1, min(BLOCK, 1 << (PIECE // max(1, pixels)).bit_length() >> 1))


def blocks(
    g: nn.Module,
    n: int,
    seed: int = 0,
    labels: Labels | None = None,
    inputs: Tensor | None = None,
    **options: Any,
) -> Iterator[Tensor]:
    """The samples that `sample` gives, in blocks of at most 64, for more than fit in memory.

    Raises:
        SampleError: as `sample`.
    """
    if n < 1 or seed < 0:
        raise SampleError(f"n must be at least 1 and seed at least 0, not {n} and {seed}")
    check_options(g, options)
    inputs = check_inputs(g, n, inputs, options)
    classes = _padded(g, n, labels)
    for k in range(-(-n // BLOCK)):
        own = None
        if inputs is not None:
            rows = inputs.expand(n, *inputs.shape[1:])[k * BLOCK : (k + 1) * BLOCK]
            own = from_uint8(rows) if rows.dtype == torch.uint8 else rows
        yield _block(g, k, seed, classes, lambda z: z, options, own)[: n - k * BLOCK]


def check_inputs(g: nn.Module, n: int, inputs: Tensor | None, options: Mapping[str, Any]) -> Tensor | None:
    """The inputs of n samples under these call options: (n, ...) or (1, ...); None for a generator that takes none.

    Raises:
        SampleError: they are missing, there are none to take, or their number or channels do not fit.
    """
    if inputs is not None:
        require_inputs(g)
    elif not takes_inputs(g):
        return None
    else:
        raise SampleError("this generator translates: give it inputs, as in --inputs photos/ or inputs=images")
    if len(inputs) not in (1, n):
        raise SampleError(f"there are {len(inputs)} inputs for {n} samples: give one for each, or one for all")
    channels = input_channels(g, options)
    if channels is not None and (inputs.dim() != 4 or inputs.shape[1] != channels):
        raise SampleError(f"this generator takes inputs of shape (N, {channels}, H, W), not {tuple(inputs.shape)}")
    return inputs


def require_inputs(g: nn.Module) -> None:
    """Check that a generator translates inputs.

    Raises:
        SampleError: it does not.
    """
    if not takes_inputs(g):
        raise SampleError("this generator translates nothing: leave the inputs out")


def require_no_inputs(g: nn.Module, what: str) -> None:
    """Check that a generator draws its samples from latents alone.

    Raises:
        SampleError: it translates inputs.
    """
    if takes_inputs(g):
        raise SampleError(f"{what} is for generators that start from latents alone, and this one translates inputs")


def as_generator(g: Any) -> nn.Module:
    """A generator, or that of a run.

    Raises:
        SampleError: it is neither.
    """
    own = g if isinstance(g, nn.Module) else getattr(g, "generator", None)
    if not isinstance(own, nn.Module):
        hint = f": load it first, ganzoo.from_pretrained({str(g)!r})" if isinstance(g, str | os.PathLike) else ""
        raise SampleError(f"a generator is needed, and this is a {type(g).__name__}{hint}")
    return own


def sample(
    g: nn.Module,
    n: int | None = None,
    seed: int = 0,
    labels: Labels | None = None,
    *,
    inputs: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Draw n samples from a generator.

    Args:
        g: a generator, from `create` or `from_pretrained`, or a run.
        n: the number of samples; None: as many as inputs.
        seed: of the latents. The same seed gives the same first samples whatever n is.
        labels: for a conditional generator, a class for all samples or one for each, by number or by name; None: the
            classes in turn, sample i of class i mod num_classes. `g.class_names` are the names.
        inputs: for a generator that translates, an input for each sample or one for all, on any device: images
            (N, C, H, W), uint8 or floats in [-1, 1], of the channels in `g.config["input_channels"]` unless an option
            changes them.
        **options: of the generator's own, such as `truncation=0.7` for StyleGAN2: the keyword-only arguments of its
            forward.

    Returns:
        (n, ...) float32 on the generator's device; images (n, C, H, W) in [-1, 1], or beyond if `g.unbounded` is true.

    Raises:
        SampleError: n below 1, classes or options that the generator does not have, or inputs that are missing or do
            not fit.
        ConfigError: the generator refuses the value of an option or the size of inputs.
    """
    g = as_generator(g)
    if n is None:
        if inputs is None:
            raise SampleError("n is missing: say how many samples to draw")
        n = len(inputs)
    return torch.cat(list(blocks(g, n, seed, labels, inputs, **options)))


def walk(
    g: nn.Module, n: int, frames: int, seed: int = 0, labels: Labels | None = None, **options: Any
) -> Iterator[Tensor]:
    """Samples along n closed loops through latent space, a frame at a time.

    Each latent goes round a great circle, z(t) = cos(t) z0 + sin(t) z1: every point of it is distributed as z is,
    N(0, I), and the last frame leads back to the first. A generator with latents of its own may define its own loop:
    `along(z, turn)` gives the latents z after that part of a turn, 0 to 1.

    Args:
        g: a generator.
        n: loops side by side.
        frames: the number of frames in a loop.
        seed: of the latents.
        labels: for a conditional generator, as for `sample`; they stay the same along a loop.
        **options: as for `sample`.

    Returns:
        `frames` tensors (n, C, H, W), with values as those of `sample`.

    Raises:
        SampleError: n or frames below 1, or as `sample`.
    """
    if n < 1 or frames < 1:
        raise SampleError(f"a walk needs at least one image and one frame, not {n} and {frames}")
    require_no_inputs(g, "a walk")
    check_options(g, options)
    classes = _padded(g, n, labels)
    for frame in range(frames):
        angle = 2 * math.pi * frame / frames
        images = []
        for k in range(-(-n // BLOCK)):

            def move(z: Tensor, k: int = k, turn: float = frame / frames, angle: float = angle) -> Tensor:
                own: Callable[[Tensor, float], Tensor] | None = getattr(g, "along", None)
                if own is not None:
                    return own(z, turn)
                other = draw_latent(g, BLOCK, Rng(seed, k, "walk", z.device))
                return math.cos(angle) * z + math.sin(angle) * other

            images.append(_block(g, k, seed, classes, move, options)[: n - k * BLOCK])
        yield torch.cat(images)
