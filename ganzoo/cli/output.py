"""The options and the ways of printing that the commands share."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ganzoo.errors import SampleError
from ganzoo.files import reason

FIRST = os.environ.get("RANK", "0") == "0"
"""Whether this is the first of the processes that torchrun started, which is the one that prints."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only names or paths.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="A run or model folder, hf-hub:ORG/NAME\\[@REVISION], or a pretrained name."),
]
HELP = {"help_option_names": ["-h", "--help"]}


def one_line(text: str) -> str:
    """Text without line breaks and control characters, which a message may quote from a file of someone else."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


@contextlib.contextmanager
def writing(target: str, suffix: str) -> Iterator[Path]:
    """The path to write an output to, in a folder that exists. It is printed at the end. For "-" it is a temporary file
    of that suffix, whose content goes to standard output.

    Raises:
        SampleError: it cannot be written, or standard output is a terminal.
    """
    path = Path(target)
    if target == "-":
        if sys.stdout.isatty():
            raise SampleError("standard output is a terminal: redirect it, as in `-o - > grid.png`")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"output{suffix}"
            yield path
            sys.stdout.buffer.write(path.read_bytes())
        return
    fresh = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        if fresh and path.is_dir():
            with contextlib.suppress(OSError):  # it is not empty
                path.rmdir()
        raise SampleError(f"{path} cannot be written: {reason(error)}") from error
    print(path)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def print_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows of cells in left-aligned columns."""
    table = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
