"""Measuring generators against a reference.

Each figure comes with its protocol, all that it depends on beside the generator, and figures of different protocols
are never put side by side.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganzoo.data.dataset import Composed, Data, has_test_split, load
from ganzoo.devices import exact_arithmetic
from ganzoo.errors import EvaluationError, SampleError
from ganzoo.evaluation.features import Extractor, extractor
from ganzoo.evaluation.figures_cache import cache_path, read_figures, write_entry, write_figures
from ganzoo.evaluation.scores import (
    AT_MOST,
    KID_SUBSET,
    KID_SUBSETS,
    NEIGHBOURS,
    check_names,
    choose,
    class_code,
    classify,
    describe,
    library,
    score,
)
from ganzoo.files import weights_hash
from ganzoo.rng import Rng
from ganzoo.sampling.draw import blocks, class_count
from ganzoo.sampling.pictures import to_uint8
from ganzoo.store.results import Result
from ganzoo.store.runs import load_run
from ganzoo.store.source import find, from_pretrained, is_model
from ganzoo.zoo.plugins import registry

logger = logging.getLogger("ganzoo")

BATCH = 250
"""Images that go through an extractor at once."""


class Evaluator:
    """Measures generators against one reference, which is prepared once: `evaluator(g)` gives a `Result`.

    Args:
        data: a data spec, or `ganzoo.Data` of images, which has no floor. The reference is all of it; of named data,
            the training split.
        data_dir: where named data lies.
        metrics: names out of fid, kid, is, prdc and modes; None: all that the features and the data can give.
        features: see `ganzoo.evaluation.features.extractor`, or an `Extractor`; None: "mnist" for grey images of 28 or
            32 pixels and for stacked_mnist, else "inception".
        n: samples of a generator; None: 10,000, or 26,000 for three digits in one image.
        seed: of their latents.
        image_size, channels: of the images that will be measured; None: the data's own.
        device: where features are computed.
        use_cache: keep the reference's features, and the floor, in the cache folder.

    Raises:
        EvaluationError: unknown names, features whose weights are not there, too few samples, data without images.
        DataError, UnknownNameError: no such data.
    """

    def __init__(
        self,
        data: str | Data,
        *,
        data_dir: str = "data",
        metrics: Sequence[str] | None = None,
        features: str | Extractor | None = None,
        n: int | None = None,
        seed: int = 0,
        image_size: int | None = None,
        channels: int | None = None,
        device: torch.device | str = "cpu",
        use_cache: bool = True,
    ) -> None:
        library()  # before any work
        check_names(metrics or ())
        name, reference = "data", data
        if isinstance(reference, str):
            name = reference if reference in registry().data else Path(reference).resolve().name
            reference = load(reference, data_dir, image_size=image_size, channels=channels)
        if not reference.is_image:
            raise EvaluationError(f"{name} holds no images, and only images can be measured")
        self.shape = tuple(reference.items.shape[1:])
        self.labels = reference.labels
        if features is None:
            digits = name == "stacked_mnist" or self.shape in ((1, 28, 28), (1, 32, 32))
            features = "mnist" if digits else "inception"
        self.device, self.use_cache = torch.device(device), use_cache
        self.extractor = (extractor(features) if isinstance(features, str) else features).to(self.device).eval()
        stacked = self.shape[0] == 3 and self.extractor.name == "mnist"
        self.n = n if n is not None else 26_000 if stacked else 10_000
        self.seed = seed
        self.protocol = self._describe_protocol(name, reference)
        self._reference = self._prepare(reference)
        self.metrics = choose(
            metrics, self._reference, data=name, features=self.extractor.name, channels=self.shape[0], n=self.n,
            there=len(reference.items),
        )  # fmt: skip
        self.floor = self._measure_floor(data, data_dir) if isinstance(data, str) else None

    def _describe_protocol(self, name: str, reference: Data) -> dict[str, Any]:
        return {
            "data": name,
            "reference": {"n": len(reference.items), "shape": list(self.shape), "sha256": reference.digest()},
            "features": {
                "name": self.extractor.name,
                "sha256": weights_hash(self.extractor),
                "resize": self.extractor.resize,
            },
            "generated": {"n": self.n, "seed": self.seed},
            "kid": {"subsets": KID_SUBSETS, "subset_size": KID_SUBSET, "reference_at_most": AT_MOST},
            "prdc": {"k": NEIGHBOURS, "reference_at_most": AT_MOST, "generated_at_most": AT_MOST},
            "versions": {
                "torch": torch.__version__.partition("+")[0],
                "torch-fidelity": version("torch-fidelity"),
                "ganzoo": version("ganzoo"),
            },
        }

    def protocol_of(self, g: nn.Module) -> dict[str, Any]:
        """The protocol for a generator: for a conditional one, it says how the classes of its samples are chosen."""
        if class_count(g) is None:
            return self.protocol
        classes = "in turn" if self._classes(g) is None else "as in the data"
        return {**self.protocol, "generated": {**self.protocol["generated"], "classes": classes}}

    def _classes(self, g: nn.Module) -> Tensor | None:
        """A class for each sample, drawn from the reference's; None where that does not have just these classes.

        FID compares two distributions, and that of the classes is a part of both. Independent draws, because exact
        shares would look better than a perfect sampler's.
        """
        count = class_count(g)
        if count is None or self.labels is None or self.labels.min() < 0 or int(self.labels.max()) + 1 != count:
            return None
        return self.labels[Rng(self.seed, 0, "classes").randint(len(self.labels), self.n)]

    def __call__(self, g: nn.Module, *, source: str = "", kind: str = "") -> Result:
        """Measure a generator; its mode and torch's random state stay as they were.

        Args:
            g: a generator of images of the reference's shape, on any device.
            source, kind: the names of the generator and of its weights in the result.

        Raises:
            EvaluationError: its samples are no images, of another shape, or not finite.
        """
        classes = self._classes(g)
        images = (_pixels(block, self.shape) for block in blocks(g, self.n, self.seed, classes))
        features, logits = self._extract(images, self.n)
        values = score(self._reference, features, logits, self.metrics)
        count = class_count(g)
        if count and "modes" in self.metrics and logits is not None and count == logits.shape[2] ** logits.shape[1]:
            labels = torch.arange(self.n) % count if classes is None else classes
            recognised = class_code(classify(logits)[0], logits.shape[2])
            values["class_accuracy"] = (recognised == labels).double().mean().item()
        weights = {"sha256": weights_hash(g), "kind": kind}
        return Result(source or type(g).__name__, weights, values, self.floor, self.protocol_of(g))

    def _extract(self, batches: Iterable[Tensor], n: int) -> tuple[Tensor, Tensor | None]:
        """n uint8 images in batches to features (n, F) and logits (n, groups, classes) on the CPU."""
        features = torch.empty(0)
        logits: Tensor | None = None
        done = 0
        for batch in batches:
            with torch.no_grad(), exact_arithmetic(self.device):
                one, classes = self.extractor(batch.to(self.device))
            if not done:  # filled in place: small tensors, kept one by one, fragment a gigabyte of freed memory
                features = torch.empty(n, *one.shape[1:])
                logits = None if classes is None else torch.empty(n, *classes.shape[1:])
            features[done : done + len(one)] = one
            if logits is not None:
                logits[done : done + len(one)] = classes
            done += len(one)
        return features, logits

    def _extract_items(self, items: Tensor | Composed) -> tuple[Tensor, Tensor | None]:
        """The same of uint8 images in memory. Channels that many images share, and that have features of their own, go
        through the extractor once."""
        if not isinstance(items, Composed) or not self.extractor.by_channel:
            return self._extract((items[start : start + BATCH] for start in range(0, len(items), BATCH)), len(items))
        features, logits = self._extract_items(items.source)
        return features[items.table].flatten(1), None if logits is None else logits[items.table, 0]

    def _prepare(self, reference: Data) -> dict[str, Tensor]:
        """What the figures need of the reference: computed, or from the cache."""
        fixed = {key: self.protocol[key] for key in ("reference", "features", "versions")}
        path = cache_path("reference", [fixed, AT_MOST, self.device.type], "safetensors")
        if self.use_cache and path.exists():
            try:
                return load_file(path)
            except (OSError, SafetensorError) as error:
                logger.warning("%s is damaged, computing it anew: %s", path, error)
        logger.info("preparing %d images of %s", len(reference.items), self.protocol["data"])
        features, logits = self._extract_items(reference.items)
        tensors = describe(features, logits, digits=self.extractor.name == "mnist")
        if self.use_cache:
            write_entry(path, lambda temporary: save_file(tensors, temporary))
        return tensors

    def _measure_floor(self, data: str, data_dir: str) -> dict[str, float] | None:
        """The same figures of real images that the reference does not hold: as many as samples, if there are."""
        if not has_test_split(data):
            return None
        seedless = {**self.protocol, "generated": self.n}
        path = cache_path("floor", [seedless, self.metrics, self.device.type], "json")
        if self.use_cache and (figures := read_figures(path)):
            return figures
        side = self.shape[1] if self.shape[1] == self.shape[2] else None
        test = load(data, data_dir, image_size=side, channels=self.shape[0], options={"split": "test"})
        subset = torch.randperm(len(test.items), generator=Rng(0, 0, "floor").generator)[: self.n].sort().values
        enough = tuple(name for name in self.metrics if name != "kid" or len(subset) >= KID_SUBSET)
        logger.info("preparing %d test images of %s", len(subset), data)
        every = test.items
        items = Composed(every.source, every.table[subset]) if isinstance(every, Composed) else every[subset]
        values = {"n": len(subset), **score(self._reference, *self._extract_items(items), enough)}
        if self.use_cache:
            write_figures(path, values)
        return values


def _pixels(samples: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Samples as uint8 images (N, C, H, W) on the CPU."""
    try:
        pixels = torch.from_numpy(to_uint8(samples)).permute(0, 3, 1, 2)
    except SampleError as error:
        raise EvaluationError(
            f"samples of shape {tuple(samples.shape[1:])} are not images, and only images can be measured"
        ) from error
    if shape is not None and tuple(pixels.shape[1:]) != shape:
        raise EvaluationError(
            f"the generator's images are {tuple(pixels.shape[1:])}, the reference's {shape}: "
            "prepare the reference with that image_size and channels"
        )
    if not samples.isfinite().all():
        raise EvaluationError("the generator's samples are not finite: its weights are broken")
    return pixels


def evaluate(
    g: nn.Module | str | Path,
    data: str | Data,
    *,
    raw: bool = False,
    device: torch.device | str = "cpu",
    use_cache: bool = True,
    **settings: Any,
) -> Result:
    """Measure one generator. For several, or during training, build an `Evaluator` once.

    Args:
        g: a generator, or a SOURCE as `from_pretrained` takes it.
        data, settings: see `Evaluator`: `data_dir`, `metrics`, `features`, `n`, `seed`.
        raw: for a run folder: the generator of its newest checkpoint itself, not the averaged one.
        device: where a SOURCE is measured, and features are computed.
        use_cache: look for the reference, and for the result of a SOURCE, in the cache folder; keep them there.

    Raises:
        EvaluationError, and the errors of `from_pretrained` and `ganzoo.data.load`.
    """
    if isinstance(g, nn.Module):
        evaluator = Evaluator(data, device=device, use_cache=use_cache, **_shape_of(g), **settings)
        return evaluator(g)
    return evaluate_sources([str(g)], data, raw=raw, device=device, use_cache=use_cache, **settings)[0]


def evaluate_sources(
    sources: Sequence[str],
    data: str | Data,
    *,
    raw: bool = False,
    device: torch.device | str = "cpu",
    use_cache: bool = True,
    **settings: Any,
) -> list[Result]:
    """As `evaluate`, for several SOURCEs; the reference is prepared once for each shape of images."""
    evaluators: dict[tuple[int | None, int], Evaluator] = {}
    results = []
    for source, g in _generators(sources, raw):
        g.to(device)
        shape = _shape_of(g)
        key = (shape["image_size"], shape["channels"])
        if key not in evaluators:
            evaluators[key] = Evaluator(data, device=device, use_cache=use_cache, **shape, **settings)
        results.append(_measure(evaluators[key], g, source, "raw" if raw else "ema"))
    return results


def _generators(sources: Sequence[str], raw: bool) -> Iterator[tuple[str, nn.Module]]:
    for source in sources:
        folder = find(source) if raw else None
        if folder is not None and is_model(folder):
            raise EvaluationError(f"{source} holds the averaged generator alone: --raw is for run folders")
        yield source, load_run(folder, "generator") if folder is not None else from_pretrained(source)


def _measure(evaluator: Evaluator, g: nn.Module, source: str, kind: str) -> Result:
    """A generator's result: computed, or from the cache."""
    weights = {"sha256": weights_hash(g), "kind": kind}
    network = [f"{type(g).__module__}.{type(g).__qualname__}", g.config]
    protocol = evaluator.protocol_of(g)
    key = [network, weights, evaluator.metrics, protocol, evaluator.device.type]
    path = cache_path("result", key, "json")
    if evaluator.use_cache and (values := read_figures(path)):
        return Result(source, weights, values, evaluator.floor, protocol)
    logger.info("measuring %d samples of %s", evaluator.n, source)
    result = evaluator(g, source=source, kind=kind)
    if evaluator.use_cache:
        write_figures(path, result.values)
    return result


def _shape_of(g: nn.Module) -> dict[Literal["image_size", "channels"], Any]:
    _, channels, height, width = _pixels(next(blocks(g, 1))).shape
    return {"image_size": height if height == width else None, "channels": channels}
