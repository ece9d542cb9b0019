"""Latents, samples, grids and walks.

Images are generated in whole blocks of one fixed size and each block has a stream of its own, so the first rows of
a seed's samples do not depend on how many are asked for.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ganzoo.checkpoint import open_run
from ganzoo.errors import SampleError
from ganzoo.rng import Rng, preserve_torch, seed_torch, stream_seed
from ganzoo.zoo import network

BLOCK = 64
"""Images generated at once: kernels round differently at other batch sizes."""
STATISTICS_BLOCKS = 16
"""Blocks of latents from which BatchNorm's statistics are estimated."""

GRID = 64
"""Images in the grids that show a generator."""

Labels = int | Sequence[int] | Tensor
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def draw_latent(g: nn.Module, n: int, rng: Rng) -> Tensor:
    """n latents for `g`: what its own `draw_latent(n, rng)` gives, else (n, z_dim) from N(0, I)."""
    own: Callable[[int, Rng], Tensor] | None = getattr(g, "draw_latent", None)
    if own is not None:
        return own(n, rng)
    config: dict[str, Any] = g.config  # type: ignore[assignment]  # set by create
    return rng.randn(n, config["z_dim"])


@contextlib.contextmanager
def _generating(g: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode and no graph, with the modes and the caller's random state restored at the end."""
    modes = [(module, module.training) for module in g.modules()]
    parameter = next(g.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    g.eval()
    try:
        with preserve_torch(device), torch.no_grad():
            yield device
    finally:
        for module, mode in modes:
            module.training = mode


def class_count(g: nn.Module) -> int | None:
    """How many classes a generator was conditioned on; None if on none."""
    count: int | None = getattr(g, "config", {}).get("num_classes")
    return count


def generate(g: nn.Module, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """One pass of a generator, conditional or not; without labels, the i-th item is of class i mod num_classes."""
    count = class_count(g)
    if count is None:
        made: Tensor = g(z)
    else:
        made = g(z, torch.arange(len(z), device=z.device) % count if labels is None else labels)
    return made


def _asked(g: nn.Module, n: int, labels: Labels | None) -> Tensor | None:
    """A class for each of n samples, and for what fills their last block; None where the generator knows none.

    Raises:
        SampleError: the generator knows no classes, or not these, or there are not n of them.
    """
    count = class_count(g)
    if count is None:
        if labels is not None:
            raise SampleError("this generator was not trained by class, so there is none to choose: leave it out")
        return None
    whole = -(-n // BLOCK) * BLOCK
    if labels is None:
        return torch.arange(whole) % count
    if isinstance(labels, int):
        labels = [labels] * n
    chosen = torch.as_tensor(labels).long().cpu()
    if chosen.shape != (n,):
        raise SampleError(f"labels of shape {tuple(chosen.shape)} for {n} samples: give one class, or one for each")
    if not bool(((chosen >= 0) & (chosen < count)).all()):
        wrong = next(int(label) for label in chosen if not 0 <= label < count)
        raise SampleError(f"there is no class {wrong}: this generator has the classes 0 to {count - 1}")
    return torch.cat([chosen, chosen.new_zeros(whole - n)])


def blocks(g: nn.Module, n: int, seed: int = 0, labels: Labels | None = None) -> Iterator[Tensor]:
    """The samples that `sample` gives, in blocks of at most 64: for more than fit in memory."""
    if n < 1:
        raise SampleError(f"n must be at least 1, not {n}")
    asked = _asked(g, n, labels)
    for start in range(0, n, BLOCK):
        k = start // BLOCK
        with _generating(g) as device:
            z = draw_latent(g, BLOCK, Rng(seed, k, "sample", device))
            seed_torch(stream_seed(seed, k, "sample/torch"), device)  # for generators that draw noise of their own
            classes = None if asked is None else asked[start : start + BLOCK].to(device)
            images = generate(g, z, classes)[: n - start].float()
        yield images


def sample(g: nn.Module, n: int, seed: int = 0, labels: Labels | None = None) -> Tensor:
    """Draw n samples from a generator.

    Args:
        g: a generator, from `create`, `from_pretrained` or a run.
        n: how many.
        seed: of the latents. The same seed gives the same first rows whatever n is.
        labels: of a conditional generator, a class for all samples or one for each; None: the classes in turn, sample i
            of class i mod num_classes.

    Returns:
        (n, ...) float32 on the generator's device; images (n, C, H, W) in [-1, 1].

    Raises:
        SampleError: n below 1, or classes that the generator does not have.
    """
    return torch.cat(list(blocks(g, n, seed, labels)))


def by_class(n: int, classes: Sequence[int]) -> tuple[list[int], int]:
    """Labels for about n samples as a grid with a class a row, and its columns."""
    columns = max(1, round(n / len(classes)))
    return [label for label in classes for _ in range(columns)], columns


def overview(g: nn.Module, seed: int = 0) -> Image.Image:
    """The grid that shows what a generator of images does: 64 samples, of a conditional one a class a row."""
    count = class_count(g)
    if count is None:
        return grid(to_uint8(sample(g, GRID, seed)))
    labels, columns = by_class(GRID, range(min(count, GRID)))
    return grid(to_uint8(sample(g, len(labels), seed, labels)), columns)


def walk(g: nn.Module, n: int, frames: int, seed: int = 0, labels: Labels | None = None) -> Iterator[Tensor]:
    """Samples along n closed loops through latent space, a frame at a time.

    Each latent goes round a great circle, z(t) = cos(t) z0 + sin(t) z1: every point of it is distributed as z is,
    N(0, I), and the last frame leads back to the first. A generator with latents of its own may say where theirs go:
    `along(z, turn)` gives latents z after that part of a turn, 0 to 1.

    Args:
        g: a generator.
        n: loops side by side.
        frames: frames a loop.
        seed: of the latents.
        labels: of a conditional generator, as for `sample`; they stay the same along a loop.

    Returns:
        `frames` tensors (n, C, H, W) in [-1, 1].

    Raises:
        SampleError: n or frames below 1.
    """
    if n < 1 or frames < 1:
        raise SampleError(f"a walk needs at least one image and one frame, not {n} and {frames}")
    asked = _asked(g, n, labels)
    for frame in range(frames):
        turn = frame / frames
        parts = []
        for start in range(0, n, BLOCK):
            k = start // BLOCK
            with _generating(g) as device:
                z = draw_latent(g, BLOCK, Rng(seed, k, "sample", device))
                own: Callable[[Tensor, float], Tensor] | None = getattr(g, "along", None)
                if own is not None:
                    z = own(z, turn)
                else:
                    other = draw_latent(g, BLOCK, Rng(seed, k, "walk", device))
                    z = math.cos(2 * math.pi * turn) * z + math.sin(2 * math.pi * turn) * other
                seed_torch(stream_seed(seed, k, "sample/torch"), device)
                classes = None if asked is None else asked[start : start + BLOCK].to(device)
                parts.append(generate(g, z, classes)[: n - start].float())
        yield torch.cat(parts)


def estimate_statistics(g: nn.Module) -> None:
    """Estimate BatchNorm's running statistics anew from 1,024 fixed latents, for the weights that `g` has now.

    Averaged weights need this: statistics that lag behind them, or were averaged along, ruin the samples. Layers that
    latents do not reach, as in an encoder, keep theirs.
    """
    norms = [module for module in g.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    before = [copy.deepcopy(norm.state_dict()) for norm in norms]
    with _generating(g) as device:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the blocks
            norm.training = True
        for k in range(STATISTICS_BLOCKS):
            z = draw_latent(g, BLOCK, Rng(0, k, "statistics", device))
            seed_torch(stream_seed(0, k, "statistics/torch"), device)
            labels = (k * BLOCK + torch.arange(BLOCK, device=device)) % (class_count(g) or 1)
            generate(g, z, labels)
    for norm, momentum, state in zip(norms, momenta, before, strict=True):
        norm.momentum = momentum
        if norm.num_batches_tracked is not None and not norm.num_batches_tracked:
            norm.load_state_dict(state)


def is_image(items: Tensor) -> bool:
    """Whether these are images that can be drawn: (N, 1 or 3, H, W)."""
    return items.dim() == 4 and items.shape[1] in (1, 3)


def to_uint8(images: Tensor) -> Pixels:
    """(N, C, H, W) in [-1, 1] to uint8 (N, H, W, C): -1 is 0 and 1 is 255, the same for every batch."""
    if not is_image(images):
        raise SampleError(f"samples of shape {tuple(images.shape[1:])} are not images of 1 or 3 channels: write a .npy")
    pixels = images.detach().float().mul(127.5).add_(127.5).round_().clamp_(0, 255).byte()
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def grid(pixels: Pixels, columns: int | None = None) -> Image.Image:
    """Images (N, H, W, C) as one picture, row by row with a margin, as square as it gets unless `columns` says."""
    n, height, width, channels = pixels.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    margin = 2
    sheet = np.full((rows, height + margin, columns, width + margin, channels), 0, np.uint8)
    for i in range(n):
        sheet[i // columns, :height, i % columns, :width] = pixels[i]
    whole = sheet.reshape(rows * (height + margin), columns * (width + margin), channels)
    padded = np.pad(whole, ((margin, 0), (margin, 0), (0, 0)))
    return Image.fromarray(padded[:, :, 0] if channels == 1 else padded)


def load_run(folder: Path, part: Literal["ema", "generator"] = "ema") -> nn.Module:
    """The averaged generator of a run's newest checkpoint, or the raw one, in evaluation mode on the CPU.

    Args:
        folder: the run's, or that of one of its checkpoints.
        part: which of the two.

    Raises:
        CheckpointError: no run there, or no whole checkpoint in it yet.
    """
    _, checkpoint = open_run(folder)
    model = checkpoint.state["model"]
    g: nn.Module = network(model["architecture"], "generator", {}, model["generator"])
    g.load_state_dict(checkpoint.part(part))
    return g.eval()
