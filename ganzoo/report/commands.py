"""What one may do with a run next, as commands."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.data.inputs import is_made
from ganzoo.errors import GanzooError
from ganzoo.report.record import Record
from ganzoo.zoo.command import train_command


def commands(record: Record) -> list[tuple[str, str]]:
    """What each command does, and the command: make the run again, continue it, and use what it has learned."""
    settings = record.config
    architecture, folder = str(settings.get("architecture", "ARCH")), shlex.quote(str(record.folder))
    measure = f"ganzoo eval {as_source(record.folder)} --data {shlex.quote(str(settings.get('data', 'DATA')))}"
    if settings.get("inputs") is not None:
        measure += f" --inputs {shlex.quote(str(settings['inputs']))}"
    listed = [
        ("Continue it", f"ganzoo train {shlex.quote(architecture)} --resume --out {folder}"),
        ("Draw samples", sample_command(record.folder, settings)),
        ("Measure it", measure),
        ("Publish it", f"ganzoo push {as_source(record.folder)} ORG/NAME"),
    ]
    try:
        again = train_command(settings)
    except (GanzooError, KeyError, TypeError, AttributeError, ValueError):  # of settings that are not a run's
        return listed
    return [("Make it again", again), *listed]


def sample_command(folder: Path, settings: Mapping[str, Any]) -> str:
    """The command that draws samples of a run with these settings, or translates the pictures it was trained on."""
    command, spec = f"ganzoo sample {as_source(folder)}", settings.get("inputs")
    if spec is None:
        return f"{command} -n 64 --seed 1"
    made = is_made(str(spec))
    pictures = str(settings.get("data") if made else spec)
    words = ["--inputs", pictures if Path(pictures).exists() else "photos/", *(["--make", str(spec)] if made else [])]
    return f"{command} {shlex.join(words)}"


def as_source(folder: Path) -> str:
    """The folder as a SOURCE, quoted: a word alone would be a pretrained name."""
    name = str(folder)
    return shlex.quote(name if os.sep in name or name.startswith(".") else f".{os.sep}{name}")
