"""Encoded images or sounds, wherever they come from."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Encoded images or sounds in a fixed order.

    Attributes:
        what: the source's name in messages.
        names: a name for each of them, for messages.
        read: the encoded bytes of the i-th; callable from any thread.
        size: the sum of their lengths in bytes.
        identity: a JSON value that changes whenever any of them does.
        labels: class numbers (N,), if there are any.
        classes: the names of the classes, by number, if they have any.
        half: "left" or "right" if that half of each image is one, as in pictures of a pair side by side; else empty.
    """

    what: str
    names: list[str]
    read: Callable[[int], bytes]
    size: int
    identity: Any
    labels: Labels | None
    classes: list[str] | None = None
    half: str = ""

    def take(self, indices: list[int]) -> "Source":
        """Some of the images, in this order."""
        return replace(
            self,
            names=[self.names[i] for i in indices],
            read=lambda i: self.read(indices[i]),
            identity=[self.identity, indices],
            labels=None if self.labels is None else self.labels[indices],
        )


LARGEST = 1 << 30
"""Bytes of an encoded image that is read. Uncompressed, an image of so many bytes has 300 million pixels in colour."""


def read_file(path: str) -> bytes:
    """The bytes of a regular file, possibly behind links: a device or a pipe could go on for ever.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than `LARGEST`.
    """
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise OSError("it is no regular file")
    check_size(facts.st_size)
    with open(path, "rb") as file:
        return file.read()


def check_size(size: int) -> None:
    """Check the length of an encoded image, in bytes.

    Raises:
        OSError: it is larger than `LARGEST`.
    """
    if size > LARGEST:
        raise OSError(f"it has {size:,} bytes, more than any image needs ({LARGEST:,})")


def file_facts(paths: list[str]) -> tuple[list[int], list[tuple[int, int]]]:
    """Sizes and times of files. They are 0 for a missing file, which raises the error when it is read.

    The times include that of the last change of the inode, because unzipping restores the modification time and two
    sets of uncompressed images can agree in all names and sizes.
    """
    sizes, times = [], []
    for path in paths:
        try:
            facts = os.stat(path)
        except OSError:
            sizes.append(0)
            times.append((0, 0))
        else:
            sizes.append(facts.st_size)
            times.append((facts.st_mtime_ns, facts.st_ctime_ns))
    return sizes, times
