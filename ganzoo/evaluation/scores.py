"""Figures from features: FID, KID, Inception score, precision and recall, density and coverage, diversity, modes.

torch-fidelity computes FID, KID and the Inception score from extracted features. Its own front end would cache the
features as pickles.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.errors import EvaluationError, did_you_mean
from ganzoo.evaluation.differences import PAIRED
from ganzoo.evaluation.metrics import diversity, modes, prdc
from ganzoo.rng import Rng

logger = logging.getLogger("ganzoo")

METRICS = ("fid", "kid", "is", "prdc", "diversity", "modes", *PAIRED, "neighbours")
ON_REQUEST = ("neighbours",)
"""Metrics that are never a default."""
NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""
AT_MOST = 10_000
"""The most real and generated samples for these four, and the most reference samples that KID draws from."""
NEAREST_AT_MOST = 100_000
"""The most images of the reference among which the nearest ones are looked for: half a gigabyte of 1,280 features."""
KID_SUBSETS = 100
KID_SUBSET = 1000
"""The most images in each subset."""
IS_SPLITS = 10
LEAST = {
    "fid": 2, "kid": 2, "is": IS_SPLITS, "prdc": NEIGHBOURS + 1, "diversity": 2, "modes": 1,
    **dict.fromkeys(PAIRED, 1), "neighbours": 1,
}  # fmt: skip
"""The fewest images for each metric, on either side."""
SURE = 0.9
"""The probability of its class above which the classifier is sure of an image, and the share of such images above which
data counts as digits."""


@dataclass(frozen=True)
class Extracted:
    """What is compared of a set of images.

    Attributes:
        features: (N, F).
        logits: (N, groups, classes), or None if the extractor has no classes.
        variance: the sum of the variances of all pixels.
    """

    features: Tensor
    logits: Tensor | None
    variance: float


Reference = Mapping[str, Tensor]
"""What `describe` returns."""


def library() -> dict[str, Any]:
    """The functions of torch-fidelity that compute figures from features.

    Raises:
        EvaluationError: it is not installed.
    """
    try:
        from torch_fidelity import metric_fid, metric_isc, metric_kid  # type: ignore[import-untyped]
    except ImportError as error:
        raise EvaluationError("evaluation needs torch-fidelity: pip install 'ganzoo[eval]'") from error
    return {**vars(metric_fid), **vars(metric_isc), **vars(metric_kid)}


def describe(images: Extracted, *, digits: bool) -> dict[str, Tensor]:
    """The statistics of the reference that the figures need.

    Args:
        images: what was extracted of the reference's images.
        digits: whether the classes are those of digits.

    Returns:
        The `mean` and `covariance` of the features, at most 100,000 of the `features` in `reference_order`, and the
        `variance` of the pixels. With classes, also the number of `groups`. With digits, also the number of images of
        each of the `digits`, and the share of images that the classifier is `sure` of.
    """
    features, logits = images.features, images.logits
    statistics = library()["fid_features_to_statistics"](features)
    reference = {
        "mean": torch.from_numpy(statistics["mu"]),
        "covariance": torch.from_numpy(statistics["sigma"]),
        "features": features[reference_order(len(features))],
        "variance": torch.tensor(images.variance, dtype=torch.double),
    }
    if logits is not None:
        reference["groups"] = torch.tensor(logits.shape[1])
    if digits and logits is not None:
        classes, sure = classify(logits)
        reference["digits"] = classes.flatten().bincount(minlength=logits.shape[2])
        reference["sure"] = sure.double().mean()
    return reference


def reference_order(n: int) -> Tensor:
    """The indices of those of n images whose features are kept, in random order: the first ones are a subset too."""
    return torch.randperm(n, generator=Rng(0, 0, "reference").generator)[:NEAREST_AT_MOST]


def check_names(metrics: Sequence[str]) -> None:
    """Refuse unknown metrics.

    Raises:
        EvaluationError: there is no metric of that name.
    """
    for metric in metrics:
        if metric not in ("default", *METRICS):
            raise EvaluationError(f"no metric is called {metric!r}: {did_you_mean(metric, METRICS)}")


def choose(
    metrics: Sequence[str] | None,
    reference: Reference,
    *,
    data: str,
    features: str,
    channels: int,
    images: Mapping[str, int],
    problems: Mapping[str, str],
) -> tuple[str, ...]:
    """The metrics to compute, each checked against the reference.

    Args:
        metrics: their names; None or "default": all that are possible and need not be asked for, but not FID where it
            would mean little.
        reference: the result of `describe`; empty if only pairs are compared.
        data: the name of the data, for messages.
        features: the name of the extractor, for messages.
        channels: the channels of the images.
        images: the numbers of images by what they are; those of the reference and the held-out ones are real.
        problems: the reasons why metrics of pairs are impossible, by name.

    Raises:
        EvaluationError: the features or the data do not allow a metric, or there are too few samples for it.
    """
    problems = {**problems, **_problems(reference, data, features, channels)}
    few = {name: _too_few(name, images) for name in METRICS}
    wanted = set(("default",) if metrics is None else metrics)
    if "default" in wanted:
        possible = {name for name in METRICS if not (name in problems or few[name] or name in ON_REQUEST)}
        if "fid" in possible - wanted and (reason := _fid_means_little(reference, images)):
            possible.remove("fid")
            logger.warning("kid is measured in place of fid (`--metrics fid` measures that): %s", reason)
        wanted |= possible
    names = tuple(name for name in METRICS if name in wanted)
    if not names:
        raise EvaluationError(f"no metric to compute: choose from {', '.join(METRICS)}")
    for name in names:
        if message := problems.get(name) or few[name]:
            raise EvaluationError(f"{name!r} {message}")
    if "fid" in names and (fewest := min(images.values())) <= (width := reference["features"].shape[1]):
        logger.warning("FID over %d features is much too high with only %d images", width, fewest)
    return names


def _too_few(metric: str, images: Mapping[str, int]) -> str:
    """Why there are too few images for a metric; empty if there are enough. Few held-out ones only cost its floor."""
    samples, real, *_ = images.values()
    if min(samples, real) >= LEAST[metric]:
        return ""
    return (
        f"needs {LEAST[metric]:,} samples and as many images to compare with, not {samples:,} and {real:,}: give more, "
        "or leave it out of the metrics"
    )


def _fid_means_little(reference: Reference, images: Mapping[str, int]) -> str:
    """Why FID would be far too high; empty if there are enough images. A covariance of F features has rank F only from
    F + 1 images on, and the bias of FID falls with their number."""
    width = reference["features"].shape[1]
    what = min(reversed(list(images)), key=lambda name: images[name])  # of equals, the real ones
    if images[what] >= 2 * width:
        return ""
    return f"over {width:,} features FID needs {2 * width:,} images of each kind, and there are {images[what]:,} {what}"


def _problems(reference: Reference, data: str, features: str, channels: int) -> dict[str, str]:
    """The reasons why metrics of one set of images are impossible, by name."""
    problems = {}
    if "groups" not in reference:
        problems["is"] = f"needs classes, which the features {features} do not have"
    elif reference["groups"] != 1:
        problems["is"] = "needs one class for each image, and these have one for each channel"
    if "digits" not in reference:
        problems["modes"] = "needs the classifier of digits: --features mnist"
    elif channels not in (1, 3) or reference["sure"] < SURE or not bool((reference["digits"] > 0).all()):
        problems["modes"] = (
            f"needs digits, and the classifier is sure of {reference['sure'].item():.0%} of {data}, in "
            f"{int((reference['digits'] > 0).sum())} classes"
        )
    return problems


def score(reference: Reference, images: Extracted, metrics: Sequence[str], kid_subset: int) -> dict[str, float]:
    """The figures of images by name, except for those of pairs and of neighbours; none without a reference."""
    if not reference:
        return {}
    functions = library()
    features, logits = images.features, images.logits
    some = reference["features"][:AT_MOST]
    values: dict[str, float] = {}
    if "fid" in metrics:
        statistics = functions["fid_features_to_statistics"](features)
        target = {"mu": reference["mean"].numpy(), "sigma": reference["covariance"].numpy()}
        distance = functions["fid_statistics_to_metric"](statistics, target, False)
        values["fid"] = distance["frechet_inception_distance"]
    if "kid" in metrics:
        kid = functions["kid_features_to_metric"](
            features, some, kid_subsets=KID_SUBSETS, kid_subset_size=kid_subset, verbose=False
        )
        values["kid"] = kid["kernel_inception_distance_mean"]
        values["kid_std"] = kid["kernel_inception_distance_std"]
    if "is" in metrics and logits is not None:
        inception = functions["isc_features_to_metric"](logits[:, 0], splits=IS_SPLITS)
        values["is"], values["is_std"] = inception["inception_score_mean"], inception["inception_score_std"]
    if "prdc" in metrics:
        values |= prdc(some, features[:AT_MOST], NEIGHBOURS)
    if "diversity" in metrics:
        variance = features.double().var(0).sum().item()
        values["diversity"] = diversity(variance, reference["covariance"].trace().item())
        values["diversity_pixels"] = diversity(images.variance, reference["variance"].item())
    if "modes" in metrics and logits is not None:
        values |= _modes(reference, logits)
    return values


def _modes(reference: Reference, logits: Tensor) -> dict[str, float]:
    classes, sure = classify(logits)
    groups, kinds = logits.shape[1:]
    share = (reference["digits"].double() / reference["digits"].sum()).numpy()
    balance = share
    for _ in range(1, groups):  # the channels of stacked digits are independent, so the shares multiply
        balance = np.outer(balance, share).ravel()
    counts = class_code(classes, kinds).bincount(minlength=kinds**groups).numpy()
    values = {name: value for name, value in modes(counts, balance).items() if groups > 1 or "uniform" not in name}
    return {**values, "confident": sure.double().mean().item()}


def classify(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The class of each group, (N, groups), and whether the classifier is sure of all groups, (N,)."""
    confidence, classes = logits.softmax(2).max(2)
    return classes, (confidence > SURE).all(1)


def class_code(classes: Tensor, kinds: int) -> Tensor:
    """The classes (N, groups) of each image as one number, whose leading digit is the class of the first group."""
    code = classes[:, 0]
    for i in range(1, classes.shape[1]):
        code = code * kinds + classes[:, i]
    return code
