"""Images or sounds in a folder or a zip."""

import logging
import os
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ganzoo.data.source import Source, check_size, file_facts, read_file
from ganzoo.errors import DataError

logger = logging.getLogger("ganzoo")

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jfif png bmp webp gif tif tiff ppm pgm pbm tga avif".split()  # noqa: SIM905
)
"""Of images."""
SOUND = ".wav"
SPLITS = frozenset(("train", "test", "val", "valid", "validation"))
"""Names of folders that hold a split of a data set and not a class."""
WHOLE = ""
"""The split of sides that are not split: A/ and B/, in place of trainA/, testA/ and so on."""


def open_path(path: Path, split: str | None = None, *, side: str = "", half: str = "") -> Source:
    """The images or sounds in a folder or a zip, sorted by name. Where they lie in several folders, each is a class.

    Args:
        path: the folder or zip.
        split: which folder of them to use, if they are sorted into train, test or the like; None: train.
        side: "A" or "B": only the images in the folder of that name, or in trainA, testB and the like; empty: all.
        half: "left" or "right": only that half of each image; empty: all of it.

    Raises:
        DataError: the path is neither a folder nor a zip, or has neither images nor sounds, or both, or no such split
            or side.
    """
    archive, names = listing(path)
    splits = _sides(path, names, side) if side else _splits(names)
    if split is not None and split not in splits:
        hint = f"its {_kind(names[0])} are not sorted into train, test, ..."
        if splits.keys() - {WHOLE}:
            hint = f"choose from {', '.join(sorted(splits))}"
        raise DataError(f"{path} has no split {split!r}: {hint}")
    if splits:
        name = split or ("train" if "train" in splits else min(splits))
        names, others = splits[name], " or ".join(sorted(splits.keys() - {name}))
        if others:
            what = f"{len(names)} {_kind(names[0])} in {name}{side}/ of {path}"
            logger.info("using the %s, not %s (--set data.split)", what, others)
    read: Callable[[int], bytes]
    if archive:
        members = [archive.getinfo(name) for name in names]
        sizes = [member.file_size for member in members]
        read = partial(_read_member, archive, members)
        identity = [names, sizes, [member.CRC for member in members]]
    else:
        sizes, times = file_facts([os.path.join(path, name) for name in names])
        read = lambda i: read_file(os.path.join(path, names[i]))  # noqa: E731
        identity = [names, sizes, times]
    folders = [os.path.dirname(name) for name in names]
    classes = sorted(set(folders))
    if len(classes) == 1:
        return Source(str(path), names, read, sum(sizes), identity, None, half=half)
    numbers = {folder: i for i, folder in enumerate(classes)}
    labels = np.array([numbers[folder] for folder in folders])
    return Source(str(path), names, read, sum(sizes), identity, labels, _class_names(classes), half)


def _read_member(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], i: int) -> bytes:
    check_size(members[i].file_size)
    return archive.read(members[i])


def _class_names(folders: list[str]) -> list[str]:
    """A name for the class in each folder: the folder's own, or where two share one, the path below what all share."""
    parts = [re.split(r"[/\\]", folder) for folder in folders]
    own = [names[-1] or "." for names in parts]
    if len(set(own)) == len(own):
        return own
    shared = next((i for i, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1), min(map(len, parts)))
    return ["/".join(names[shared:]) or "." for names in parts]


def holds_sounds(path: Path) -> bool:
    """Whether a folder or a zip holds sounds, and not images.

    Raises:
        DataError: as `open_path`.
    """
    return _kind(listing(path)[1][0]) == "sounds"


def _kind(name: str) -> str:
    """What files whose names end as this one does are called in messages."""
    return "sounds" if os.path.splitext(name)[1].lower() == SOUND else "images"


def has_split(path: Path, split: str, side: str = "") -> bool:
    """Whether `open_path` knows that split.

    Raises:
        DataError: the path is neither a folder nor a zip, or has neither images nor sounds, or both, or no such side.
    """
    _, names = listing(path)
    return split in (_sides(path, names, side) if side else _splits(names))


def listing(path: Path) -> tuple[zipfile.ZipFile | None, list[str]]:
    """The zip, or None for a folder, and the sorted names of the images or the sounds."""
    hidden = re.compile(r"(^|[/\\])(\.|__MACOSX)")

    def is_wanted(name: str) -> bool:
        return os.path.splitext(name)[1].lower() in {*SUFFIXES, SOUND} and not hidden.search(name)

    archive = None
    if not path.is_dir():
        try:
            if path.exists() and not path.is_file():
                raise OSError("it is no regular file")
            archive = zipfile.ZipFile(path)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is neither a folder nor a zip that can be read: {error}") from error
    prefix = len(os.path.join(path, ""))
    files = (
        archive.namelist()
        if archive
        else (os.path.join(folder, file)[prefix:] for folder, _, files in os.walk(path) for file in files)
    )
    names = sorted(filter(is_wanted, files))
    if not names:
        raise DataError(
            f"there are no images in {path}: their names must end in {', '.join(sorted(SUFFIXES))}, those of sounds in "
            f"{SOUND}"
        )
    if (sounds := sum(_kind(name) == "sounds" for name in names)) not in (0, len(names)):
        raise DataError(
            f"{path} holds {len(names) - sounds} images and {sounds} sounds ({SOUND}): give them folders of their own"
        )
    return archive, names


def _splits(names: list[str]) -> dict[str, list[str]]:
    """The names of the files in each split; empty if they are not sorted into splits.

    They are if every one lies in a folder called train, test or the like, below the folders that all names share.
    """
    parts = [re.split(r"[/\\]", name)[:-1] for name in names]
    shared = next((i for i, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1), 0)
    splits: dict[str, list[str]] = {}
    for name, folders in zip(names, parts, strict=True):
        splits.setdefault("".join(folders[shared : shared + 1]).lower(), []).append(name)
    return splits if "train" in splits and len(splits) > 1 and SPLITS.issuperset(splits) else {}


def _sides(path: Path, names: list[str], side: str) -> dict[str, list[str]]:
    """The names of the images of one side by split, where they lie in A/ and B/ or in trainA/, trainB/, testA/ and the
    like, as CycleGAN's data sets come.

    Raises:
        DataError: there is no such folder.
    """
    splits: dict[str, list[str]] = {}
    for name in names:
        for folder in re.split(r"[/\\]", name)[:-1]:
            split = folder[:-1].lower()
            if folder[-1:] == side and (split == WHOLE or split in SPLITS):
                splits.setdefault(split, []).append(name)
                break
    if not splits:
        raise DataError(f"{path} has no images in a folder {side} or train{side}, which --inputs A or B look for")
    return splits
