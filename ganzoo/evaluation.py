"""How good a generator is: FID, KID, Inception score, precision and recall, density and coverage, modes.

Each figure comes with its protocol, all that it depends on beside the generator, and figures of unlike protocols are
never put side by side. torch-fidelity computes FID, KID and the Inception score from the features that are kept here.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganzoo import cache
from ganzoo.data import Composed, Data, has_test_split, load
from ganzoo.errors import EvaluationError, SampleError, did_you_mean
from ganzoo.features import Extractor, digest, extractor
from ganzoo.hub import find, from_pretrained, is_model
from ganzoo.metrics import modes, prdc
from ganzoo.plugins import registry
from ganzoo.results import Result
from ganzoo.rng import Rng
from ganzoo.sampling import blocks, class_count, load_run, to_uint8

logger = logging.getLogger("ganzoo")

METRICS = ("fid", "kid", "is", "prdc", "modes")
NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""
AT_MOST = 10_000
"""Samples of either side that these four look at, and reference samples that KID draws from."""
KID_SUBSETS = 100
KID_SUBSET = 1000
IS_SPLITS = 10
SURE = 0.9
"""Probability of its class above which the classifier is sure of an image, and share of these that digits have."""
BATCH = 250
"""Images that go through an extractor at once."""


class Evaluator:
    """Measures generators against one reference, which is prepared once: `evaluator(g)` gives a `Result`.

    Args:
        data: a data spec, or `ganzoo.Data` of images, which has no floor. The reference is all of it; of named data,
            the training split.
        data_dir: where named data lies.
        metrics: of `METRICS`; None: all that the features and the data can give.
        features: see `ganzoo.features.extractor`, or an `Extractor`; None: "mnist" for grey images of 28 or 32 pixels
            and for stacked_mnist, else "inception".
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
        _library()
        for metric in metrics or ():
            if metric not in METRICS:
                raise EvaluationError(f"no metric is called {metric!r}: {did_you_mean(metric, METRICS)}")
        if isinstance(data, Data):
            name, reference = "data", data
        else:
            name = data if data in registry().data else Path(data).resolve().name
            reference = load(data, data_dir, image_size=image_size, channels=channels)
        if not reference.is_image:
            raise EvaluationError(f"{name} holds no images, and only images can be measured")
        self.shape = tuple(reference.items.shape[1:])
        if features is None:
            digits = name == "stacked_mnist" or self.shape in ((1, 28, 28), (1, 32, 32))
            features = "mnist" if digits else "inception"
        self.device, self.use_cache = torch.device(device), use_cache
        self.extractor = (extractor(features) if isinstance(features, str) else features).to(self.device).eval()
        stacked = self.shape[0] == 3 and self.extractor.name == "mnist"
        self.n = n if n is not None else 26_000 if stacked else 10_000
        self.seed = seed
        self.protocol: dict[str, Any] = {
            "data": name,
            "reference": {"n": len(reference.items), "shape": list(self.shape), "sha256": reference.digest()},
            "features": {
                "name": self.extractor.name, "sha256": digest(self.extractor), "resize": self.extractor.resize,
            },
            "generated": {"n": self.n, "seed": seed},
            "kid": {"subsets": KID_SUBSETS, "subset_size": KID_SUBSET, "reference_at_most": AT_MOST},
            "prdc": {"k": NEIGHBOURS, "reference_at_most": AT_MOST, "generated_at_most": AT_MOST},
            "versions": {
                "torch": torch.__version__.partition("+")[0],
                "torch-fidelity": version("torch-fidelity"),
                "ganzoo": version("ganzoo"),
            },
        }  # fmt: skip
        self._prepare(reference)
        self.metrics = self._chosen(metrics)
        self.floor = self._floor(data, data_dir) if isinstance(data, str) else None

    def __call__(self, g: nn.Module, *, source: str = "", kind: str = "") -> Result:
        """Measure a generator; its mode and torch's random state stay as they were.

        Args:
            g: a generator of images of the reference's shape, wherever it lies.
            source, kind: what the result calls it.

        Raises:
            EvaluationError: its samples are no images, of another shape, or not finite.
        """

        def images() -> Iterator[Tensor]:
            for block in blocks(g, self.n, self.seed):
                yield _pixels(block, self.shape)

        features, logits = self._extract(images(), self.n)
        values = self._score(features, logits, self.metrics)
        count = class_count(g)
        if count and "modes" in self.metrics and logits is not None and count == logits.shape[2] ** logits.shape[1]:
            asked = torch.arange(self.n) % count  # as samples come unless classes are chosen
            found = _code(_digits(logits)[0], logits.shape[2])
            values["class_accuracy"] = (found == asked).double().mean().item()
        weights = {"sha256": digest(g), "kind": kind}
        return Result(source or type(g).__name__, weights, values, self.floor, self.protocol)

    def _extract(self, batches: Iterable[Tensor], n: int) -> tuple[Tensor, Tensor | None]:
        """n uint8 images in batches to features (n, F) and logits (n, groups, classes) on the CPU."""
        features = torch.empty(0)
        logits: Tensor | None = None
        exact = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
        done = 0
        for batch in batches:
            with torch.no_grad(), torch.backends.cudnn.flags(**exact):
                one, classes = self.extractor(batch.to(self.device))
            if not done:  # filled in place: small tensors kept one by one hold a gigabyte of freed memory apart
                features = torch.empty(n, *one.shape[1:])
                logits = None if classes is None else torch.empty(n, *classes.shape[1:])
            features[done : done + len(one)] = one
            if logits is not None:
                logits[done : done + len(one)] = classes
            done += len(one)
        return features, logits

    def _extract_items(self, items: Tensor | Composed) -> tuple[Tensor, Tensor | None]:
        """The same of uint8 images in memory. Where many images share channels that have features of their own, each is
        looked at once."""
        if not isinstance(items, Composed) or not self.extractor.by_channel:
            return self._extract((items[start : start + BATCH] for start in range(0, len(items), BATCH)), len(items))
        features, logits = self._extract_items(items.source)
        return features[items.table].flatten(1), None if logits is None else logits[items.table, 0]

    def _prepare(self, reference: Data) -> None:
        """The reference's mean and covariance, some of its features, and its classes: computed, or from the cache."""
        fixed = {key: self.protocol[key] for key in ("reference", "features", "versions")}
        path = _cached("reference", [fixed, AT_MOST, self.device.type], "safetensors")
        tensors = None
        if self.use_cache and path.exists():
            try:
                tensors = load_file(path)
            except (OSError, SafetensorError) as error:
                logger.warning("%s is damaged, computing it anew: %s", path, error)
        if tensors is None:
            logger.info("preparing %d images of %s", len(reference.items), self.protocol["data"])
            features, logits = self._extract_items(reference.items)
            statistics = _library()["fid_features_to_statistics"](features)
            chosen = torch.randperm(len(features), generator=Rng(0, 0, "reference").generator)[:AT_MOST]
            tensors = {
                "mean": torch.from_numpy(statistics["mu"]), "covariance": torch.from_numpy(statistics["sigma"]),
                "features": features[chosen],
            }  # fmt: skip
            if logits is not None:
                tensors["groups"] = torch.tensor(logits.shape[1])
            if self.extractor.name == "mnist" and logits is not None:
                classes, sure = _digits(logits)
                tensors["digits"] = classes.flatten().bincount(minlength=logits.shape[2])
                tensors["sure"] = sure.double().mean()
            if self.use_cache:
                _write(path, lambda beside: save_file(tensors, beside))
        self._reference = tensors

    def _chosen(self, asked: Sequence[str] | None) -> tuple[str, ...]:
        """The metrics to compute, each checked against what there is."""
        reference, shape = self._reference, self.shape
        problems = {}
        if "groups" not in reference:
            problems["is"] = f"a score of classes, which the features {self.extractor.name} do not have"
        elif reference["groups"] != 1:
            problems["is"] = "a score of one class an image, and these images have one a channel"
        if "digits" not in reference:
            problems["modes"] = "counted with the classifier of digits: --features mnist"
        elif shape[0] not in (1, 3) or reference["sure"] < SURE or not bool((reference["digits"] > 0).all()):
            problems["modes"] = (
                f"counted on digits, and the classifier is sure of {reference['sure'].item():.0%} of "
                f"{self.protocol['data']}, in {int((reference['digits'] > 0).sum())} classes"
            )
        chosen = tuple(name for name in METRICS if (name in asked if asked is not None else name not in problems))
        if not chosen:
            raise EvaluationError(f"no metric to compute: choose of {', '.join(METRICS)}")
        for name in chosen:
            if name in problems:
                raise EvaluationError(f"{name!r} is {problems[name]}")
        there = self.protocol["reference"]["n"]
        for name, least in (("fid", 2), ("kid", KID_SUBSET), ("is", IS_SPLITS), ("prdc", NEIGHBOURS + 1)):
            if name in chosen and min(self.n, there) < least:
                raise EvaluationError(
                    f"{name!r} needs {least:,} samples and as many images to compare with, not {self.n:,} and "
                    f"{there:,}: give more, or leave it out of the metrics"
                )
        width = reference["features"].shape[1]
        if "fid" in chosen and min(self.n, there) <= width:
            logger.warning("FID over %d features is much too high with as few as %d samples", width, self.n)
        return chosen

    def _floor(self, data: str, data_dir: str) -> dict[str, float] | None:
        """The same figures of real images that the reference does not hold, as many of them as of samples if can be."""
        if not has_test_split(data):
            return None
        seedless = {**self.protocol, "generated": self.n}
        path = _cached("floor", [seedless, self.metrics, self.device.type], "json")
        if self.use_cache and (kept := _read_json(path)):
            return kept
        side = self.shape[1] if self.shape[1] == self.shape[2] else None
        test = load(data, data_dir, image_size=side, channels=self.shape[0], options={"split": "test"})
        chosen = torch.randperm(len(test.items), generator=Rng(0, 0, "floor").generator)[: self.n].sort().values
        enough = tuple(name for name in self.metrics if name != "kid" or len(chosen) >= KID_SUBSET)
        logger.info("preparing %d test images of %s", len(chosen), data)
        whole = test.items
        items = Composed(whole.source, whole.table[chosen]) if isinstance(whole, Composed) else whole[chosen]
        values = {"n": len(chosen), **self._score(*self._extract_items(items), enough)}
        if self.use_cache:
            _write_json(path, values)
        return values

    def _score(self, features: Tensor, logits: Tensor | None, metrics: Sequence[str]) -> dict[str, float]:
        library, reference = _library(), self._reference
        values: dict[str, float] = {}
        if "fid" in metrics:
            ours = library["fid_features_to_statistics"](features)
            theirs = {"mu": reference["mean"].numpy(), "sigma": reference["covariance"].numpy()}
            values["fid"] = library["fid_statistics_to_metric"](ours, theirs, False)["frechet_inception_distance"]
        if "kid" in metrics:
            found = library["kid_features_to_metric"](
                features, reference["features"], kid_subsets=KID_SUBSETS, kid_subset_size=KID_SUBSET, verbose=False
            )
            values["kid"] = found["kernel_inception_distance_mean"]
            values["kid_std"] = found["kernel_inception_distance_std"]
        if "is" in metrics and logits is not None:
            found = library["isc_features_to_metric"](logits[:, 0], splits=IS_SPLITS)
            values["is"], values["is_std"] = found["inception_score_mean"], found["inception_score_std"]
        if "prdc" in metrics:
            values |= prdc(reference["features"], features[:AT_MOST], NEIGHBOURS)
        if "modes" in metrics and logits is not None:
            classes, sure = _digits(logits)
            groups, kinds = logits.shape[1:]
            share = (reference["digits"].double() / reference["digits"].sum()).numpy()
            balance, code = share, _code(classes, kinds)
            for _ in range(1, groups):  # stacked: channels are independent, so shares multiply
                balance = np.outer(balance, share).ravel()
            found = modes(code.bincount(minlength=kinds**groups).numpy(), balance)
            values |= {name: value for name, value in found.items() if groups > 1 or "uniform" not in name}
            values["confident"] = sure.double().mean().item()
        return values


def _digits(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Class of each (N, groups), and whether the classifier is sure of all groups (N,)."""
    confidence, classes = logits.softmax(2).max(2)
    return classes, (confidence > SURE).all(1)


def _code(classes: Tensor, kinds: int) -> Tensor:
    """One number for the classes (N, groups) of each image: the first group's is the leading digit."""
    code = classes[:, 0]
    for i in range(1, classes.shape[1]):
        code = code * kinds + classes[:, i]
    return code


def _pixels(samples: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Samples as uint8 images (N, C, H, W) on the CPU."""
    try:
        pixels = torch.from_numpy(to_uint8(samples)).permute(0, 3, 1, 2)
    except SampleError as error:
        raise EvaluationError(
            f"samples of shape {tuple(samples.shape[1:])} are not images, and only those can be measured"
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
        raw: of a run folder: the generator of its newest checkpoint itself, not the averaged one.
        device: where a SOURCE is measured, and features are computed.
        use_cache: look for the reference, and for the result of a SOURCE, in the cache folder; keep them there.

    Raises:
        EvaluationError, and whatever `from_pretrained` and `ganzoo.data.load` raise.
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
    for source in sources:
        folder = find(source) if raw else None
        if folder is not None and is_model(folder):
            raise EvaluationError(f"{source} holds the averaged generator alone: --raw is for run folders")
        g = (load_run(folder, "generator") if folder is not None else from_pretrained(source)).to(device)
        shape = _shape_of(g)
        key = (shape["image_size"], shape["channels"])
        if key not in evaluators:
            evaluators[key] = Evaluator(data, device=device, use_cache=use_cache, **shape, **settings)
        evaluator = evaluators[key]
        kind = "raw" if raw else "ema"
        weights = {"sha256": digest(g), "kind": kind}
        network = [f"{type(g).__module__}.{type(g).__qualname__}", g.config]
        path = _cached(
            "result", [network, weights, evaluator.metrics, evaluator.protocol, evaluator.device.type], "json"
        )
        if use_cache and (values := _read_json(path)):
            result = Result(source, weights, values, evaluator.floor, evaluator.protocol)
        else:
            logger.info("measuring %d samples of %s", evaluator.n, source)
            result = evaluator(g, source=source, kind=kind)
            if use_cache:
                _write_json(path, result.values)
        results.append(result)
    return results


def _shape_of(g: nn.Module) -> dict[Literal["image_size", "channels"], Any]:
    _, channels, height, width = _pixels(next(blocks(g, 1))).shape
    return {"image_size": height if height == width else None, "channels": channels}


def _library() -> dict[str, Any]:
    """torch-fidelity's functions of features: what it offers on top of them keeps its cache as pickles."""
    try:
        from torch_fidelity import metric_fid, metric_isc, metric_kid  # type: ignore[import-untyped]
    except ImportError as error:
        raise EvaluationError("evaluation needs torch-fidelity: pip install 'ganzoo[eval]'") from error
    return {**vars(metric_fid), **vars(metric_isc), **vars(metric_kid)}


# The cache


def _cached(kind: str, key: Any, suffix: str) -> Path:
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return cache.root() / "eval" / f"{kind}-{name}.{suffix}"


def _read_json(path: Path) -> dict[str, float] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(value, int | float) for value in found.values()):
            raise ValueError("it does not hold figures")
        return found  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("%s is damaged, computing it anew: %s", path, error)
        return None


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside, then rename; a cache that cannot be written costs time, not the figures."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        logger.warning("%s cannot be written, so it will be computed again: %s", path, error)


def _write_json(path: Path, values: Mapping[str, float]) -> None:
    _write(path, lambda beside: beside.write_text(json.dumps(values), encoding="utf-8"))
