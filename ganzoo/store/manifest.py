"""config.json of a model folder: the architecture, its settings, and the size and hash of every other file."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ganzoo import files
from ganzoo.errors import WeightsError
from ganzoo.files import file_hash, reason
from ganzoo.sampling.classes import name_fault
from ganzoo.sampling.sound import rate_fault

FORMAT = 1
"""The format of a folder with weights in fp32, without names of classes and of no sounds, which version 0.1.0 reads
too."""
NEWER_FORMAT = 2
"""Version 0.1.0 would refuse `classes` and `rate` as unknown, and fp16; at this number it says to upgrade ganzoo."""
NETWORKS: dict[str, type] = {"architecture": str, "generator": dict, "discriminator": dict}
"""What describes the networks of a model, and is always there."""
CONFIG = "config.json"
MODEL = "model.safetensors"
DISCRIMINATOR = "discriminator.safetensors"
GOLDEN = "test.safetensors"
CARD = "README.md"
PICTURE = "samples.png"
TRAINING = "training.json"
SCORES = "scores.json"
FILES = (MODEL, DISCRIMINATOR, GOLDEN, CARD, PICTURE, TRAINING, SCORES)
"""The files that a model folder may hold besides config.json."""


@dataclass(frozen=True)
class ModelConfig:
    """The content of config.json.

    Attributes:
        architecture: its registered name.
        tag: the second half of "arch.tag".
        generator: the generator's settings.
        discriminator: the discriminator's.
        requires: the "package" of the architecture's plugin and its "version"; empty for one without a package.
        files: "size" in bytes and "sha256" of each other file, by name.
        classes: the names of the generator's classes, if they have any.
        rate: of a generator of sounds: their samples a second.
    """

    architecture: str
    tag: str
    generator: dict[str, Any]
    discriminator: dict[str, Any]
    requires: dict[str, str]
    files: dict[str, dict[str, Any]]
    classes: list[str] | None = None
    rate: int | None = None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every error that a damaged or hostile file can cause into a WeightsError that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {reason(error)}") from error
    except (ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size, without repeated keys or numbers that JSON does not have.

    Raises:
        WeightsError: the file holds anything else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key is repeated")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    with reading(path):
        content = files.read_json(path, object_pairs_hook=unique, parse_constant=refuse)
        if not isinstance(content, dict):
            raise ValueError("it must hold an object")
    return content


def config_text(content: Mapping[str, Any]) -> str:
    """The text of a config.json: a canonical form with its own digest, in which any changed byte shows."""
    plain = {key: value for key, value in content.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return json.dumps({**plain, "digest": digest}, indent=2) + "\n"


def read_config(folder: Path) -> ModelConfig:
    """Read and check the config.json of a model folder.

    Raises:
        WeightsError: the folder is not a model folder, the format is newer, a key is unknown or missing, or a value has
            the wrong type or is out of range.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsError(f"{folder} is not a model folder: it has no {CONFIG}")
    return parse_config(read_json(path), str(path))


def write_config(folder: Path, content: Mapping[str, Any]) -> None:
    """Write config.json with the sizes and hashes of the files in the folder."""
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": file_hash(folder / name)}
        for name in FILES
        if (folder / name).exists()
    }
    (folder / CONFIG).write_text(config_text({**content, "files": files}), encoding="utf-8")


def parse_config(content: Mapping[str, Any], where: str) -> ModelConfig:
    """Check the content of a config.json.

    Raises:
        WeightsError: as `read_config`; the message names `where`.
    """
    if type(content.get("format")) is not int:
        raise WeightsError(f"{where} does not belong to a ganzoo model: it has no format number")
    if content["format"] not in (FORMAT, NEWER_FORMAT):
        formats = f"{FORMAT} and {NEWER_FORMAT}"
        raise WeightsError(f"{where} has format {content['format']}, this ganzoo reads {formats}: upgrade ganzoo")
    kinds: dict[str, type] = {**NETWORKS, "tag": str, "requires": dict, "files": dict}
    optional = {"format", "digest"} if content["format"] == FORMAT else {"format", "digest", "classes", "rate"}
    for key in content.keys() - kinds.keys() - optional:
        raise WeightsError(f"{where} has an unknown key {key!r}")
    _check_kinds(content, kinds, where)
    check_networks(content, where)
    for key, value in content["requires"].items():
        known = key in ("package", "version")
        if not known or not isinstance(value, str) or not value.isprintable() or len(value) > 100:
            raise WeightsError(f"{where}: 'requires' must hold a package and a version")
    _check_files(content["files"], where)
    return ModelConfig(**{key: content[key] for key in (*kinds, "classes", "rate") if key in content})


def check_networks(content: Mapping[str, Any], where: str) -> None:
    """Check what a JSON file says of a model's networks: the architecture, the settings of both, and, if they are
    there, the names of classes and the sampling rate.

    Raises:
        WeightsError: something is missing, has the wrong type, or is out of range; the message names `where`.
    """
    _check_kinds(content, NETWORKS, where)
    for key in ("generator", "discriminator"):
        _check_setting(content[key], f"{where}: {key}")
    if "classes" in content:
        _check_classes(content["classes"], content["generator"].get("num_classes"), where)
    if "rate" in content and (fault := rate_fault(content["rate"])):
        raise WeightsError(f"{where}: 'rate' {fault}")


def _check_kinds(content: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise WeightsError(f"{where}: {key!r} must be {'a string' if kind is str else 'an object'}")


def _check_classes(classes: Any, count: Any, where: str) -> None:
    if not isinstance(classes, list) or len(classes) != count:
        raise WeightsError(f"{where}: 'classes' must be a list, a name for each of the generator's {count!r} classes")
    if fault := name_fault(classes):
        raise WeightsError(f"{where}: 'classes' cannot be used: {fault}")


def _check_files(files: Mapping[str, Any], where: str) -> None:
    for name, facts in files.items():
        if name not in FILES:
            raise WeightsError(f"{where} names the file {name!r}, which is not one of {', '.join(FILES)}")
        fine = isinstance(facts, dict) and facts.keys() == {"size", "sha256"} and type(facts["size"]) is int
        if not fine or facts["size"] < 0 or not isinstance(facts["sha256"], str) or len(facts["sha256"]) != 64:
            raise WeightsError(f"{where}: {name!r} must have a size and a sha256")
    if MODEL not in files:
        raise WeightsError(f"{where} names no {MODEL}")


def _check_setting(value: Any, where: str, depth: int = 0) -> None:
    """Refuse a setting larger than any network needs, before a network built with it can exhaust memory or time."""
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
    """Compare a file with the size and hash in config.json.

    Raises:
        WeightsError: the file is missing, cannot be read, or differs.
    """
    path = folder / name
    with reading(path):
        size = path.stat().st_size
        if size != facts["size"]:
            raise WeightsError(f"{path} has {size:,} bytes, but {CONFIG} says {facts['size']:,}: fetch it again")
        if file_hash(path) != facts["sha256"]:
            raise WeightsError(f"{path} differs from its hash in {CONFIG}: it was damaged or changed; fetch it again")
