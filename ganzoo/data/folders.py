"""The images of a folder or a zip."""

import logging
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ganzoo.data.source import Source, file_facts, read_file
from ganzoo.errors import DataError

logger = logging.getLogger("ganzoo")

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jfif png bmp webp gif tif tiff ppm pgm pbm tga avif".split()  # noqa: SIM905
)
SPLITS = frozenset(("train", "test", "val", "valid", "validation"))
"""Folders that hold a part of a data set and not a class."""


def open_path(path: Path, split: str | None = None) -> Source:
    """The images below a folder or in a zip, sorted by name, with a class number a subfolder if there are several.

    Args:
        path: the folder or zip.
        split: where all images lie in folders called train, test or the like, which of them; None: train.

    Raises:
        DataError: neither a folder nor a zip, no images in it, or no such split.
    """
    archive, names = _listing(path)
    splits = _splits(names)
    if split is not None and split not in splits:
        there = f"there is {', '.join(sorted(splits))}" if splits else "its images are not sorted into train, test, ..."
        raise DataError(f"{path} has no split {split!r}: {there}")
    if splits:
        taken = split or "train"
        names, others = splits[taken], " or ".join(sorted(splits.keys() - {taken}))
        logger.info("taking the %d images in %s/ of %s, not %s (--set data.split)", len(names), taken, path, others)
    read: Callable[[int], bytes]
    if archive:
        members = [archive.getinfo(name) for name in names]
        sizes = [member.file_size for member in members]
        read = lambda i: archive.read(names[i])  # noqa: E731
        identity = [names, sizes, [member.CRC for member in members]]
    else:
        sizes, times = file_facts([os.path.join(path, name) for name in names])
        read = lambda i: read_file(os.path.join(path, names[i]))  # noqa: E731
        identity = [names, sizes, times]
    folders = [os.path.dirname(name) for name in names]
    classes = {folder: i for i, folder in enumerate(sorted(set(folders)))}
    labels = np.array([classes[folder] for folder in folders]) if len(classes) > 1 else None
    return Source(str(path), names, read, sum(sizes), identity, labels)


def has_split(path: Path, split: str) -> bool:
    """Whether `open_path` can be asked for that split.

    Raises:
        DataError: neither a folder nor a zip, or no images in it.
    """
    return split in _splits(_listing(path)[1])


def _listing(path: Path) -> tuple[zipfile.ZipFile | None, list[str]]:
    """The zip, if it is one, and the names of the images, sorted."""
    hidden = re.compile(r"(^|[/\\])(\.|__MACOSX)")

    def wanted(name: str) -> bool:
        return os.path.splitext(name)[1].lower() in SUFFIXES and not hidden.search(name)

    archive = None
    if not path.is_dir():
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is neither a folder nor a zip that can be read: {error}") from error
    below = len(os.path.join(path, ""))
    found = (
        archive.namelist()
        if archive
        else (os.path.join(folder, file)[below:] for folder, _, files in os.walk(path) for file in files)
    )
    names = sorted(filter(wanted, found))
    if not names:
        raise DataError(f"no images in {path}: looked for {', '.join(sorted(SUFFIXES))}")
    return archive, names


def _splits(names: list[str]) -> dict[str, list[str]]:
    """The images of each split, if, below the folders that hold them all, every one is in a train, test or the like."""
    parts = [re.split(r"[/\\]", name)[:-1] for name in names]
    shared = next((i for i, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1), 0)
    found: dict[str, list[str]] = {}
    for name, folders in zip(names, parts, strict=True):
        found.setdefault("".join(folders[shared : shared + 1]).lower(), []).append(name)
    return found if "train" in found and len(found) > 1 and SPLITS.issuperset(found) else {}
