"""The names of classes, and finding a class by its name or number."""

import json
from collections.abc import Sequence
from typing import Any

from torch import nn

from ganzoo.errors import SampleError, did_you_mean

LONGEST_NAME = 256
"""Characters of a name."""
LONGEST_LIST = 1 << 19
"""Bytes of all names of a generator as JSON, so that they fit into its config.json."""


def class_names(g: nn.Module) -> list[str] | None:
    """The names of a generator's classes, in the order of their numbers; None where it has none."""
    names: list[str] | None = getattr(g, "class_names", None)
    return names


def name_classes(g: nn.Module, names: Sequence[str] | None) -> None:
    """Give a generator the names of its classes, as its attribute `class_names`. Its `config` holds only what it is
    built from, so they are not there."""
    g.class_names = None if names is None else list(names)  # type: ignore[assignment]


def name_fault(names: Sequence[Any]) -> str:
    """What is wrong with these names of classes; empty if they are distinct, printable and not too long."""
    known = set()
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
            return f"the name of class {number} is not a string of 1 to {LONGEST_NAME} printable characters"
        if name in known:
            return f"two classes are called {name!r}"
        known.add(name)
    too_long = len(json.dumps(list(names))) > LONGEST_LIST
    return f"all names together are longer than {LONGEST_LIST:,} bytes" if too_long else ""


def find_class(text: str, names: Sequence[str] | None, count: int) -> int:
    """The number of the class of that name, or else of that number.

    Args:
        text: a name or a number.
        names: the names of the classes, if they have any.
        count: the number of classes.

    Raises:
        SampleError: the text is neither the name nor the number of a class.
    """
    number = _named(text, names)
    if number is not None:
        return number
    try:
        number = int(text)
    except ValueError as error:
        hint = did_you_mean(text.strip(), names) if names else f"they have no names, only numbers: 0 to {count - 1}"
        raise SampleError(f"none of this generator's {count} classes is called {text!r}: {hint}") from error
    check_number(number, count)
    return number


def check_number(number: int, count: int) -> None:
    """Check the number of a class.

    Raises:
        SampleError: it is not one from 0 to count - 1.
    """
    if not 0 <= number < count:
        raise SampleError(f"there is no class {number}: this generator has the classes 0 to {count - 1}")


def parse_classes(text: str, names: Sequence[str] | None, count: int) -> list[int]:
    """The numbers of classes that are separated by commas. A name that holds commas itself is taken whole.

    The arguments and errors are those of `find_class`.
    """
    parts, numbers = text.split(","), []
    while parts:
        lengths = range(len(parts), 1, -1)
        length = next((n for n in lengths if _named(",".join(parts[:n]), names) is not None), 1)
        numbers.append(find_class(",".join(parts[:length]), names, count))
        parts = parts[length:]
    return numbers


def _named(text: str, names: Sequence[str] | None) -> int | None:
    for spelling in (text, text.strip()):
        if names is not None and spelling in names:
            return names.index(spelling)
    return None
