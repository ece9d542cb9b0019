"""What a run folder tells, read so that a damaged or hostile folder costs no more than what is damaged in it."""

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from ganzoo.errors import CheckpointError, GanzooError
from ganzoo.files import parse_json, read_json
from ganzoo.store.runs import METRICS, TRAINING
from ganzoo.zoo.config import TrainConfig

POINTS = 1000
"""Points of a curve. Of longer logs, neighbouring lines are averaged."""
CURVES = 64
"""Values of a log line that are drawn."""
LONGEST_LINE = 1 << 16
"""Characters of a log line that is read; a typical one has 300."""


@dataclass(frozen=True)
class Record:
    """What is known of a run.

    Attributes:
        folder: its folder.
        config: its settings; empty if they cannot be read.
        recipe: the settings that its recipe would have; empty if it is not known here.
        facts: what else training.json holds, such as versions and hardware.
        steps: the steps of the log's lines, ascending, averaged to at most `POINTS`.
        curves: the logged values by name, one for each of `steps`; None where a line lacks it, or it is not finite.
        last: the last line.
        warnings: the step and the text of each warning.
        pictures: the step and the file of each picture, ascending.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    warnings: list[tuple[int, str]] = field(default_factory=list)
    pictures: list[tuple[int, Path]] = field(default_factory=list)


def read_record(folder: Path) -> Record:
    """Read a run folder. What is missing or damaged is left out.

    Raises:
        CheckpointError: this is no run folder.
    """
    if not (folder / TRAINING).is_file():
        raise CheckpointError(f"{folder} is not a run folder: it has no {TRAINING}")
    content = _settings(folder / TRAINING)
    config = content.pop("config", None)
    config = config if isinstance(config, dict) else {}
    lines, warnings = _read_lines(folder / METRICS)
    steps, curves = _average(lines)
    return Record(
        folder, config, _recipe_of(config), content, steps, curves, lines[-1] if lines else {}, warnings,
        _pictures(folder / "samples"),
    )  # fmt: skip


def _settings(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _recipe_of(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of the recipe by that name; empty if the architecture is not installed, or has it no longer."""
    try:
        return TrainConfig(config["architecture"], recipe=config["recipe"]).to_dict()
    except (GanzooError, KeyError, TypeError):
        return {}


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """The log's lines with ascending steps, as numbers by name, and the warnings in them."""
    lines: list[dict[str, Any]] = []
    warnings: list[tuple[int, str]] = []
    if not path.is_file():  # a pipe would never end
        return lines, warnings
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            while text := file.readline(LONGEST_LINE):
                try:
                    entry = parse_json(text)
                except ValueError:
                    continue
                step = _number(entry.get("step")) if isinstance(entry, dict) else None
                if step is None or (lines and step <= lines[-1]["step"]):
                    continue
                texts = entry.get("warnings")
                warnings += [(int(step), str(each)) for each in texts] if isinstance(texts, list) else []
                lines.append({name: _number(value) for name, value in entry.items()} | {"step": step})
    except OSError:
        pass
    return lines, warnings


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return None
    return float(value) if fine else None


def _average(lines: list[dict[str, Any]]) -> tuple[list[float], dict[str, list[float | None]]]:
    """Curves of at most `POINTS` points, each the mean of as many lines."""
    names = list(dict.fromkeys(name for line in lines for name, value in line.items() if value is not None))[:CURVES]
    count = min(POINTS, len(lines))
    edges = [i * len(lines) // count for i in range(count + 1)] if count else []
    parts = [lines[a:b] for a, b in pairwise(edges)]
    curves: dict[str, list[float | None]] = {}
    for name in names:
        columns = [[line[name] for line in part if line.get(name) is not None] for part in parts]
        curves[name] = [math.fsum(column) / len(column) if column else None for column in columns]
    return [float(step or 0) for step in curves.pop("step", [])], curves


def _pictures(folder: Path) -> list[tuple[int, Path]]:
    """The regular files step-N.png of a folder."""
    found = []
    try:
        for path in folder.iterdir():
            match = re.fullmatch(r"step-(\d{1,15})\.png", path.name)
            if match and path.is_file() and not path.is_symlink():
                found.append((int(match[1]), path))
    except OSError:
        return []
    return sorted(found)
