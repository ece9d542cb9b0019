"""The model folder, which is published and loaded.

    config.json                  architecture, settings, the package that is needed, size and hash of each file below
    model.safetensors            the averaged generator, fp32
    discriminator.safetensors    optional, for fine-tuning
    test.safetensors             golden latents and the images they must give
    README.md samples.png training.json
    scores.json                  optional: figures that `ganzoo eval --record` measured

A folder may come from anyone. Nothing in it names code to import: the architecture is looked up in the registry, the
networks are first built without memory and compared with the file's header, and whatever does not fit is an error.
"""

import copy
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ganzoo.errors import GanzooError, WeightsError
from ganzoo.files import reason, replacing, weights_hash, write_tensors
from ganzoo.rng import Rng
from ganzoo.sampling.classes import class_names, name_classes
from ganzoo.sampling.draw import BLOCK, draw_latent, sample
from ganzoo.sampling.pictures import is_image, overview
from ganzoo.store.card import render_card, source_name, with_scores
from ganzoo.store.manifest import (
    CARD,
    CONFIG,
    DISCRIMINATOR,
    FORMAT,
    FORMAT_WITH_CLASSES,
    GOLDEN,
    MODEL,
    PICTURE,
    SCORES,
    TRAINING,
    ModelConfig,
    check_file,
    config_text,
    parse_config,
    read_config,
    read_json,
    reading,
    write_config,
)
from ganzoo.store.results import Result, read_results
from ganzoo.store.runs import data_slug, open_run, read_training
from ganzoo.zoo.networks import network
from ganzoo.zoo.plugins import registry

Role = Literal["generator", "discriminator"]

TOLERANCE = 2e-3
"""The largest difference between golden images and those that another machine computes from the same latents."""
GOLDEN_COUNT = 4
DTYPES = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL", torch.int32: "I32", torch.uint8: "U8"}
"""The names of tensor types in safetensors."""


def load_network(folder: Path, role: Role) -> nn.Module:
    """Load one network of a model folder. Every tensor must be there, have its shape and be finite; none may be extra.

    Raises:
        WeightsError: something does not fit, or the plugin of the architecture is not installed.
    """
    config = read_config(folder)
    name = MODEL if role == "generator" else DISCRIMINATOR
    if name not in config.files:
        raise WeightsError(f"{folder} was published without its {role} ({name})")
    if config.architecture not in registry().architectures:
        package, selection = config.requires.get("package", ""), os.environ.get("GANZOO_PLUGINS")
        hint = "" if selection is None else f" (or is left out by GANZOO_PLUGINS={selection})"
        raise WeightsError(
            f"{folder} needs the architecture {config.architecture!r}, which is not installed{hint}: pip install "
            f"{package} ({config.requires.get('version') or 'any version'}), or look in `ganzoo plugins`"
        )
    check_file(folder, name, config.files[name])
    path = folder / name
    expected = {key: (DTYPES.get(t.dtype, str(t.dtype)), tuple(t.shape)) for key, t in outline(config, role).items()}
    compare_tensors(_header(path), expected, str(path))
    module: nn.Module = network(config.architecture, role, {}, getattr(config, role))
    with reading(path):
        tensors = load_file(path)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsError(f"{path}: {key} holds NaN or infinite values")
    module.load_state_dict(tensors)
    if role == "generator":
        name_classes(module, config.classes)
    return module.eval()


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, dtypes and shapes of the tensors in a safetensors file, without reading them."""
    with reading(path), safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def compare_tensors(actual: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Compare (dtype, shape) of tensors by name.

    Raises:
        WeightsError: a tensor is missing, extra or of another dtype or shape; the message names the first one.
    """
    for key in expected:
        if key not in actual:
            raise WeightsError(f"{where} lacks the tensor {key!r}")
    for key, (dtype, shape) in actual.items():
        if key not in expected:
            raise WeightsError(f"{where} has a tensor {key!r} that the network lacks")
        if (dtype, shape) != expected[key]:
            raise WeightsError(
                f"{where}: {key} is {dtype} {shape}, the network has {expected[key][0]} {expected[key][1]}"
            )


def outline(config: ModelConfig, role: Role) -> dict[str, Tensor]:
    """The tensors of a network with these settings as names, shapes and dtypes alone, without their memory.

    Raises:
        WeightsError: the settings are refused.
    """
    try:
        with torch.device("meta"):
            module: nn.Module = network(config.architecture, role, {}, getattr(config, role))
    except GanzooError as error:
        raise WeightsError(f"the {role}'s settings in {CONFIG} do not fit: {error}") from error
    return module.state_dict()


def save_pretrained(
    source: Any, folder: str | Path, *, tag: str = "", license: str = "", discriminator: bool = False, name: str = ""
) -> Path:
    """Write a run's averaged generator as a model folder, whole or not at all.

    Args:
        source: the result of `train`, a run folder, whose newest checkpoint is used, or the folder of a checkpoint.
        folder: the folder to write. It must not exist yet, or be empty.
        tag: the second half of "arch.tag"; by default named after the data.
        license: the licence of the weights, as the Hub spells it, such as "apache-2.0".
        discriminator: save the discriminator too, so that others can fine-tune.
        name: the SOURCE in the card's snippet; by default the folder.

    Returns:
        The folder.

    Raises:
        CheckpointError: the source is not a run folder, or has no checkpoint yet.
        WeightsError: the folder exists and is not empty, or cannot be written.
    """
    run, checkpoint = open_run(Path(getattr(source, "folder", source)))
    config, training = read_training(run)
    model = checkpoint.state["model"]
    if config.data not in registry().data:  # a path on the training machine means nothing elsewhere
        training["config"]["data"] = data_slug(config.data)
    training["config"].pop("data_dir", None)
    for role in ("generator", "discriminator"):  # nor does a setting that the network replaces by its `stored` one
        settings = training["config"][role]
        training["config"][role] = {key: value for key, value in settings.items() if model[role].get(key) == value}
    training |= {"step": checkpoint.step, "seconds": round(checkpoint.state["seconds"], 1)}
    networks: dict[str, nn.Module] = {}
    for role, part in (("generator", "ema"), ("discriminator", "discriminator")):
        networks[role] = network(model["architecture"], role, {}, model[role])  # type: ignore[arg-type]
        networks[role].load_state_dict(checkpoint.part(part))
    name_classes(networks["generator"], model.get("classes"))
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
        scores=_scores_of(run, networks["generator"]),
    )


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
    scores: Sequence[Result] = (),
) -> Path:
    """Write networks as a model folder, whole or not at all. The arguments are those of `save_pretrained`.

    Raises:
        WeightsError: the folder exists, cannot be written, or the weights are not finite.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists already: choose another folder")
    g = copy.deepcopy(generator).cpu().float().eval()
    content: dict[str, Any] = {
        "format": FORMAT,
        "architecture": architecture,
        "tag": tag,
        "generator": dict(generator.config),  # type: ignore[arg-type]
        "discriminator": dict(discriminator_config),
        "requires": _requirement(architecture),
    }
    if names := class_names(g):
        content |= {"format": FORMAT_WITH_CLASSES, "classes": names}
    parse_config({**content, "files": {MODEL: {"size": 0, "sha256": "0" * 64}}}, f"the configuration of {architecture}")
    for key, tensor in g.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsError(f"{key} holds NaN or infinite values, so the generator is not saved: train it again")
    path = folder.as_posix()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder, overwrite=False) as temporary:
            temporary.mkdir()
            _save_network(g, temporary / MODEL)
            if discriminator is not None:
                _save_network(copy.deepcopy(discriminator).cpu().float(), temporary / DISCRIMINATOR)
            shape, picture = _write_samples(g, temporary)
            if training is not None:
                (temporary / TRAINING).write_text(json.dumps(training, indent=2) + "\n", encoding="utf-8")
            card = render_card(
                content, training or {}, name=name or (path if folder.is_absolute() else f"./{path}"), license=license,
                parameters=sum(p.numel() for p in g.parameters()), shape=shape, picture=picture,
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


def _write_samples(g: nn.Module, folder: Path) -> tuple[tuple[int, ...], str]:
    """Write golden latents with their images, and the grid of samples if they can be drawn.

    Returns:
        The shape of one item, and the name of the grid; empty where there is none.
    """
    images = sample(g, GOLDEN_COUNT, 0)
    z = draw_latent(g, BLOCK, Rng(0, 0, "sample"))
    write_tensors({"z": z[:GOLDEN_COUNT].contiguous(), "images": images.contiguous()}, folder / GOLDEN)
    drawable = is_image(images)
    if drawable:
        overview(g).save(folder / PICTURE)
    return tuple(images.shape[1:]), PICTURE if drawable else ""


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


def _save_network(module: nn.Module, path: Path) -> None:
    write_tensors(
        {key: t.detach().clone(memory_format=torch.contiguous_format) for key, t in module.state_dict().items()}, path
    )


def verify(folder: Path) -> dict[str, Any]:
    """Check a model folder: every hash, every tensor and the golden images.

    Returns:
        `files`, the number of files that match their hash, and `difference`, the largest between the golden images
        and those that this machine computes from the same latents.

    Raises:
        WeightsError: something does not fit; the message names the first such thing.
    """
    config = read_config(folder)
    content = read_json(folder / CONFIG)
    if (folder / CONFIG).read_bytes() != config_text(content).encode():
        raise WeightsError(f"{folder / CONFIG} differs from its own digest: it was damaged or edited")
    for name, facts in config.files.items():
        check_file(folder, name, facts)
    g = load_network(folder, "generator")
    if DISCRIMINATOR in config.files:
        load_network(folder, "discriminator")
    if GOLDEN not in config.files:
        raise WeightsError(f"{folder} has no {GOLDEN}, so its images cannot be compared")
    with reading(folder / GOLDEN):
        golden = load_file(folder / GOLDEN)["images"]
    images = sample(g, len(golden), 0)
    if images.shape != golden.shape:
        raise WeightsError(f"{folder}: images are {tuple(images.shape)}, the golden ones {tuple(golden.shape)}")
    difference = (images - golden).abs().max().item()
    if not difference <= TOLERANCE:
        raise WeightsError(f"{folder}: images differ from the golden ones by {difference:.2g}, more than {TOLERANCE}")
    return {"files": len(config.files) + 1, "difference": difference}
