"""The run folder: creating it, writing and loading checkpoints. It holds only safetensors, JSON and PNG files."""

import contextlib
import hashlib
import json
import logging
import math
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganzoo.devices import to_host
from ganzoo.errors import CheckpointError, ConfigError, WeightsError
from ganzoo.files import file_hash, parse_json, read_json, reason, remove, replacing, write_tensors, write_text
from ganzoo.sampling.pictures import save
from ganzoo.store.manifest import check_networks
from ganzoo.zoo.config import TrainConfig

logger = logging.getLogger("ganzoo")

RUNS = Path("runs")
FORMAT = 1
TRAINING = "training.json"
METRICS = "metrics.jsonl"
STATE = "state.json"
TENSORS = "state.safetensors"
KEEP = 2
"""Whole checkpoints kept in a run folder."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        path: its folder.
        step: the number of finished steps.
        tensors: all of its tensors, by "part.name".
        state: everything else, as JSON holds it.
    """

    path: Path
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, such as "generator", under their own names."""
        prefix = f"{name}."
        return {key[len(prefix) :]: value for key, value in self.tensors.items() if key.startswith(prefix)}


@contextlib.contextmanager
def _writing(what: object) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{what} cannot be written: {reason(error)}. What was there before is untouched"
        ) from error


def data_slug(spec: str) -> str:
    """A data spec as a word for names."""
    return re.sub(r"[^a-z0-9_]+", "_", Path(spec).stem.lower()).strip("_") or "data"


def create_run(config: TrainConfig, facts: Mapping[str, Any]) -> Path:
    """Create the run folder with its training.json, both or neither.

    Args:
        config: its `out`, else the next free number under runs/.
        facts: entries of training.json besides the configuration.

    Raises:
        CheckpointError: the folder exists and is not empty, or cannot be created.
    """
    folder = _next_folder(config) if config.out is None else Path(config.out)
    with _writing(folder):
        if config.out is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(
                f"{folder} exists already: choose another --out, or add --resume to go on with that run"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(folder, overwrite=False, shared=True) as temporary:
                temporary.mkdir()
                write_text(temporary / TRAINING, _training_json(config, facts))
                (temporary / "samples").mkdir()
                (temporary / "checkpoints").mkdir()
        except OSError:
            if config.out is not None or not folder.exists():
                raise
            return create_run(config, facts)  # another process took the number
    return folder


def _next_folder(config: TrainConfig) -> Path:
    name = f"{config.architecture}-{data_slug(config.data)}"
    suffixes = [path.name[len(name) + 1 :] for path in RUNS.glob(f"{name}-*")]
    number = max((int(suffix) for suffix in suffixes if suffix.isdigit()), default=0) + 1
    return RUNS / f"{name}-{number:03d}"


def rewrite_config(folder: Path, config: TrainConfig, facts: Mapping[str, Any]) -> None:
    """Replace the training.json of a run that goes on.

    Raises:
        CheckpointError: it cannot be written.
    """
    with _writing(folder / TRAINING):
        write_text(folder / TRAINING, _training_json(config, facts))


def _training_json(config: TrainConfig, facts: Mapping[str, Any]) -> str:
    settings = config.to_dict()
    del settings["out"]  # the folder may move
    versions = {"python": platform.python_version(), "torch": torch.__version__, "ganzoo": version("ganzoo")}
    return json.dumps({"config": settings, "versions": versions, **facts}, indent=2) + "\n"


def read_training(folder: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration of a run, and all that its training.json holds.

    Raises:
        CheckpointError: not a run folder, or its training.json is damaged.
    """
    path = folder / TRAINING
    _check_regular(path)
    try:
        content = read_json(path)
        config = TrainConfig.from_dict({**content["config"], "out": str(folder)})
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a run folder: it has no {TRAINING}") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or from another version of ganzoo: {error}") from error
    return config, content


def newest_run(architecture: str) -> Path:
    """The run of `architecture` under runs/ that was written to last.

    Raises:
        CheckpointError: there is none.
    """
    folders = [path.parent for path in RUNS.glob(f"{architecture}-*/{TRAINING}")]
    if not folders:
        raise CheckpointError(f"no run of {architecture} under {RUNS}/ to resume: name its folder with --out")
    return max(folders, key=lambda folder: max(path.stat().st_mtime for path in [folder, *folder.iterdir()]))


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], best: int | None = None
) -> Path:
    """Write checkpoints/step-NNNNNNN so that it appears whole or not at all, then delete all but the newest `KEEP` and
    that of the step `best`.

    Raises:
        CheckpointError: it cannot be written, for example on a full disk; earlier checkpoints are untouched.
    """
    target = folder / "checkpoints" / step_name(step)
    # Clones: safetensors requires contiguous tensors that share no memory.
    plain = {key: t.clone(memory_format=torch.contiguous_format) for key, t in to_host(tensors).items()}
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, durable=True) as temporary:
            temporary.mkdir()
            data = temporary / TENSORS
            write_tensors(plain, data)
            files = {TENSORS: {"size": data.stat().st_size, "sha256": file_hash(data)}}
            content = {"format": FORMAT, "step": step, "files": files, **state}
            text = json.dumps({**content, "digest": _digest(content)})
            (temporary / STATE).write_text(text, encoding="utf-8")
    for old in _checkpoints(folder)[KEEP:]:
        if best is None or old.name != step_name(best):
            remove(old)
    return target


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def step_name(step: int) -> str:
    """The name of the checkpoint and of the picture of a step."""
    return f"step-{step:07d}"


def open_run(folder: Path) -> tuple[Path, Checkpoint]:
    """A run's folder and its newest whole checkpoint, or the checkpoint whose own folder this is.

    Raises:
        CheckpointError: not a run folder, or no whole checkpoint in it yet.
    """
    if (folder / STATE).is_file():
        return folder.parent.parent, _load(folder)
    if not (folder / TRAINING).is_file():
        raise CheckpointError(f"{folder} is not a run folder: it has no {TRAINING}")
    checkpoint = load_newest(folder)
    if checkpoint is None:
        raise CheckpointError(f"{folder} has no checkpoint yet: let it train to the first one")
    return folder, checkpoint


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a run; None if it has none yet. A damaged one is reported and passed over.

    Raises:
        CheckpointError: there are checkpoints and every one is damaged.
    """
    problems = []
    for path in _checkpoints(folder):
        try:
            return _load(path)
        except CheckpointError as error:
            problems.append(str(error))
            logger.warning("%s; trying the one before it", error)
    if problems:
        raise CheckpointError(
            f"no checkpoint of {folder} is whole: {'; '.join(problems)}. Start a new run with another --out"
        )
    return None


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    paths = [path for path in (folder / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d{7,15}", path.name)]
    return sorted(paths, key=lambda path: int(path.name[5:]), reverse=True)


def _load(path: Path) -> Checkpoint:
    try:
        _check_regular(path / STATE)
        state = read_json(path / STATE)
        if not isinstance(state, dict) or type(state["step"]) is not int or state["step"] < 0:
            raise CheckpointError(f"checkpoint {path} is damaged: {STATE} names no step")
        if "digest" in state and state.pop("digest") != _digest(state):  # the first version wrote none
            raise CheckpointError(f"checkpoint {path} is damaged: {STATE} differs from its own digest")
        if state["format"] != FORMAT:
            raise CheckpointError(f"checkpoint {path} has format {state['format']}, this ganzoo reads {FORMAT}")
        for name, facts in state["files"].items():
            size = (path / name).stat().st_size
            if size != facts["size"]:
                raise CheckpointError(f"checkpoint {path} is damaged: {name} has {size} of {facts['size']} bytes")
            if file_hash(path / name) != facts["sha256"]:
                raise CheckpointError(f"checkpoint {path} is damaged: the bytes of {name} differ from its hash")
        if not isinstance(state["seconds"], int | float) or not 0 <= state["seconds"] < math.inf:
            raise CheckpointError(f"checkpoint {path} is damaged: {STATE} has no time of training")
        check_networks({key: value for key, value in state["model"].items() if value is not None}, str(path / STATE))
        return Checkpoint(path, state["step"], load_file(path / TENSORS), state)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError, WeightsError) as error:
        if isinstance(error, ConfigError):
            raise
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error


def append_metrics(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to metrics.jsonl.

    Raises:
        CheckpointError: it cannot be written.
    """
    _check_regular(folder / METRICS)
    with _writing(folder / METRICS), open(folder / METRICS, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _check_regular(path: Path) -> None:
    """Refuse what is there but is no file: reading a pipe would never end.

    Raises:
        CheckpointError: it is a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is no regular file: remove it, or move it away")


def cut_metrics(folder: Path, step: int) -> None:
    """Delete the lines of metrics.jsonl after `step`, and an incomplete last line.

    Raises:
        CheckpointError: it cannot be written.
    """
    path = folder / METRICS
    if not path.exists():
        return
    _check_regular(path)
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = parse_json(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int) and entry["step"] <= step:
            lines.append(line + "\n")
    with _writing(path):
        write_text(path, "".join(lines))


def save_picture(folder: Path, step: int, picture: Image.Image) -> Path:
    """Write the sample grid of a step, and return its file.

    Raises:
        CheckpointError: it cannot be written.
    """
    path = folder / "samples" / f"{step_name(step)}.png"
    with _writing(path):
        path.parent.mkdir(exist_ok=True)  # someone may have cleared the samples away
        save(picture, path)
    return path
