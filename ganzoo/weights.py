"""The model folder: what is published, and the only thing that is ever loaded.

    config.json                  architecture, settings, the package that is needed, size and hash of each file below
    model.safetensors            the averaged generator, fp32
    discriminator.safetensors    optional, for fine-tuning
    test.safetensors             latents and the images they must give
    README.md samples.png training.json
    scores.json                  optional: what `ganzoo eval --record` measured

A folder may come from anyone. Nothing in it names code to import: the architecture is looked up in the registry, the
networks are first built without memory and compared with the file's header, and whatever does not fit is an error.
"""

import contextlib
import copy
import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganzoo.card import render_card, source_name, with_scores
from ganzoo.checkpoint import data_slug, open_run, read_training, write_tensors
from ganzoo.errors import GanzooError, WeightsError
from ganzoo.features import digest
from ganzoo.plugins import registry
from ganzoo.results import Result, read_results
from ganzoo.rng import Rng
from ganzoo.sampling import BLOCK, draw_latent, is_image, overview, sample
from ganzoo.zoo import network

FORMAT = 1
CONFIG = "config.json"
MODEL = "model.safetensors"
DISCRIMINATOR = "discriminator.safetensors"
GOLDEN = "test.safetensors"
CARD = "README.md"
PICTURE = "samples.png"
TRAINING = "training.json"
SCORES = "scores.json"
FILES = (MODEL, DISCRIMINATOR, GOLDEN, CARD, PICTURE, TRAINING, SCORES)
"""Every file a model folder may hold beside config.json."""

CONFIG_LIMIT = 1 << 20
"""Bytes of a JSON file that are read; a real one has a few thousand."""
HEADER_LIMIT = 16 << 20
"""Bytes of a safetensors header that are read."""
TOLERANCE = 2e-3
"""How far golden images may lie from what another machine makes of the same latents."""
GOLDEN_COUNT = 4


@dataclass(frozen=True)
class ModelConfig:
    """What config.json holds. `files` maps each other file's name to its size in bytes and its sha256."""

    architecture: str
    tag: str
    generator: dict[str, Any]
    discriminator: dict[str, Any]
    requires: dict[str, str]
    files: dict[str, dict[str, Any]]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a damaged or hostile file makes the readers raise, as one WeightsError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, RecursionError, struct.error, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size, without repeated keys or numbers that JSON does not have.

    Raises:
        WeightsError: it is anything else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key comes twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    with _reading(path):
        if path.stat().st_size > CONFIG_LIMIT:
            raise WeightsError(
                f"{path} has {path.stat().st_size:,} bytes, more than the {CONFIG_LIMIT:,} that are read"
            )
        found = json.loads(path.read_bytes(), object_pairs_hook=unique, parse_constant=refuse)
        if not isinstance(found, dict):
            raise ValueError("it must hold an object")
    return found


def _config_text(content: Mapping[str, Any]) -> str:
    """The one spelling of a config.json, its own digest included: so that any flipped byte shows."""
    plain = {key: value for key, value in content.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return json.dumps({**plain, "digest": digest}, indent=2) + "\n"


def read_config(folder: Path) -> ModelConfig:
    """The config.json of a model folder, checked key by key.

    Raises:
        WeightsError: no model folder, an unknown or missing key, a newer format, a wrong type, a senseless value.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsError(f"{folder} is not a model folder: it has no {CONFIG}")
    return parse_config(read_json(path), str(path))


def parse_config(content: Mapping[str, Any], where: str) -> ModelConfig:
    """What a config.json holds, checked. Raises WeightsError, naming `where`."""
    if type(content.get("format")) is not int:
        raise WeightsError(f"{where} is not of a ganzoo model: it has no format number")
    if content["format"] != FORMAT:
        raise WeightsError(f"{where} has format {content['format']}, this ganzoo reads {FORMAT}: upgrade ganzoo")
    kinds: dict[str, type] = {
        "architecture": str, "tag": str, "generator": dict, "discriminator": dict, "requires": dict, "files": dict,
    }  # fmt: skip
    for key in content.keys() - kinds.keys() - {"format", "digest"}:
        raise WeightsError(f"{where} has an unknown key {key!r}")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise WeightsError(f"{where}: {key!r} must be {'a string' if kind is str else 'an object'}")
    for key in ("generator", "discriminator"):
        _check_setting(content[key], f"{where}: {key}")
    for key, value in content["requires"].items():
        if (
            key not in ("package", "version")
            or not isinstance(value, str)
            or not value.isprintable()
            or len(value) > 100
        ):
            raise WeightsError(f"{where}: 'requires' must hold a package and a version")
    for name, facts in content["files"].items():
        if name not in FILES:
            raise WeightsError(f"{where} names the file {name!r}, which is none of {', '.join(FILES)}")
        fine = isinstance(facts, dict) and facts.keys() == {"size", "sha256"} and type(facts["size"]) is int
        if not fine or facts["size"] < 0 or not isinstance(facts["sha256"], str) or len(facts["sha256"]) != 64:
            raise WeightsError(f"{where}: {name!r} must have a size and a sha256")
    if MODEL not in content["files"]:
        raise WeightsError(f"{where} names no {MODEL}")
    return ModelConfig(**{key: content[key] for key in kinds})


def _check_setting(value: Any, where: str, depth: int = 0) -> None:
    """A network is built from these: refuse what no network needs before it can cost memory or time."""
    if isinstance(value, dict | list):
        if len(value) > 256 or depth > 4:
            raise WeightsError(f"{where} is larger than any network needs")
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_setting(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, int | float):
        if not math.isfinite(value) or abs(value) > 1 << 16:
            raise WeightsError(f"{where} is {value!r}, larger than any network needs")
    elif not (value is None or (isinstance(value, str) and len(value) <= 256)):
        raise WeightsError(f"{where} is not a number, a string or a list of them")


def check_file(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Compare a file with the size and hash that config.json gives.

    Raises:
        WeightsError: missing, unreadable, or different.
    """
    path = folder / name
    with _reading(path):
        size = path.stat().st_size
        if size != facts["size"]:
            raise WeightsError(
                f"{path} has {size:,} bytes, not the {facts['size']:,} that {CONFIG} gives: fetch it again"
            )
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
                raise WeightsError(
                    f"{path} differs from its hash in {CONFIG}: it was damaged or changed; fetch it again"
                )


def _read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, dtypes and shapes of a safetensors file, without reading its tensors."""
    with _reading(path), open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(HEADER_LIMIT, path.stat().st_size):
            raise WeightsError(f"{path} claims a header of {length:,} bytes")
        header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header must hold an object")
        return {
            name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items() if name != "__metadata__"
        }


DTYPES = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL", torch.int32: "I32", torch.uint8: "U8"}


def load_network(folder: Path, role: Literal["generator", "discriminator"]) -> nn.Module:
    """One network of a model folder, strictly: every tensor there, none more, each of its shape, all finite.

    Raises:
        WeightsError: something does not fit, named; or the architecture's plugin is not installed.
    """
    config = read_config(folder)
    name = MODEL if role == "generator" else DISCRIMINATOR
    if name not in config.files:
        raise WeightsError(f"{folder} was published without its {role} ({name})")
    if config.architecture not in registry().architectures:
        package, only = config.requires.get("package", ""), os.environ.get("GANZOO_PLUGINS")
        hint = "" if only is None else f" (or the setting GANZOO_PLUGINS={only} leaves it out)"
        raise WeightsError(
            f"{folder} needs the architecture {config.architecture!r}, which is not installed{hint}: pip install "
            f"{package} ({config.requires.get('version') or 'any version'}), or look in `ganzoo plugins`"
        )
    check_file(folder, name, config.files[name])
    settings = getattr(config, role)
    path = folder / name
    header = _read_header(path)
    wanted = outline(config, role)
    compare(header, {key: (DTYPES.get(t.dtype, str(t.dtype)), tuple(t.shape)) for key, t in wanted.items()}, str(path))
    module: nn.Module = network(config.architecture, role, {}, settings)
    with _reading(path):
        tensors = load_file(path)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsError(f"{path}: {key} holds NaN or infinite values")
    module.load_state_dict(tensors)
    return module.eval()


def compare(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    """Raise a WeightsError that names the first tensor that is missing, extra or of another dtype or shape."""
    for key in wanted:
        if key not in found:
            raise WeightsError(f"{where} lacks the tensor {key!r}")
    for key, (dtype, shape) in found.items():
        if key not in wanted:
            raise WeightsError(f"{where} has a tensor {key!r} that the network lacks")
        if (dtype, shape) != wanted[key]:
            raise WeightsError(f"{where}: {key} is {dtype} {shape}, the network has {wanted[key][0]} {wanted[key][1]}")


def outline(config: ModelConfig, role: Literal["generator", "discriminator"]) -> dict[str, Tensor]:
    """The tensors that a network's settings ask for, without their memory: names, shapes and dtypes alone.

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
        source: what `train` gave, or a run folder (its newest checkpoint is taken), or a checkpoint's folder.
        folder: where to; must not exist yet or be empty.
        tag: the second half of "arch.tag"; by default named after the data.
        license: of the weights, as the Hub spells it, such as "apache-2.0".
        discriminator: save that too, so that others can fine-tune.
        name: what people will load it by, for the card's snippet; by default the folder.

    Raises:
        CheckpointError: no run there, or no checkpoint in it yet.
        WeightsError: the folder exists, or cannot be written.
    """
    run, checkpoint = open_run(Path(getattr(source, "folder", source)))
    config, training = read_training(run)
    model = checkpoint.state["model"]
    if config.data not in registry().data:  # a path of the machine it was trained on says nothing elsewhere
        training["config"]["data"] = data_slug(config.data)
    training["config"].pop("data_dir", None)
    for role in ("generator", "discriminator"):  # nor does a setting that the network does not store as it was given
        given = training["config"][role]
        training["config"][role] = {key: value for key, value in given.items() if model[role].get(key) == value}
    training |= {"step": checkpoint.step, "seconds": round(checkpoint.state["seconds"], 1)}
    measured = run / "model" / SCORES
    networks: dict[str, nn.Module] = {}
    for role, part in (("generator", "ema"), ("discriminator", "discriminator")):
        networks[role] = network(model["architecture"], role, {}, model[role])  # type: ignore[arg-type]
        networks[role].load_state_dict(checkpoint.part(part))
    ours = digest(networks["generator"])
    scores = [r for r in read_results(measured) if r.weights["sha256"] == ours] if measured.exists() else []
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
        scores=scores,
    )


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
    """Write networks as a model folder, whole or not at all.

    Raises:
        WeightsError: the folder exists, cannot be written, or the weights are not finite.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists already: choose another folder")
    package = registry().architecture(architecture).plugin.partition(":")[0]
    try:
        requires = {"package": package, "version": version(package)}
    except PackageNotFoundError:  # registered in-process: there is no package to name
        requires = {}
    g = copy.deepcopy(generator).cpu().float().eval()
    content: dict[str, Any] = {
        "format": FORMAT,
        "architecture": architecture,
        "tag": tag,
        "generator": dict(generator.config),  # type: ignore[arg-type]
        "discriminator": dict(discriminator_config),
        "requires": requires,
    }
    parse_config({**content, "files": {MODEL: {"size": 0, "sha256": "0" * 64}}}, f"the configuration of {architecture}")
    for key, tensor in g.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsError(f"{key} holds NaN or infinite values: such a generator is not saved")
    beside = folder.with_name(f".{folder.name}.tmp")  # one name: what a kill leaves goes with the next try
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _save_network(g, beside / MODEL)
        if discriminator is not None:
            _save_network(copy.deepcopy(discriminator).cpu().float(), beside / DISCRIMINATOR)
        images = sample(g, GOLDEN_COUNT, 0)
        z = draw_latent(g, BLOCK, Rng(0, 0, "sample"))
        golden = {"z": z[:GOLDEN_COUNT].contiguous(), "images": images.contiguous()}
        write_tensors(golden, beside / GOLDEN)
        drawable = is_image(images)
        if drawable:
            overview(g).save(beside / PICTURE)
        if training is not None:
            (beside / TRAINING).write_text(json.dumps(training, indent=2) + "\n", encoding="utf-8")
        parameters = sum(p.numel() for p in g.parameters())
        shown = f"./{folder.as_posix()}" if not folder.is_absolute() else folder.as_posix()
        card = render_card(
            content,
            training or {},
            name=name or shown,
            license=license,
            parameters=parameters,
            shape=tuple(images.shape[1:]),
            picture=PICTURE if drawable else "",
        )
        _write_scored(beside, card, scores)
        write_config(beside, content)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.rename(beside, folder)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WeightsError(f"{folder} cannot be written: {reason}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _write_scored(folder: Path, card: str, scores: Sequence[Result]) -> None:
    if scores:
        card = with_scores(card, scores)
        rows = [score.to_dict() for score in scores]
        (folder / SCORES).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def record(folder: Path, result: Result) -> None:
    """Put a result into a model folder's scores.json and card, in place of one of the same protocol.

    Raises:
        WeightsError: it was not measured of these weights, or the folder cannot be written.
        EvaluationError: the scores that are there cannot be read.
    """
    folder = folder.resolve()
    verify(folder)
    card = (folder / CARD).read_text(encoding="utf-8")
    if result.weights["sha256"] != digest(load_network(folder, "generator")):
        raise WeightsError(f"{result.source} was not measured with the weights of {folder}")
    result = replace(result, source=source_name(card))
    known = read_results(folder / SCORES) if (folder / SCORES).exists() else []
    scores = {json.dumps(score.protocol): score for score in known}
    scores[json.dumps(result.protocol)] = result
    beside, before = folder.with_name(f".{folder.name}.tmp"), folder.with_name(f".{folder.name}.before")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(folder, beside)
        _write_scored(beside, card, list(scores.values()))
        write_config(beside, read_json(folder / CONFIG))
        os.rename(folder, before)
        os.rename(beside, folder)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        if not folder.exists() and before.exists():
            os.rename(before, folder)
        shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(before)


def write_config(folder: Path, content: Mapping[str, Any]) -> None:
    """Write config.json over the files that lie there now."""
    files = {}
    for name in FILES:
        if (folder / name).exists():
            with open(folder / name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = {"size": (folder / name).stat().st_size, "sha256": digest}
    (folder / CONFIG).write_text(_config_text({**content, "files": files}), encoding="utf-8")


def _save_network(module: nn.Module, path: Path) -> None:
    write_tensors(
        {key: t.detach().clone(memory_format=torch.contiguous_format) for key, t in module.state_dict().items()}, path
    )


def verify(folder: Path) -> dict[str, Any]:
    """Check everything that can be checked about a model folder: every hash, every tensor, the golden images.

    Returns:
        `files`, the number of files that match their hash, and `difference`, the largest between the golden images
        and what this machine makes of the same latents.

    Raises:
        WeightsError: the first thing that does not fit, named.
    """
    config = read_config(folder)
    content = read_json(folder / CONFIG)
    if (folder / CONFIG).read_bytes() != _config_text(content).encode():
        raise WeightsError(f"{folder / CONFIG} differs from its own digest: it was damaged or edited")
    for name, facts in config.files.items():
        check_file(folder, name, facts)
    g = load_network(folder, "generator")
    if DISCRIMINATOR in config.files:
        load_network(folder, "discriminator")
    if GOLDEN not in config.files:
        raise WeightsError(f"{folder} has no {GOLDEN}, so its images cannot be compared")
    with _reading(folder / GOLDEN):
        golden = load_file(folder / GOLDEN)
        z, images = golden["z"], golden["images"]
    made = sample(g, len(z), 0)
    if made.shape != images.shape:
        raise WeightsError(f"{folder}: images are {tuple(made.shape)}, the golden ones {tuple(images.shape)}")
    difference = (made - images).abs().max().item()
    if not difference <= TOLERANCE:
        raise WeightsError(f"{folder}: images differ from the golden ones by {difference:.2g}, more than {TOLERANCE}")
    return {"files": len(config.files) + 1, "difference": difference}
