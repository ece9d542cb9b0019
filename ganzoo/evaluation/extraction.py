"""Computing what is compared of images: features, logits and the spread of the pixels, and perceptual distances."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from ganzoo.data.dataset import Composed
from ganzoo.devices import exact_arithmetic, to_host
from ganzoo.errors import EvaluationError, SampleError
from ganzoo.evaluation.features import Extractor
from ganzoo.evaluation.metrics import Spread
from ganzoo.evaluation.perceptual import Perceptual
from ganzoo.evaluation.scores import Extracted
from ganzoo.progress import counting
from ganzoo.rng import to_device
from ganzoo.sampling.pictures import as_uint8
from ganzoo.sampling.values import from_uint8

BATCH = 250
"""Images that go through an extractor at once."""


class Extraction:
    """Computes what is compared of uint8 images (N, C, H, W).

    Args:
        extractor: the network, on `device`.
        device: the device that computes.
        precision: "fp32" or "bf16".
    """

    def __init__(self, extractor: Extractor, device: torch.device, precision: str) -> None:
        self.extractor, self.device, self.precision = extractor, device, precision

    def of_batches(self, batches: Iterable[Tensor], n: int, what: str, *, skip: bool = False) -> Extracted:
        """What is compared of n images in batches; its tensors are on the CPU. `skip` goes through the batches and
        extracts nothing, for what happens on the way."""
        features = torch.empty(0)
        logits: Tensor | None = None
        spread, done = Spread(), 0
        with counting(n, what) as advance:
            for batch in batches:
                if skip:
                    advance(len(batch))
                    continue
                with self._computing():
                    rows, classes = self.extractor(to_device(batch, self.device))
                host = to_host({"rows": rows} if classes is None else {"rows": rows, "classes": classes})
                if not done:  # filled in place: a list of small tensors would fragment a gigabyte of memory
                    features = torch.empty(n, *rows.shape[1:])
                    logits = None if classes is None else torch.empty(n, *classes.shape[1:])
                features[done : done + len(rows)] = host["rows"]
                if logits is not None:
                    logits[done : done + len(rows)] = host["classes"]
                spread.add(batch)
                done += len(rows)
                advance(len(rows))
        return Extracted(features, logits, 0.0 if skip else spread.variance)

    def of_items(self, items: Tensor | Composed, what: str) -> Extracted:
        """As `of_batches`, for images in memory. If channels have features of their own and images share them, the
        features of each channel are computed once."""
        batches = (items[start : start + BATCH] for start in range(0, len(items), BATCH))
        if not isinstance(items, Composed) or not self.extractor.by_channel:
            return self.of_batches(batches, len(items), what)
        single, spread = self.of_items(items.source, f"{what}, by channel"), Spread()
        for batch in batches:
            spread.add(batch)
        logits = None if single.logits is None else single.logits[items.table, 0]
        return Extracted(single.features[items.table].flatten(1), logits, spread.variance)

    def distances(self, images: Tensor, others: Tensor) -> Tensor:
        """The perceptual distances (N,) of images from others, all of them on the device.

        Raises:
            EvaluationError: the extractor has no feature maps.
        """
        with self._computing():
            distances: Tensor = Perceptual(self.extractor)(from_uint8(images), from_uint8(others))
        return distances

    @contextmanager
    def _computing(self) -> Iterator[None]:
        half = torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with torch.no_grad(), exact_arithmetic(self.device), half:
            yield


def pixels(samples: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Samples as uint8 images (N, C, H, W) on the CPU."""
    try:
        host = to_host({"pixels": as_uint8(samples), "finite": samples.isfinite().all()})
    except SampleError as error:
        raise EvaluationError(
            f"samples of shape {tuple(samples.shape[1:])} are not images, and only images can be measured"
        ) from error
    pixels = host["pixels"].permute(0, 3, 1, 2)
    if shape is not None and tuple(pixels.shape[1:]) != shape:
        raise EvaluationError(
            f"the generator's images are {tuple(pixels.shape[1:])} and the reference's {shape}: "
            "prepare the reference with the generator's image_size and channels"
        )
    if not host["finite"]:
        raise EvaluationError("the generator's samples are not finite: take an earlier checkpoint of it")
    return pixels
