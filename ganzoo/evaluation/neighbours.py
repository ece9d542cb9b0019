"""The training images nearest to each sample: whether a generator copies what it has learned from."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ganzoo.errors import EvaluationError
from ganzoo.files import reason
from ganzoo.sampling.pictures import MARGIN, grid, save

SHOWN = 3
"""Training images beside each sample of the picture."""
COLUMNS, ROWS = 3, 16
"""Samples side by side in the picture, and below each other."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
CLOSE = 0.01
"""The share of held-out images whose nearest training image is so near that a sample as near counts as a copy."""


def nearest(features: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest rows of `reference` (M, F) to each row of `features` (N, F), in Euclidean distance.

    Returns:
        Their distances (N, k), in rising order, and their indices (N, k). If M is below k, it is (N, M).
    """
    distances, indices = [], []
    for part in torch.split(features, 1000):
        near, at = torch.empty(len(part), 0), torch.empty(len(part), 0, dtype=torch.long)
        for start in range(0, len(reference), 10_000):
            block = reference[start : start + 10_000]
            centre = block.mean(0)  # `cdist` subtracts products, which leaves few digits far from the origin
            own, where = torch.cdist(part - centre, block - centre).topk(min(k, len(block)), largest=False)
            near, at = torch.cat([near, own], 1), torch.cat([at, where + start], 1)
            near, order = near.topk(min(k, near.shape[1]), largest=False)
            at = at.gather(1, order)
        exact, order = (part[:, None] - reference[at]).norm(dim=2).sort(1)
        distances.append(exact)
        indices.append(at.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


def scale_of(distances: Tensor, name: str) -> dict[str, float]:
    """What the distances of samples are compared with.

    Args:
        distances: from each held-out image to the nearest training image, (N,).
        name: the name of the held-out images, for messages.

    Returns:
        Their median, "neighbour_median", and with at least 100 of them "neighbour_close", which 1 % of them do not
        exceed.

    Raises:
        EvaluationError: half of them or more are training images.
    """
    median = distances.quantile(0.5).item()
    if median == 0:
        raise EvaluationError(f"the held-out images of {name} are images of the reference too: choose others")
    scale = {"neighbour_median": median}
    if len(distances) * CLOSE >= 1:
        scale["neighbour_close"] = distances.quantile(CLOSE, interpolation="lower").item()
    return scale


def figures_of(distances: Tensor, scale: Mapping[str, float] | None) -> dict[str, float]:
    """The figures of samples.

    Args:
        distances: from each sample to the nearest training image, (N,).
        scale: the result of `scale_of`; None without held-out images.

    Returns:
        "neighbour_distance", the median of the distances as a multiple of that of held-out images, and "copies", the
        share of samples that are at least as near to a training image as the nearest 1 % of held-out images. Without
        held-out images "neighbour_median", the median itself.
    """
    median = distances.quantile(0.5).item()
    if scale is None:
        return {"neighbour_median": median}
    values = {"neighbour_distance": median / scale["neighbour_median"]}
    if "neighbour_close" in scale:
        values["copies"] = (distances <= scale["neighbour_close"]).double().mean().item()
    return values


def check_picture(path: Path) -> None:
    """Refuse a file that `draw` cannot write.

    Raises:
        EvaluationError: it has another suffix than those of pictures.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise EvaluationError(f"{path} is no picture of neighbours: its name must end in .png, .jpg or .webp")


def draw(samples: Tensor, near: Tensor, path: Path) -> None:
    """Write a picture of samples, each with its nearest training images to the right.

    Args:
        samples: uint8 (N, C, H, W).
        near: uint8 (N, k, C, H, W).
        path: the file.

    Raises:
        EvaluationError: it cannot be written.
    """
    n, channels, height, width = samples.shape
    gap, wide = samples.new_zeros(n, channels, height, MARGIN), samples.new_zeros(n, channels, height, width // 2)
    parts = [samples, gap]
    for image in near.unbind(1):
        parts += [gap, image]
    strips = torch.cat([*parts, wide], 3)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(grid(strips.permute(0, 2, 3, 1).numpy(), COLUMNS), path)
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written: {reason(error)}") from error
