"""Evaluation of generators against a reference.

Each figure comes with its protocol, which is everything that it depends on besides the generator. Figures of different
protocols are never put side by side.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganzoo.data.dataset import Data
from ganzoo.errors import EvaluationError
from ganzoo.evaluation.differences import PAIRED, Differences, check_library, conditions, problems
from ganzoo.evaluation.extraction import BATCH, Extraction, pixels
from ganzoo.evaluation.features import Extractor, choose_features, extractor
from ganzoo.evaluation.figures_cache import cache_path, read_figures, write_entry, write_figures
from ganzoo.evaluation.neighbours import COLUMNS, ROWS, SHOWN, check_picture, draw, figures_of, nearest, scale_of
from ganzoo.evaluation.protocol import describe_protocol
from ganzoo.evaluation.real import Real, open_images
from ganzoo.evaluation.scores import (
    KID_SUBSET,
    LEAST,
    NEAREST_AT_MOST,
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
from ganzoo.evaluation.translation import Translation, check_use
from ganzoo.files import weights_hash
from ganzoo.rng import Rng
from ganzoo.sampling.draw import blocks, check_inputs, class_count
from ganzoo.sampling.options import takes_inputs
from ganzoo.store.results import Result

logger = logging.getLogger("ganzoo")

PRECISIONS = ("fp32", "bf16")


def _check(metrics: Sequence[str] | None, precision: str) -> None:
    """Raise an EvaluationError before any work if a library is missing, or a metric or the precision is unknown."""
    library()
    check_names(metrics or ())
    if precision not in PRECISIONS:
        raise EvaluationError(f"precision must be {' or '.join(PRECISIONS)}, not {precision!r}")


class Evaluator:
    """Measures generators against one reference, which is prepared once. `evaluator(g)` returns a `Result`.

    Args:
        data: a data spec, or `ganzoo.Data` with images: the reference, or what holds it.
        data_dir: the folder of named data sets.
        split: the part of the named data that is the reference, such as "test"; None: its training split, or all of it.
        held_out: images that are not in the reference, as a data spec, of which the test split is taken if it has one,
            or as `ganzoo.Data`. None: the other part of named data with a train and a test split. Their figures are the
            floor; without them there is none.
        inputs: what generators that translate start from, as an `--inputs` spec (see `ganzoo.data.load`); None: the
            inputs that the data brings, if any. They are those of the data's test part, or of the reference if there is
            none.
        data_options: keywords for the loader of the data, as in training, such as `{"paired": False}`.
        metrics: any of "fid", "kid", "is", "prdc", "diversity" and "modes", of "l1", "psnr", "ssim" and "perceptual",
            which compare translations with the images that their inputs belong to, and "neighbours"; and "default" for
            what None means: all but the last that the features, the data and the number of images allow. FID belongs to
            these if there are at least twice as many samples, images of the reference and held-out images as features.
        features: "mnist", "inception", "inception=FILE", "timm:NAME" or "timm:NAME=FILE", where FILE holds the weights.
            "auto" or None: those that the named data registered ("mnist" for MNIST), else "timm:tf_efficientnet_lite0";
            "auto=FILE" gives the file with their weights.
        n: the number of samples from each generator. None: 10,000 for the features "mnist", or 26,000 for images of
            three digits; for others 5,000, but at most as many as held-out images. With inputs, all of these, but at
            most 5,000.
        seed: the seed of their latents.
        options: call options of the generators, such as `{"truncation": 0.7}`.
        image_size: height and width, in pixels, of the images to measure; None: the data's own.
        channels: channels of the images to measure; None: the data's own.
        input_size: height and width of inputs that are not made from the images; None: those of the images.
        input_channels: channels of such inputs; None: their own.
        translates: whether the generators do, so that what does not fit is refused at once; None: it is not known yet.
        device: the device that computes the features.
        precision: "fp32", or "bf16" to compute the features in bfloat16 where the network allows it, which is about
            twice as fast on hardware that has it, and gives figures that compare with each other only.
        use_cache: keep the reference's features and the floor in the cache folder.

    Raises:
        EvaluationError: a metric or the features are unknown, the weights of the features cannot be loaded, the data
            has no images, or there are too few samples for a metric, too few inputs, or no pairs.
        DataError: the data is missing or cannot be read.
        ConfigError: an option of the data is unknown.
        UnknownNameError: there is no data of that name.
    """

    def __init__(
        self,
        data: str | Data,
        *,
        data_dir: str = "data",
        split: str | None = None,
        held_out: str | Data | None = None,
        inputs: str | None = None,
        data_options: Mapping[str, Any] | None = None,
        metrics: Sequence[str] | None = None,
        features: str | Extractor | None = None,
        n: int | None = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        image_size: int | None = None,
        channels: int | None = None,
        input_size: int | None = None,
        input_channels: int | None = None,
        translates: bool | None = None,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        use_cache: bool = True,
    ) -> None:
        _check(metrics, precision)
        own = dict(data_options or {})
        split = own.pop("split", None) if split is None else split
        opened = open_images(
            data, held_out, split, inputs, own, input_size=input_size, input_channels=input_channels,
            data_dir=data_dir, image_size=image_size, channels=channels,
        )  # fmt: skip
        self._asked = inputs is not None or not set(PAIRED).isdisjoint(metrics or ())
        if translates is not None:
            check_use(translates, some=opened.given is not None, asked=self._asked)
        reference, held, given = opened.reference, opened.held_out, None if translates is False else opened.given
        self.shape, self.labels = reference.shape, reference.data.labels
        self.device, self.precision, self.use_cache = torch.device(device), precision, use_cache
        network = features if isinstance(features, Extractor) else extractor(choose_features(features, data))
        self.extractor = network.to(self.device).eval()
        self._extraction = Extraction(self.extractor, self.device, precision)
        self.seed, self.n, self.options = seed, self._choose_n(n, held, given), dict(options or {})
        self.translation = None if given is None else Translation(given, inputs, self.n)
        unable = problems(None if given is None else given.data.paired, self.shape, self.extractor)
        check_library(metrics, unable)
        images = {"samples": self.n, "images of the reference": len(reference.data.items)}
        self.kid_subset = min(KID_SUBSET, *images.values())
        if held is not None:
            images["held-out images"] = len(held.data.items)
        self.protocol = describe_protocol(
            reference, held, self.extractor, own, precision=precision, n=self.n, seed=seed, kid=self.kid_subset,
            options=self.options,
        )  # fmt: skip
        pairs_alone = bool(metrics) and set(metrics or ()) <= set(PAIRED)
        self._reference = {} if pairs_alone else self._prepare(reference)  # which takes minutes
        self.metrics = choose(
            metrics, self._reference, data=reference.name, features=self.extractor.name, channels=self.shape[0],
            images=images, problems=unable,
        )  # fmt: skip
        self._items = reference.data.items if "neighbours" in self.metrics else None
        self.floor = None if held is None else self._measure_floor(held)
        self.baseline = None if self.translation is None else self._measure_baseline(self.translation)

    def _choose_n(self, n: int | None, held_out: Real | None, given: Real | None) -> int:
        inputs: Any = None if given is None else given.data.inputs
        if n is not None:
            if inputs is not None and n > len(inputs):
                raise EvaluationError(f"{n} samples need as many inputs, and there are {len(inputs)}: take fewer")
            return n
        if inputs is not None:
            return min(5_000, len(inputs))
        if self.extractor.name == "mnist":
            return 26_000 if self.shape[0] == 3 else 10_000
        return 5_000 if held_out is None else min(5_000, len(held_out.data.items))

    def protocol_of(self, g: nn.Module) -> dict[str, Any]:
        """The protocol for a generator. For one that translates it also describes the inputs, and for a conditional one
        how the classes of samples are chosen.

        Raises:
            EvaluationError: the generator needs inputs, or has no use for them.
            SampleError: the inputs do not fit it.
        """
        translation, protocol = self._translation_for(g), self.protocol
        if translation is not None:
            protocol = self._translated(translation)
        if class_count(g) is None:
            return protocol
        classes = "as in the data" if translation is None or not translation.paired else "those of the inputs"
        if self._classes(g) is None:
            classes = "in turn"
        return {**protocol, "generated": {**protocol["generated"], "classes": classes}}

    def _translated(self, translation: Translation) -> dict[str, Any]:
        own = conditions(self.metrics)
        versions = {**self.protocol["versions"], **own.pop("versions", {})}
        return {**self.protocol, "inputs": translation.protocol, **own, "versions": versions}

    def _translation_for(self, g: nn.Module) -> Translation | None:
        """The inputs for a generator that translates."""
        check_use(takes_inputs(g), some=self.translation is not None, asked=self._asked)
        if self.translation is None or not takes_inputs(g):
            return None
        check_inputs(g, self.n, self.translation.inputs, self.options)
        return self.translation

    def _classes(self, g: nn.Module) -> Tensor | None:
        """A class for each sample; None if the classes of the images are not the generator's.

        Translations have the classes of the images that their inputs belong to. Other classes are drawn from those of
        the reference: FID compares two distributions of images, and the proportions of the classes are part of both.
        The draws are independent: exact proportions would look better than a perfect sampler's.
        """
        count, labels = class_count(g), self.labels
        if self.translation is not None and self.translation.paired and takes_inputs(g):
            labels = self.translation.labels
            return None if count is None or labels is None or not 0 <= labels.min() <= labels.max() < count else labels
        if count is None or labels is None or labels.min() < 0 or int(labels.max()) + 1 != count:
            return None
        return labels[Rng(self.seed, 0, "classes").randint(len(labels), self.n)]

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
            The figures, with their protocol, the floor, and for translations the baseline.

        Raises:
            EvaluationError: the samples are not images, have another shape, or are not finite, the picture cannot be
                written, or the generator needs inputs, or has no use for them.
            SampleError: the inputs or the options do not fit the generator.
        """
        if neighbours is not None:
            check_picture(Path(neighbours))
            if self._items is None:
                raise EvaluationError("a picture of neighbours needs the metric 'neighbours': add it to the metrics")
        translation, classes = self._translation_for(g), self._classes(g)
        inputs = None if translation is None else translation.inputs
        images = (pixels(block, self.shape) for block in blocks(g, self.n, self.seed, classes, inputs, **self.options))
        extracted, values = self._measure(images, f"samples{source and f' of {source}'}", translation)
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
                draw(self._samples(g, closest, classes, inputs), near, Path(neighbours))
        return self.result_of(g, values, source=source, kind=kind)

    def result_of(self, g: nn.Module, values: dict[str, float], *, source: str = "", kind: str = "") -> Result:
        """The result of a generator whose figures are known. The arguments are those of a measurement."""
        weights = {"sha256": weights_hash(g), "kind": kind}
        baseline = self.baseline if takes_inputs(g) else None
        return Result(source or type(g).__name__, weights, values, self.floor, self.protocol_of(g), baseline)

    def _measure(
        self, images: Iterable[Tensor], what: str, translation: Translation | None
    ) -> tuple[Extracted, dict[str, float]]:
        """The figures of as many uint8 images (N, C, H, W) as samples, in batches, except for those of neighbours."""
        differences = None
        if translation is not None and not set(PAIRED).isdisjoint(self.metrics):
            differences = Differences(self.metrics, self._extraction.distances, self.device)
            images = translation.compared(images, differences)
        extracted = self._extraction.of_batches(images, self.n, what, skip=not self._reference)
        values = score(self._reference, extracted, self.metrics, self.kid_subset)
        return extracted, values if differences is None else values | differences.values

    def _samples(self, g: nn.Module, indices: Tensor, classes: Tensor | None, inputs: Tensor | None) -> Tensor:
        """Some of the samples once more, uint8 (N, C, H, W): together they might not fit into memory."""
        samples = torch.empty(len(indices), *self.shape, dtype=torch.uint8)
        n, done = int(indices.max()) + 1, 0
        first = (None if one is None else one[:n] for one in (classes, inputs))
        for block in blocks(g, n, self.seed, *first, **self.options):
            own = (indices >= done) & (indices < done + len(block))
            samples[own] = pixels(block)[indices[own] - done]
            done += len(block)
        return samples

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
            self._extraction.of_items(items, f"images of {reference.name}"), digits=self.extractor.name == "mnist"
        )
        if self.use_cache:
            write_entry(path, lambda temporary: save_file(tensors, temporary))
        return tensors

    def _measure_floor(self, held_out: Real) -> dict[str, float] | None:
        """The figures of real images that are not in the reference: as many as samples, or all if there are fewer. None
        if only pairs are compared."""
        n = min(self.n, len(held_out.data.items))
        enough = [name for name in self.metrics if n >= LEAST[name] and name not in PAIRED]
        if set(self.metrics) <= set(PAIRED):
            return None
        seedless = {**self.protocol, "generated": self.n}
        path = cache_path("floor", [seedless, enough, self.device.type], "json")
        if self.use_cache and (figures := read_figures(path)):
            return figures
        logger.info("preparing %d held-out images of %s", n, held_out.name)
        extracted = self._extraction.of_items(held_out.at_most(n), f"held-out images of {held_out.name}")
        values = {"n": n, **score(self._reference, extracted, enough, min(self.kid_subset, n))}
        if "neighbours" in enough:
            distances = nearest(extracted.features, self._reference["features"], 1)[0][:, 0]
            scale = scale_of(distances, held_out.name)
            values |= {**figures_of(distances, scale), **scale}
        if self.use_cache:
            write_figures(path, values)
        return values

    def _measure_baseline(self, translation: Translation) -> dict[str, float] | None:
        """The figures of the trivial answers to the inputs, if there are any."""
        if not translation.baseline:
            return None
        seedless = {**self._translated(translation), "generated": self.n}
        path = cache_path("baseline", [seedless, self.metrics, self.device.type], "json")
        if self.use_cache and (figures := read_figures(path)):
            return figures
        what = f"trivial answers ({translation.baseline})"
        logger.info("preparing %d %s", self.n, what)
        _, values = self._measure(translation.answers(BATCH), what, translation)
        if self.use_cache:
            write_figures(path, values)
        return values
