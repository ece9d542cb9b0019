"""How a check fails: with a CheckError that says what is wrong and what to change."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ganzoo.errors import CheckError


def require(condition: Any, message: str) -> None:
    """Raises a CheckError of this message unless the condition holds."""
    if not condition:
        raise CheckError(message)


@contextlib.contextmanager
def explaining(what: str) -> Iterator[None]:
    """Any error inside as a CheckError that begins with `what`: a plugin's code may raise anything."""
    try:
        yield
    except CheckError:
        raise
    except Exception as error:
        raise CheckError(f"{what}: {type(error).__name__}: {error}") from error
