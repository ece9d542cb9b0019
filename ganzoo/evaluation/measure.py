"""Measuring generators by their SOURCE, with a cache of the results."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ganzoo.data.dataset import Data
from ganzoo.errors import EvaluationError
from ganzoo.evaluation.evaluator import Evaluator, pixels
from ganzoo.evaluation.figures_cache import cache_path, read_figures, write_figures
from ganzoo.files import weights_hash
from ganzoo.sampling.draw import blocks
from ganzoo.store.results import Result
from ganzoo.store.runs import load_run
from ganzoo.store.source import find, from_pretrained, is_model

logger = logging.getLogger("ganzoo")


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
        g: a generator, or a SOURCE, as for `from_pretrained`.
        data: a data spec, or `ganzoo.Data` with images: the reference, as for `Evaluator`.
        raw: for a run folder, measure the generator that the optimizer updates, not the averaged one.
        device: the device that computes the features and, for a SOURCE, the samples.
        use_cache: keep the reference, and the result of a SOURCE, in the cache folder.
        **settings: `data_dir`, `split`, `held_out`, `metrics`, `features`, `n`, `seed` and `precision` of `Evaluator`.

    Returns:
        The figures, with their protocol and the floor.

    Raises:
        EvaluationError: the generator cannot be measured, as for `Evaluator`.
        DataError: the data is missing or cannot be read.
        UnknownNameError: there are no weights or no data of that name.
        WeightsError: the model folder is damaged or does not fit.
        CheckpointError: the run folder has no whole checkpoint.
        HubError: the weights cannot be fetched.
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
    """As `evaluate`, for several SOURCEs. The reference is prepared once for each shape of images."""
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
            raise EvaluationError(f"{source} holds only the averaged generator: --raw is for run folders")
        yield source, load_run(folder, "generator") if folder is not None else from_pretrained(source)


def _measure(evaluator: Evaluator, g: nn.Module, source: str, kind: str) -> Result:
    """The result of a generator, computed or from the cache."""
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
    _, channels, height, width = pixels(next(blocks(g, 1))).shape
    return {"image_size": height if height == width else None, "channels": channels}
