"""Measuring generators by their SOURCE, with a cache of the results."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganzoo.data.dataset import Data
from ganzoo.data.inputs import is_made
from ganzoo.errors import EvaluationError
from ganzoo.evaluation.evaluator import Evaluator
from ganzoo.evaluation.extraction import pixels
from ganzoo.evaluation.figures_cache import cache_path, read_figures, write_figures
from ganzoo.evaluation.neighbours import check_picture
from ganzoo.sampling.draw import as_generator, blocks
from ganzoo.sampling.options import check_options, input_channels, takes_inputs
from ganzoo.store.networks import load_run
from ganzoo.store.results import Result
from ganzoo.store.source import find, from_pretrained, is_model

logger = logging.getLogger("ganzoo")


def evaluate(
    g: nn.Module | str | Path,
    data: str | Data,
    *,
    raw: bool = False,
    device: torch.device | str = "cpu",
    use_cache: bool = True,
    neighbours: str | Path | None = None,
    **settings: Any,
) -> Result:
    """Measure one generator. For several, or during training, build an `Evaluator` once.

    Args:
        g: a generator, a run, or a SOURCE, as for `from_pretrained`.
        data: a data spec, or `ganzoo.Data` with images: the reference, as for `Evaluator`.
        raw: for a run folder, measure the generator that the optimizer updates, not the averaged one.
        device: the device that computes the features and, for a SOURCE, the samples.
        use_cache: keep the reference, and the result of a SOURCE, in the cache folder.
        neighbours: a file for a picture of the samples that are nearest to images of the reference, as for
            `Evaluator.__call__`. It adds "neighbours" to the metrics.
        **settings: `data_dir`, `split`, `held_out`, `inputs`, `data_options`, `metrics`, `features`, `n`, `seed`,
            `options` and `precision` of `Evaluator`. The sizes of images and inputs are the generator's.

    Returns:
        The figures, with their protocol and the floor.

    Raises:
        EvaluationError, SampleError, ConfigError: the generator cannot be measured, as for `Evaluator`.
        DataError: the data is missing or cannot be read.
        UnknownNameError: there are no weights or no data of that name.
        WeightsError: the model folder is damaged or does not fit.
        CheckpointError: the run folder has no whole checkpoint.
        HubError: the weights cannot be fetched.
    """
    if not isinstance(g, nn.Module | str | Path):
        g = as_generator(g)  # of a run
    common: dict[str, Any] = {"device": device, "use_cache": use_cache}
    if isinstance(g, nn.Module):
        settings = {**_shape_of(g, settings), **_with_neighbours(settings, neighbours)}
        evaluator = Evaluator(data, **common, **settings)
        return evaluator(g, neighbours=neighbours)
    return next(measure_sources([str(g)], data, raw=raw, neighbours=neighbours, **common, **settings))


def evaluate_sources(sources: Sequence[str], data: str | Data, **settings: Any) -> list[Result]:
    """The results of `measure_sources`, which takes the same arguments."""
    return list(measure_sources(sources, data, **settings))


def measure_sources(
    sources: Sequence[str],
    data: str | Data,
    *,
    raw: bool = False,
    device: torch.device | str = "cpu",
    use_cache: bool = True,
    neighbours: str | Path | None = None,
    **settings: Any,
) -> Iterator[Result]:
    """As `evaluate`, for several SOURCEs of images of one shape, which are all looked at before the first is measured.
    A picture of neighbours shows one SOURCE only.

    Yields:
        The result of each, as soon as it is there.
    """
    if neighbours is not None and len(sources) > 1:
        raise EvaluationError(f"{neighbours} can show the neighbours of one SOURCE, not of {len(sources)}")
    settings = _with_neighbours(settings, neighbours)
    if len(sources) > 1:
        shapes = [_shape_of(g, settings) for _, g in _generators(sources, raw)]
        for source, shape in zip(sources, shapes, strict=True):
            if shape != shapes[0]:
                raise EvaluationError(
                    f"{sources[0]} ({_described(shapes[0])}) and {source} ({_described(shape)}) make images of "
                    "different shapes, so that their figures do not compare: measure them one by one"
                )
    evaluator = None
    for source, g in _generators(sources, raw):
        g.to(device)
        if evaluator is None:
            evaluator = Evaluator(data, device=device, use_cache=use_cache, **_shape_of(g, settings), **settings)
        yield _measure(evaluator, g, source, "raw" if raw else "ema", neighbours)


def _described(shape: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in shape.items() if name != "translates" and value is not None)


def _with_neighbours(settings: dict[str, Any], neighbours: str | Path | None) -> dict[str, Any]:
    """The settings, with the metric that a picture of neighbours takes."""
    if neighbours is None:
        return settings
    check_picture(Path(neighbours))
    metrics = settings.get("metrics")
    return {**settings, "metrics": [*(("default",) if metrics is None else metrics), "neighbours"]}


def _generators(sources: Sequence[str], raw: bool) -> Iterator[tuple[str, nn.Module]]:
    for source in sources:
        folder = find(source) if raw else None
        if folder is not None and is_model(folder):
            raise EvaluationError(f"{source} holds only the averaged generator: --raw is for run folders")
        yield source, load_run(folder, "generator") if folder is not None else from_pretrained(source)


def _measure(evaluator: Evaluator, g: nn.Module, source: str, kind: str, neighbours: str | Path | None) -> Result:
    """The result of a generator, computed, or from the cache if there is nothing to draw."""
    network = [f"{type(g).__module__}.{type(g).__qualname__}", g.config]
    empty = evaluator.result_of(g, {}, source=source, kind=kind)
    key = [network, empty.weights, evaluator.metrics, empty.protocol, evaluator.device.type]
    path = cache_path("result", key, "json")
    if neighbours is None and evaluator.use_cache and (values := read_figures(path)):
        return replace(empty, values=values)
    logger.info("measuring %d samples of %s", evaluator.n, source)
    result = evaluator(g, source=source, kind=kind, neighbours=neighbours)
    if evaluator.use_cache:
        write_figures(path, result.values)
    return result


def _shape_of(g: nn.Module, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `Evaluator` by which images, and inputs that are not made from them, fit a generator.

    Raises:
        EvaluationError: it makes no images.
        SampleError: it does not take the options.
    """
    options, inputs = settings.get("options") or {}, settings.get("inputs")
    check_options(g, options)
    config: dict[str, Any] = getattr(g, "config", {})
    given = None
    if takes_inputs(g):
        size, depth = config.get("input_size") or config.get("image_size"), input_channels(g, options)
        if size is None or depth is None:
            return {"translates": True}
        given = torch.zeros(1, depth, size, size)
    _, channels, height, width = pixels(next(blocks(g, 1, inputs=given, **options))).shape
    shape = {"image_size": height if height == width else None, "channels": channels, "translates": given is not None}
    if given is not None and inputs is not None and not is_made(inputs):
        shape |= {"input_size": config.get("input_size"), "input_channels": given.shape[1]}
    return shape
