"""The failure of a check: a CheckError that says what is wrong and how to fix it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ganzoo.errors import CheckError


def require(condition: Any, message: str) -> None:
    """Raise a CheckError with this message unless the condition is true."""
    if not condition:
        raise CheckError(message)


@contextlib.contextmanager
def explaining(what: str) -> Iterator[None]:
    """Turn any error in the block into a CheckError that begins with `what`: a plugin's code may raise anything."""
    try:
        yield
    except CheckError:
        raise
    except Exception as error:
        raise CheckError(f"{what}: {type(error).__name__}: {error}") from error
