"""The run folder: its creation, atomic checkpoints, and what is read back from it. Only safetensors and JSON."""

import contextlib
import hashlib
import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganzoo.config import TrainConfig
from ganzoo.errors import CheckpointError, ConfigError

logger = logging.getLogger("ganzoo")

RUNS = Path("runs")
FORMAT = 1
STATE = "state.json"
KEEP = 2
"""Whole checkpoints kept in a run folder."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: `tensors` by "part.name", and `state`, what JSON can hold."""

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
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckpointError(f"{what} cannot be written: {reason}. What was there before is untouched") from error


def _write_durably(path: Path, text: str) -> None:
    """Write beside, fsync, rename: `path` is the old text or the new, never half of it."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Safetensors, readable for whom the folder is: the library makes files that are their owner's alone."""
    save_file(dict(tensors), path)
    path.chmod(path.parent.stat().st_mode & 0o666)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def data_slug(spec: str) -> str:
    """A data spec as a word for names."""
    return re.sub(r"[^a-z0-9_]+", "_", Path(spec).stem.lower()).strip("_") or "data"


def create_run(config: TrainConfig, facts: Mapping[str, Any]) -> Path:
    """Make the run folder with its training.json, both or neither.

    Args:
        config: its `out`, else the next free number under runs/.
        facts: more to record in training.json.

    Raises:
        CheckpointError: the folder exists and is not empty, or cannot be made.
    """
    if config.out is not None:
        folder = Path(config.out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(
                f"{folder} exists already: choose another --out, or add --resume to go on with that run"
            )
    else:
        name = f"{config.architecture}-{data_slug(config.data)}"
        taken = [
            int(path.name[len(name) + 1 :]) for path in RUNS.glob(f"{name}-*") if path.name[len(name) + 1 :].isdigit()
        ]
        folder = RUNS / f"{name}-{max(taken, default=0) + 1:03d}"
    with _writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        beside.mkdir()
        try:
            _write_durably(beside / "training.json", _training_json(config, facts))
            (beside / "samples").mkdir()
            (beside / "checkpoints").mkdir()
            os.rename(beside, folder)
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)
            if config.out is None and folder.exists():  # another process took the number
                return create_run(config, facts)
            raise
    return folder


def rewrite_config(folder: Path, config: TrainConfig, facts: Mapping[str, Any]) -> None:
    """Replace the training.json of a run that goes on.

    Raises:
        CheckpointError: it cannot be written.
    """
    with _writing(folder / "training.json"):
        _write_durably(folder / "training.json", _training_json(config, facts))


def _training_json(config: TrainConfig, facts: Mapping[str, Any]) -> str:
    stored = config.to_dict()
    del stored["out"]  # the folder may move
    versions = {"python": platform.python_version(), "torch": torch.__version__, "ganzoo": version("ganzoo")}
    return json.dumps({"config": stored, "versions": versions, **facts}, indent=2) + "\n"


def read_training(folder: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration of a run, and all that its training.json holds.

    Raises:
        CheckpointError: no run folder, or a training.json that is damaged.
    """
    path = folder / "training.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        config = TrainConfig.from_dict({**stored["config"], "out": str(folder)})
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a run folder: it has no training.json") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or from another version of ganzoo: {error}") from error
    return config, stored


def newest_run(architecture: str) -> Path:
    """The run of `architecture` under runs/ that was written to last.

    Raises:
        CheckpointError: there is none.
    """
    found = [path.parent for path in RUNS.glob(f"{architecture}-*/training.json")]
    if not found:
        raise CheckpointError(f"no run of {architecture} under {RUNS}/ to resume: name its folder with --out")
    return max(found, key=lambda folder: max(path.stat().st_mtime for path in [folder, *folder.iterdir()]))


def save(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], best: int | None = None
) -> Path:
    """Write checkpoints/step-NNNNNNN so that it appears whole or not at all, then drop all but the newest `KEEP` and
    that of the step `best`.

    Raises:
        CheckpointError: disk full, read-only, ...; the checkpoints before it are untouched.
    """
    target = folder / "checkpoints" / f"step-{step:07d}"
    beside = target.with_name(f".{target.name}.tmp")
    # Clones: safetensors wants contiguous tensors that share no memory.
    plain = {key: t.detach().cpu().clone(memory_format=torch.contiguous_format) for key, t in tensors.items()}
    with _writing(target):
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            data = beside / "state.safetensors"
            write_tensors(plain, data)
            _fsync(data)
            files = {data.name: {"size": data.stat().st_size, "sha256": _sha256(data)}}
            _write_durably(beside / STATE, json.dumps({"format": FORMAT, "step": step, "files": files, **state}))
            _fsync(beside)
            if target.exists():  # a damaged one that was trained past again
                shutil.rmtree(target)
            os.rename(beside, target)
            _fsync(target.parent)
        except (OSError, SafetensorError):
            shutil.rmtree(beside, ignore_errors=True)
            raise
    for old in _checkpoints(folder)[KEEP:]:
        if best is not None and old.name == f"step-{best:07d}":
            continue
        shutil.rmtree(old, ignore_errors=True)
    return target


def open_run(folder: Path) -> tuple[Path, Checkpoint]:
    """A run's folder and its newest whole checkpoint, or the checkpoint whose own folder this is.

    Raises:
        CheckpointError: no run there, or no whole checkpoint in it yet.
    """
    if (folder / STATE).is_file():
        return folder.parent.parent, _load(folder)
    read_training(folder)
    checkpoint = load_newest(folder)
    if checkpoint is None:
        raise CheckpointError(f"{folder} has no checkpoint yet: let it train to the first one")
    return folder, checkpoint


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a run; None if it has none yet.

    A damaged one is told and passed over for the one before it.

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
            f"no checkpoint of {folder} is whole: {'; '.join(problems)}. Train anew into another --out"
        )
    return None


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted((folder / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]), reverse=True)


def _load(path: Path) -> Checkpoint:
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise CheckpointError(f"checkpoint {path} has format {state['format']}, this ganzoo reads {FORMAT}")
        for name, facts in state["files"].items():
            size = (path / name).stat().st_size
            if size != facts["size"]:
                raise CheckpointError(f"checkpoint {path} is damaged: {name} has {size} of {facts['size']} bytes")
            if _sha256(path / name) != facts["sha256"]:
                raise CheckpointError(f"checkpoint {path} is damaged: the bytes of {name} differ from its hash")
        return Checkpoint(path, state["step"], load_file(path / "state.safetensors"), state)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        if isinstance(error, ConfigError):
            raise
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_metrics(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to metrics.jsonl.

    Raises:
        CheckpointError: it cannot be written.
    """
    with _writing(folder / "metrics.jsonl"), open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a sample grid.

    Raises:
        CheckpointError: it cannot be written.
    """
    with _writing(path):
        picture.save(path)


def cut_metrics(folder: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl past `step`, and a last line that was cut short.

    Raises:
        CheckpointError: it cannot be written.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["step"] <= step:
            kept.append(line + "\n")
    with _writing(path):
        _write_durably(path, "".join(kept))
