"""The options and the ways of printing that the commands share."""

import json
import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer

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


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def print_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows of cells in left-aligned columns."""
    table = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
