"""Evaluation of generators against a reference.

Each figure comes with its protocol, which is everything that it depends on besides the generator. Figures of different
protocols are never put side by side.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganzoo.data.dataset import Composed, Data
from ganzoo.devices import exact_arithmetic
from ganzoo.errors import EvaluationError, SampleError
from ganzoo.evaluation.features import Extractor, choose_features, extractor
from ganzoo.evaluation.figures_cache import cache_path, read_figures, write_entry, write_figures
from ganzoo.evaluation.metrics import Spread
from ganzoo.evaluation.neighbours import COLUMNS, ROWS, SHOWN, check_picture, draw, figures_of, nearest, scale_of
from ganzoo.evaluation.real import Real, open_held_out, open_reference
from ganzoo.evaluation.scores import (
    AT_MOST,
    KID_SUBSET,
    KID_SUBSETS,
    LEAST,
    NEAREST_AT_MOST,
    NEIGHBOURS,
    Extracted,
    check_names,
    choose,
    class_code,
    classify,
    describe,
    library,
    reference_order,
    score,
)
from ganzoo.files import weights_hash
from ganzoo.progress import counting
from ganzoo.rng import Rng
from ganzoo.sampling.draw import blocks, class_count
from ganzoo.sampling.pictures import to_uint8
from ganzoo.store.results import Result

logger = logging.getLogger("ganzoo")

BATCH = 250
"""Images that go through an extractor at once."""
PRECISIONS = ("fp32", "bf16")


class Evaluator:
    """Measures generators against one reference, which is prepared once. `evaluator(g)` returns a `Result`.

    Args:
        data: a data spec, or `ganzoo.Data` with images: the reference, or what holds it.
        data_dir: the folder of named data sets.
        split: the part of the named data that is the reference, such as "test"; None: its training split, or all of it.
        held_out: images that are not in the reference, as a data spec, of which the test split is taken if it has one,
            or as `ganzoo.Data`. None: the other part of named data with a train and a test split. Their figures are the
            floor; without them there is none.
        metrics: any of "fid", "kid", "is", "prdc", "diversity", "modes" and "neighbours", and "default" for what None
            means: all but the last that the features, the data and the number of images allow. FID belongs to these if
            there are at least twice as many samples, images of the reference and held-out images as features.
        features: "mnist", "inception", "inception=FILE", "timm:NAME" or "timm:NAME=FILE", where FILE holds the weights.
            "auto" or None: those that the named data registered ("mnist" for MNIST), else "timm:tf_efficientnet_lite0";
            "auto=FILE" gives the file with their weights.
        n: the number of samples from each generator. None: 10,000 for the features "mnist", or 26,000 for images of
            three digits; for others 5,000, but at most as many as held-out images.
        seed: the seed of their latents.
        image_size: height and width, in pixels, of the images to measure; None: the data's own.
        channels: channels of the images to measure; None: the data's own.
        device: the device that computes the features.
        precision: "fp32", or "bf16" to compute the features in bfloat16 where the network allows it, which is about
            twice as fast on hardware that has it, and gives figures that compare with each other only.
        use_cache: keep the reference's features and the floor in the cache folder.

    Raises:
        EvaluationError: a metric or the features are unknown, the weights of the features cannot be loaded, the data
            has no images, or there are too few samples for a metric.
        DataError: the data is missing or cannot be read.
        UnknownNameError: there is no data of that name.
    """

    def __init__(
        self,
        data: str | Data,
        *,
        data_dir: str = "data",
        split: str | None = None,
        held_out: str | Data | None = None,
        metrics: Sequence[str] | None = None,
        features: str | Extractor | None = None,
        n: int | None = None,
        seed: int = 0,
        image_size: int | None = None,
        channels: int | None = None,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        use_cache: bool = True,
    ) -> None:
        library()  # fail before any work if it is missing
        check_names(metrics or ())
        if precision not in PRECISIONS:
            raise EvaluationError(f"precision must be {' or '.join(PRECISIONS)}, not {precision!r}")
        reference = open_reference(data, split, data_dir, image_size, channels)
        held = open_held_out(held_out, data, split, data_dir, reference)
        self.shape, self.labels = reference.shape, reference.data.labels
        self.device, self.precision, self.use_cache = torch.device(device), precision, use_cache
        network = features if isinstance(features, Extractor) else extractor(choose_features(features, data))
        self.extractor = network.to(self.device).eval()
        real, self.seed = len(reference.data.items), seed
        self.n = n if n is not None else self._default_n(held)
        images = {"samples": self.n, "images of the reference": real}
        self.kid_subset = min(KID_SUBSET, *images.values())
        self.protocol = self._describe_protocol(reference, held)
        self._reference = self._prepare(reference)
        if held is not None:
            images["held-out images"] = len(held.data.items)
        self.metrics = choose(
            metrics, self._reference, data=reference.name, features=self.extractor.name, channels=self.shape[0],
            images=images,
        )  # fmt: skip
        self._items = reference.data.items if "neighbours" in self.metrics else None
        self.floor = None if held is None else self._measure_floor(held)

    def _default_n(self, held_out: Real | None) -> int:
        if self.extractor.name == "mnist":
            return 26_000 if self.shape[0] == 3 else 10_000
        return 5_000 if held_out is None else min(5_000, len(held_out.data.items))

    def _describe_protocol(self, reference: Real, held_out: Real | None) -> dict[str, Any]:
        protocol = {
            **reference.protocol(),
            "reference": {"n": len(reference.data.items), "shape": list(self.shape), "sha256": reference.sha256},
            "features": {
                "name": self.extractor.name,
                "sha256": weights_hash(self.extractor),
                "resize": self.extractor.resize,
                "precision": self.precision,
            },
            "generated": {"n": self.n, "seed": self.seed},
            "kid": {"subsets": KID_SUBSETS, "subset_size": self.kid_subset, "reference_at_most": AT_MOST},
            "prdc": {"k": NEIGHBOURS, "reference_at_most": AT_MOST, "generated_at_most": AT_MOST},
            "neighbours": {"reference_at_most": NEAREST_AT_MOST, "held_out": held_out and held_out.sha256},
            "versions": {
                "torch": torch.__version__.partition("+")[0],
                "torch-fidelity": version("torch-fidelity"),
                "ganzoo": version("ganzoo"),
            },
        }
        if held_out is not None:
            facts = {"n": len(held_out.data.items), "sha256": held_out.sha256}
            protocol["held_out"] = {**held_out.protocol(), **facts}
        return protocol

    def protocol_of(self, g: nn.Module) -> dict[str, Any]:
        """The protocol for a generator. For a conditional one, it also says how the classes of samples are chosen."""
        if class_count(g) is None:
            return self.protocol
        classes = "in turn" if self._classes(g) is None else "as in the data"
        return {**self.protocol, "generated": {**self.protocol["generated"], "classes": classes}}

    def _classes(self, g: nn.Module) -> Tensor | None:
        """A class for each sample, drawn from the reference's; None if its classes are not the generator's.

        FID compares two distributions of images, and the proportions of the classes are part of both. The draws are
        independent: exact proportions would look better than a perfect sampler's.
        """
        count = class_count(g)
        if count is None or self.labels is None or self.labels.min() < 0 or int(self.labels.max()) + 1 != count:
            return None
        return self.labels[Rng(self.seed, 0, "classes").randint(len(self.labels), self.n)]

    def __call__(
        self, g: nn.Module, *, source: str = "", kind: str = "", neighbours: str | Path | None = None
    ) -> Result:
        """Measure a generator. Its mode and torch's random state do not change.

        Args:
            g: a generator of images of the reference's shape, on any device.
            source: the generator's name in the result; by default that of its class.
            kind: the kind of its weights in the result: "ema", "raw", or empty if not known.
            neighbours: a file for a picture of the samples that are nearest to images of the reference, the nearest
                first, each with the three nearest images to its right. This takes the metric "neighbours".

        Returns:
            The figures, with their protocol and the floor.

        Raises:
            EvaluationError: the samples are not images, have another shape, or are not finite, or the picture cannot be
                written.
        """
        if neighbours is not None:
            check_picture(Path(neighbours))
            if self._items is None:
                raise EvaluationError("a picture of neighbours needs the metric 'neighbours': add it to the metrics")
        classes = self._classes(g)
        images = (pixels(block, self.shape) for block in blocks(g, self.n, self.seed, classes))
        extracted = self._extract(images, self.n, f"samples{source and f' of {source}'}")
        values = score(self._reference, extracted, self.metrics, self.kid_subset)
        count, logits = class_count(g), extracted.logits
        if count and "modes" in self.metrics and logits is not None and count == logits.shape[2] ** logits.shape[1]:
            labels = torch.arange(self.n) % count if classes is None else classes
            recognised = class_code(classify(logits)[0], logits.shape[2])
            values["class_accuracy"] = (recognised == labels).double().mean().item()
        if self._items is not None:
            distances, indices = nearest(extracted.features, self._reference["features"], SHOWN)
            values |= figures_of(distances[:, 0], self.floor)
            if neighbours is not None:
                closest = distances[:, 0].argsort(stable=True)[: ROWS * COLUMNS]
                kept = reference_order(len(self._items))
                near = torch.stack([self._items[kept[row]] for row in indices[closest]])
                draw(self._samples(g, closest, classes), near, Path(neighbours))
        weights = {"sha256": weights_hash(g), "kind": kind}
        return Result(source or type(g).__name__, weights, values, self.floor, self.protocol_of(g))

    def _samples(self, g: nn.Module, indices: Tensor, classes: Tensor | None) -> Tensor:
        """Some of the samples once more, uint8 (N, C, H, W): together they might not fit into memory."""
        samples = torch.empty(len(indices), *self.shape, dtype=torch.uint8)
        n, done = int(indices.max()) + 1, 0
        for block in blocks(g, n, self.seed, None if classes is None else classes[:n]):
            own = (indices >= done) & (indices < done + len(block))
            samples[own] = pixels(block)[indices[own] - done]
            done += len(block)
        return samples

    def _extract(self, batches: Iterable[Tensor], n: int, what: str) -> Extracted:
        """What is compared of n uint8 images in batches; its tensors are on the CPU."""
        features = torch.empty(0)
        logits: Tensor | None = None
        spread, done = Spread(), 0
        with counting(n, what) as advance:
            for batch in batches:
                rows, classes = self._forward(batch.to(self.device))
                if not done:  # filled in place: a list of small tensors would fragment a gigabyte of memory
                    features = torch.empty(n, *rows.shape[1:])
                    logits = None if classes is None else torch.empty(n, *classes.shape[1:])
                features[done : done + len(rows)] = rows
                if logits is not None and classes is not None:
                    logits[done : done + len(rows)] = classes
                spread.add(batch)
                done += len(rows)
                advance(len(rows))
        return Extracted(features, logits, spread.variance)

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        half = torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with torch.no_grad(), exact_arithmetic(self.device), half:
            rows: tuple[Tensor, Tensor | None] = self.extractor(images)
        return rows

    def _extract_items(self, items: Tensor | Composed, what: str) -> Extracted:
        """As `_extract`, for uint8 images in memory. If channels have features of their own and images share them, the
        features of each channel are computed once."""
        batches = (items[start : start + BATCH] for start in range(0, len(items), BATCH))
        if not isinstance(items, Composed) or not self.extractor.by_channel:
            return self._extract(batches, len(items), what)
        single, spread = self._extract_items(items.source, f"{what}, by channel"), Spread()
        for batch in batches:
            spread.add(batch)
        logits = None if single.logits is None else single.logits[items.table, 0]
        return Extracted(single.features[items.table].flatten(1), logits, spread.variance)

    def _prepare(self, reference: Real) -> dict[str, Tensor]:
        """The result of `describe` for the reference, computed or from the cache."""
        fixed = {key: self.protocol[key] for key in ("reference", "features", "versions")}
        path = cache_path("reference", [fixed, NEAREST_AT_MOST, self.device.type], "safetensors")
        if self.use_cache and path.exists():
            try:
                return load_file(path)
            except (OSError, SafetensorError) as error:
                logger.warning("%s is damaged and is computed again: %s", path, error)
        items = reference.data.items
        logger.info("preparing %d images of %s", len(items), reference.name)
        tensors = describe(
            self._extract_items(items, f"images of {reference.name}"), digits=self.extractor.name == "mnist"
        )
        if self.use_cache:
            write_entry(path, lambda temporary: save_file(tensors, temporary))
        return tensors

    def _measure_floor(self, held_out: Real) -> dict[str, float]:
        """The figures of real images that are not in the reference: as many as samples, or all if there are fewer."""
        n = min(self.n, len(held_out.data.items))
        enough = [name for name in self.metrics if n >= LEAST[name]]
        seedless = {**self.protocol, "generated": self.n}
        path = cache_path("floor", [seedless, enough, self.device.type], "json")
        if self.use_cache and (figures := read_figures(path)):
            return figures
        logger.info("preparing %d held-out images of %s", n, held_out.name)
        extracted = self._extract_items(held_out.at_most(n), f"held-out images of {held_out.name}")
        values = {"n": n, **score(self._reference, extracted, enough, min(self.kid_subset, n))}
        if "neighbours" in enough:
            distances = nearest(extracted.features, self._reference["features"], 1)[0][:, 0]
            scale = scale_of(distances, held_out.name)
            values |= {**figures_of(distances, scale), **scale}
        if self.use_cache:
            write_figures(path, values)
        return values


def pixels(samples: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Samples as uint8 images (N, C, H, W) on the CPU."""
    try:
        pixels = torch.from_numpy(to_uint8(samples)).permute(0, 3, 1, 2)
    except SampleError as error:
        raise EvaluationError(
            f"samples of shape {tuple(samples.shape[1:])} are not images, and only images can be measured"
        ) from error
    if shape is not None and tuple(pixels.shape[1:]) != shape:
        raise EvaluationError(
            f"the generator's images are {tuple(pixels.shape[1:])} and the reference's {shape}: "
            "prepare the reference with the generator's image_size and channels"
        )
    if not samples.isfinite().all():
        raise EvaluationError("the generator's samples are not finite: take an earlier checkpoint of it")
    return pixels
