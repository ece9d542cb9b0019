"""Writing model folders, whose files `models` describes."""

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ganzoo.errors import WeightsError
from ganzoo.files import reason, replacing, weights_hash, write_tensors
from ganzoo.rng import Rng
from ganzoo.sampling import pictures, sound
from ganzoo.sampling.classes import class_names
from ganzoo.sampling.draw import BLOCK, draw_latent, sample
from ganzoo.sampling.examples import Examples
from ganzoo.sampling.options import takes_inputs
from ganzoo.sampling.sound import rate_of
from ganzoo.store.card import render_card, source_name, with_scores
from ganzoo.store.manifest import (
    CARD,
    CONFIG,
    DISCRIMINATOR,
    FORMAT,
    GOLDEN,
    MODEL,
    NEWER_FORMAT,
    PICTURE,
    SCORES,
    TRAINING,
    parse_config,
    read_json,
    write_config,
)
from ganzoo.store.models import load_network, verify
from ganzoo.store.networks import checkpoint_network
from ganzoo.store.results import Result, read_results
from ganzoo.store.runs import data_slug, open_run, read_training
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.plugins import registry

GOLDEN_COUNT = 4


def save_pretrained(
    source: Any,
    folder: str | Path,
    *,
    tag: str = "",
    license: str = "",
    discriminator: bool = False,
    name: str = "",
    half: bool = False,
) -> Path:
    """Write a run's averaged generator as a model folder, whole or not at all.

    Args:
        source: the result of `train`, a run folder, whose newest checkpoint is used, or the folder of a checkpoint.
        folder: the folder to write. It must not exist yet, or be empty.
        tag: the second half of "arch.tag"; by default named after the data.
        license: the licence of the weights, as the Hub spells it, such as "apache-2.0".
        discriminator: save the discriminator too, so that others can fine-tune.
        name: the SOURCE in the card's snippet; by default the folder.
        half: round the weights to fp16, for files of half the size. Loading gives fp32 again; samples and golden images
            are those of the rounded weights.

    Returns:
        The folder.

    Raises:
        CheckpointError: the source is not a run folder, or has no checkpoint yet.
        WeightsError: the folder exists and is not empty, or cannot be written.
    """
    run, checkpoint = open_run(Path(getattr(source, "folder", source)))
    config, training = read_training(run)
    model = checkpoint.state["model"]
    settings = config.to_dict()
    del settings["out"]
    _remove_paths(settings, config, model)
    training |= {"config": settings, "step": checkpoint.step, "seconds": round(checkpoint.state["seconds"], 1)}
    networks: dict[str, nn.Module] = {}
    for role, part in (("generator", "ema"), ("discriminator", "discriminator")):
        networks[role] = checkpoint_network(checkpoint, role, part)  # type: ignore[arg-type]
    return write_model(
        Path(folder),
        model["architecture"],
        tag or data_slug(config.data),
        networks["generator"],
        networks["discriminator"] if discriminator else None,
        discriminator_config=networks["discriminator"].config,  # type: ignore[arg-type]
        training=training,
        license=license,
        name=name,
        half=half,
        scores=[] if half else _scores_of(run, networks["generator"]),
        examples=Examples.of(checkpoint.part("examples")),
    )


def _remove_paths(settings: dict[str, Any], config: TrainConfig, model: Mapping[str, Any]) -> None:
    """Take from a run's settings what means nothing on another machine: the places of its files, and what a network
    replaces by its `stored` settings."""
    if config.data not in registry().data:
        settings["data"] = data_slug(config.data)
    if config.inputs is not None and Path(config.inputs).exists():
        settings["inputs"] = Path(config.inputs).stem
    settings.pop("data_dir", None)
    settings.pop("track", None)  # may name accounts
    for own, key in ((settings, "eval_features"), (settings["objective_options"], "features")):
        if isinstance(spec := own.get(key), str):  # NAME=FILE
            own[key] = spec.partition("=")[0]
    for role in ("generator", "discriminator"):
        own = getattr(config, role)
        settings[role] = {key: value for key, value in own.items() if model[role].get(key) == value}


def _scores_of(run: Path, generator: nn.Module) -> list[Result]:
    """The results in a run's model folder that were measured with the generator's weights."""
    path = run / "model" / SCORES
    own = weights_hash(generator)
    return [result for result in read_results(path) if result.weights["sha256"] == own] if path.exists() else []


def write_model(
    folder: Path,
    architecture: str,
    tag: str,
    generator: nn.Module,
    discriminator: nn.Module | None = None,
    *,
    discriminator_config: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    license: str = "",
    name: str = "",
    half: bool = False,
    scores: Sequence[Result] = (),
    examples: Examples | None = None,
) -> Path:
    """Write networks as a model folder, whole or not at all. The arguments are those of `save_pretrained`, `training`
    is the content of training.json, and `examples` are what a generator that translates is shown on.

    Raises:
        WeightsError: the folder exists, cannot be written, or the weights are not finite.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists already: choose another folder")
    dtype = torch.float16 if half else torch.float32
    g = _rounded(generator, dtype)
    d = None if discriminator is None else _rounded(discriminator, dtype)
    content: dict[str, Any] = {
        "format": FORMAT,
        "architecture": architecture,
        "tag": tag,
        "generator": dict(generator.config),  # type: ignore[arg-type]
        "discriminator": dict(discriminator_config),
        "requires": _requirement(architecture),
    }
    newer = {key: value for key, value in (("classes", class_names(g)), ("rate", rate_of(g))) if value}
    content |= newer | ({"format": NEWER_FORMAT} if newer or half else {})
    parse_config({**content, "files": {MODEL: {"size": 0, "sha256": "0" * 64}}}, f"the configuration of {architecture}")
    path = folder.as_posix()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder, overwrite=False) as temporary:
            temporary.mkdir()
            _save_network(g, temporary / MODEL, dtype)
            if d is not None:
                _save_network(d, temporary / DISCRIMINATOR, dtype)
            shape, given, picture = _write_samples(g, temporary, examples)
            if training is not None:
                (temporary / TRAINING).write_text(json.dumps(training, indent=2) + "\n", encoding="utf-8")
            card = render_card(
                content, training or {}, name=name or (path if folder.is_absolute() else f"./{path}"), license=license,
                parameters=sum(p.numel() for p in g.parameters()), shape=shape, picture=picture, half=half,
                unbounded=bool(getattr(g, "unbounded", False)), inputs=given,
            )  # fmt: skip
            _write_card(temporary, card, scores)
            write_config(temporary, content)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{folder} cannot be written: {reason(error)}") from error
    return folder


def _requirement(architecture: str) -> dict[str, str]:
    """The package of an architecture's plugin, and its version; empty for a plugin registered in this process."""
    package = registry().architecture(architecture).plugin.partition(":")[0]
    try:
        return {"package": package, "version": version(package)}
    except PackageNotFoundError:
        return {}


def _write_samples(
    g: nn.Module, folder: Path, examples: Examples | None
) -> tuple[tuple[int, ...], tuple[int, ...] | None, str]:
    """Write golden latents, inputs of a translation and their images or sounds, and a picture of samples if they can
    be drawn.

    Returns:
        The shape of one item, that of one input of a translation, and the picture's name; empty where there is none.
    """
    inputs = None
    if takes_inputs(g):
        inputs = _noise(g) if examples is None else examples.inputs[:GOLDEN_COUNT]
    count = GOLDEN_COUNT if inputs is None else len(inputs)
    images = sample(g, count, 0, inputs=inputs)
    z = draw_latent(g, BLOCK, Rng(0, 0, "sample"))
    tensors = {"z": z[:count], "images": images, **({} if inputs is None else {"inputs": inputs})}
    write_tensors({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / GOLDEN)
    picture = None
    if inputs is not None:
        picture = examples and examples.picture(g)
    elif rate_of(g) is not None:
        picture = sound.overview(g)
    elif pictures.is_image(images):
        picture = pictures.overview(g)
    if picture:
        picture.save(folder / PICTURE)
    return tuple(images.shape[1:]), None if inputs is None else tuple(inputs.shape[1:]), PICTURE if picture else ""


def _noise(g: nn.Module) -> Tensor:
    """Inputs for the golden images of an imported generator, which brings none: noise."""
    config: dict[str, Any] = g.config  # type: ignore[assignment]  # set by create
    size = config.get("input_size") or config["image_size"]
    return Rng(0, 0, "inputs").rand(GOLDEN_COUNT, config["input_channels"], size, size) * 2 - 1


def _write_card(folder: Path, card: str, scores: Sequence[Result]) -> None:
    if scores:
        card = with_scores(card, scores)
        rows = [score.to_dict() for score in scores]
        (folder / SCORES).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def record(folder: Path, result: Result) -> None:
    """Add a result to a model folder's scores.json and card. It replaces one of the same protocol.

    Raises:
        WeightsError: it was not measured with these weights, or the folder cannot be written.
        EvaluationError: the folder's scores.json cannot be read.
    """
    folder = folder.resolve()
    verify(folder)
    card = (folder / CARD).read_text(encoding="utf-8")
    if result.weights["sha256"] != weights_hash(load_network(folder, "generator")):
        raise WeightsError(f"{result.source} was not measured with the weights of {folder}")
    result = replace(result, source=source_name(card))
    recorded = read_results(folder / SCORES) if (folder / SCORES).exists() else []
    scores = {json.dumps(score.protocol): score for score in recorded}
    scores[json.dumps(result.protocol)] = result
    content = read_json(folder / CONFIG)
    try:
        with replacing(folder) as temporary:
            shutil.copytree(folder, temporary)
            _write_card(temporary, card, list(scores.values()))
            write_config(temporary, content)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {reason(error)}") from error


def _rounded(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy on the CPU in fp32, whose numbers were rounded to this type."""
    rounded = copy.deepcopy(module).cpu().to(dtype).float().eval()
    for key, tensor in rounded.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            if module.state_dict()[key].isfinite().all():
                raise WeightsError(f"{key} has values too large for fp16: save the networks without --half")
            raise WeightsError(f"{key} holds NaN or infinite values, so nothing is saved: train the networks again")
    return rounded


def _save_network(module: nn.Module, path: Path, dtype: torch.dtype) -> None:
    tensors = {key: t.to(dtype) if t.is_floating_point() else t for key, t in module.state_dict().items()}
    write_tensors({key: t.detach().clone(memory_format=torch.contiguous_format) for key, t in tensors.items()}, path)
