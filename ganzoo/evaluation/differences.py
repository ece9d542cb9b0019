"""How far translations are from the images that they should be: the metrics of pairs.

torchmetrics computes PSNR and SSIM.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from ganzoo.devices import exact_arithmetic
from ganzoo.errors import EvaluationError
from ganzoo.evaluation.features import Extractor

PAIRED = ("l1", "psnr", "ssim", "perceptual")
"""The metrics that compare an image with the one that it should be."""
MOST_PSNR = 100.0
"""The PSNR, in dB, of images that agree, where it has no bound."""
WINDOW, SIGMA = 11, 1.5
"""The side of SSIM's Gaussian window and its standard deviation, in pixels."""


class Differences:
    """The mean differences between images and those that they should be, from one pass over batches of them.

    Args:
        metrics: names of metrics, of which those in `PAIRED` are computed.
        perceptual: the perceptual distances (N,) of uint8 images (N, C, H, W), if that metric is among them.
        device: the device that computes them.

    Raises:
        EvaluationError: a metric needs torchmetrics, which is not installed.
    """

    def __init__(
        self, metrics: Sequence[str], perceptual: Callable[[Tensor, Tensor], Tensor], device: torch.device
    ) -> None:
        self.functions, self.device = library(metrics), device
        self.perceptual = perceptual
        self.parts: dict[str, list[Tensor]] = {name: [] for name in PAIRED if name in metrics}

    def add(self, images: Tensor, targets: Tensor) -> None:
        """Compare a batch of uint8 images (N, C, H, W) with those that they should be."""
        images, targets = images.to(self.device), targets.to(self.device)
        x, y = images.float() / 255, targets.float() / 255
        for name, part in self.parts.items():
            if name == "perceptual":
                part.append(self.perceptual(images, targets).cpu())
                continue
            with torch.no_grad(), exact_arithmetic(self.device):
                part.append(self._compare(name, x, y).cpu())

    def _compare(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """The figures (N,) of images (N, C, H, W) in [0, 1] by a metric of pixels."""
        if name == "l1":
            return (x - y).abs().mean((1, 2, 3))
        if name == "psnr":
            figures: Tensor = self.functions[name](x, y, data_range=1.0, reduction="none", dim=(1, 2, 3))
            return figures.clamp(max=MOST_PSNR)
        _, maps = self.functions[name](x, y, data_range=1.0, sigma=SIGMA, reduction="none", return_full_image=True)
        # The library's own mean counts windows that reach beyond the edges, from its version 1.5 on.
        inside: Tensor = maps[..., WINDOW // 2 : -(WINDOW // 2), WINDOW // 2 : -(WINDOW // 2)]
        return inside.mean((1, 2, 3))

    @property
    def values(self) -> dict[str, float]:
        """The means over all images.

        "l1": the mean absolute difference of their values as a share of the full range, from 0 to 1. "psnr": the peak
        signal-to-noise ratio in dB, at most 100. "ssim": the structural similarity (Wang et al. 2004,
        https://doi.org/10.1109/TIP.2003.819861), mean over the channels and the windows that lie inside, at most 1.
        "perceptual": the distance of `Perceptual`.
        """
        return {name: torch.cat(part).double().mean().item() for name, part in self.parts.items()}


def library(metrics: Sequence[str]) -> dict[str, Any]:
    """The functions of torchmetrics that these metrics need; none if they need none.

    Raises:
        EvaluationError: it is not installed.
    """
    if not {"psnr", "ssim"}.intersection(metrics):
        return {}
    try:
        from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
    except ImportError as error:
        raise EvaluationError("psnr and ssim need torchmetrics: pip install 'ganzoo[eval]'") from error
    return {"psnr": peak_signal_noise_ratio, "ssim": structural_similarity_index_measure}


def check_library(metrics: Sequence[str] | None, problems: Mapping[str, str]) -> None:
    """Check that torchmetrics is there if one of these metrics needs it, before any work.

    Args:
        metrics: as for `Evaluator`.
        problems: the result of `problems`.

    Raises:
        EvaluationError: it is not installed.
    """
    wanted = PAIRED if metrics is None or "default" in metrics else metrics
    library([name for name in wanted if name not in problems])


def conditions(metrics: Sequence[str]) -> dict[str, Any]:
    """The part of the protocol that concerns these metrics, and the version of torchmetrics if they need it."""
    settings: dict[str, Any] = {"psnr": {"at_most": MOST_PSNR}, "ssim": {"window": WINDOW, "sigma": SIGMA}}
    chosen = {name: facts for name, facts in settings.items() if name in metrics}
    return {**chosen, "versions": {"torchmetrics": version("torchmetrics")}} if chosen else {}


def problems(paired: bool | None, shape: Sequence[int], features: Extractor) -> dict[str, str]:
    """The reasons why metrics are impossible, by name.

    Args:
        paired: whether the inputs belong to images; None without inputs.
        shape: that of an image, (C, H, W).
        features: the extractor.
    """
    if not paired:
        why = "there are no inputs: add --inputs" if paired is None else "these inputs are unpaired: leave it out"
        return dict.fromkeys(PAIRED, f"compares what a generator makes of an input with the image it belongs to, {why}")
    found = {}
    if min(shape[1:]) < WINDOW:
        found["ssim"] = f"needs images of at least {WINDOW} pixels a side, not {shape[1]}x{shape[2]}"
    if not features.has_maps:
        found["perceptual"] = f"needs feature maps, which the features {features.name} do not have"
    return found
