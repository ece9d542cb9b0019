"""From encoded images (a folder, a zip, a data set of the Hub) to pixels, decoded once and kept in a cache on disk.

The cache is `images/<hash>/` under `$GANZOO_CACHE`, `$XDG_CACHE_HOME/ganzoo` or `~/.cache/ganzoo`: `items.npy`, uint8
(N, C, H, W), which training maps into memory, and `index.json`, which says what it was made from, which images were
skipped, and the CRC-32 of the pixels. The hash is of size, channels and every file's name, length and time (in a zip:
CRC-32), so that changed images are other images.
"""

import contextlib
import hashlib
import io
import json
import logging
import math
import mmap
import os
import re
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganzoo.decode import SMALL, UNREADABLE, Labels, Pixels, Source, decode_all, few
from ganzoo.errors import ConfigError, DataError

logger = logging.getLogger("ganzoo")

FORMAT = 1
"""Of the cache, and of how images are decoded: part of the hash."""
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jfif png bmp webp gif tif tiff ppm pgm pbm tga avif".split()  # noqa: SIM905
)
SPLITS = frozenset(("train", "test", "val", "valid", "validation"))
"""Folders that hold a part of a data set and not a class."""
DEFAULT_SIZE = 64
"""Pixels a side for images whose own size is larger or differs."""


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
        sizes, times = _facts([os.path.join(path, name) for name in names])
        read = lambda i: _read(os.path.join(path, names[i]))  # noqa: E731
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


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _facts(paths: list[str]) -> tuple[list[int], list[tuple[int, int]]]:
    """Sizes and times of files; zeros for one that is not there, which is told when it is read.

    Of the times, that of the last change of the inode too: unzipping sets the other, and two sets of uncompressed
    images can have the same names and sizes.
    """
    sizes, times = [], []
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            sizes.append(0)
            times.append((0, 0))
        else:
            sizes.append(found.st_size)
            times.append((found.st_mtime_ns, found.st_ctime_ns))
    return sizes, times


def open_hub(
    spec: str, split: str = "train", column: str | None = None, label: str | None = "", config: str | None = None
) -> Source:
    """The images of a Hugging Face data set, read by the `datasets` library, which runs no code of the data set's.

    Args:
        spec: `ORG/NAME`, `ORG/NAME@REVISION`, or a local folder, with a leading dot, slash or tilde.
        split: which part, such as "test" or "train[:1000]".
        column: the one with the images; None: the only one.
        label: the one with the classes; empty: the only ClassLabel, if there is one; None: no labels.
        config: which configuration, where the data set has several.

    Raises:
        DataError: `datasets` is missing, or the data set, its split or its columns are.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"hf:{spec} needs the datasets library: pip install 'ganzoo[datasets]' ({error})") from error

    name, revision = spec, None
    if spec.startswith((".", "~", os.sep)):
        name = str(Path(spec).expanduser())
        if not Path(name).is_dir():
            raise DataError(f"there is no folder {name} for hf:{spec}")
    else:
        name, at, revision = spec.partition("@")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or (at and not revision):
            raise DataError(f"hf:{spec} is not of the form hf:ORG/NAME[@REVISION] or hf:./folder")
        if Path(name).exists():  # which the library would take, in silence
            raise DataError(
                f"hf:{spec} is a folder here too: write hf:./{name} for it, or start elsewhere for the Hub's"
            )
    wanted = logger.isEnabledFor(logging.INFO) and sys.stderr.isatty()
    hide = not wanted and not datasets.are_progress_bars_disabled()
    if hide:
        datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(name, config, split=str(split), revision=revision or None, keep_in_memory=False)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError, LookupError) as error:
        cause = error.__cause__ or error
        advice = (
            "look at the name, the split (--set data.split=NAME) and the configuration (--set data.config=NAME)"
            if isinstance(error, (ValueError, LookupError)) or Path(name).is_dir()
            else "look at the name and the connection; a private data set needs `hf auth login` or HF_TOKEN"
        )
        told = f"{error}" if cause is error else f"{error} ({type(cause).__name__}: {cause})"
        raise DataError(f"hf:{spec} cannot be loaded: {told.strip()}: {advice}") from error
    finally:
        if hide:
            datasets.enable_progress_bars()

    def kinds(kind: type) -> list[str]:
        return [key for key, feature in found.features.items() if isinstance(feature, kind)]

    every = ", ".join(found.features)
    images, classes = kinds(datasets.Image), kinds(datasets.ClassLabel)
    if column is None:
        if len(images) != 1:
            raise DataError(
                f"hf:{spec} has {len(images)} columns of images, not one: choose it with --set data.column=NAME from "
                f"{', '.join(images)}"
                if images
                else f"hf:{spec} has no column of images: there is {every}"
            )
        column = images[0]
    elif column not in images:
        raise DataError(f"hf:{spec} has no column {column!r} of images: those are {', '.join(images) or 'none'}")
    if label == "":
        if len(classes) > 1:
            raise DataError(
                f"hf:{spec} has {len(classes)} columns of classes ({', '.join(classes)}): choose one with "
                f"--set data.label=NAME, or none with --set data.label=none"
            )
        label = classes[0] if classes else None
    elif label is not None and label not in found.features:
        raise DataError(f"hf:{spec} has no column {label!r}: there is {every}")
    if not len(found):
        raise DataError(f"hf:{spec} has no images in {split!r}: choose another --set data.split=NAME")

    raw = found.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def read(i: int) -> bytes:
        row = raw[i][column] or {"bytes": b"", "path": ""}
        content: bytes = row["bytes"] if row["bytes"] is not None else _read(row["path"] or "")
        return content

    files = [part["filename"] for part in found.cache_files]
    size = raw.data.nbytes
    if any(chunk.field("bytes").null_count for chunk in raw.data.column(column).chunks):  # paths instead, of a folder
        rows = (raw[i][column] for i in range(len(raw)))
        pictures = [row["path"] or "" for row in rows if row and row["bytes"] is None]
        size += sum(_facts(pictures)[0])
        files += pictures
    identity = [str(split), column, len(raw), files, _facts(files)]
    names = [f"row {i}" for i in range(len(raw))]
    numbers = None if label is None else _classes(found, label, label in classes, spec)
    return Source(f"hf:{spec}", names, read, size, identity, numbers)


def _classes(found: Any, label: str, numbered: bool, spec: str) -> Labels | None:
    """Class numbers from a column of the data set: a ClassLabel's own, else in the order of the sorted values."""
    values = found.select_columns([label]).to_dict()[label]
    if not all(isinstance(value, (str, int)) for value in values):
        raise DataError(f"the column {label!r} of hf:{spec} has other values than words or whole numbers")
    if not numbered:
        return np.unique(values, return_inverse=True)[1]
    if min(values) < 0:  # how the Hub hides the labels of a test split
        logger.warning("the labels of hf:%s are hidden: going on without labels", spec)
        return None
    return np.array(values)


def load(source: Source, image_size: int | None, channels: int | None) -> tuple[Pixels, Labels | None]:
    """All images as squares of one size (N, C, H, W), decoded now or taken from the cache, and their labels.

    Args:
        image_size: pixels a side; None: the images' common size up to 64, else 64.
        channels: 1 or 3; None: 1 if all are grey.

    Raises:
        DataError: more than 1 % of the images cannot be read; fewer are skipped and told.
        ConfigError: another number of channels.
    """
    if image_size is None or channels is None:
        size, bands = _peek(source)
        image_size, channels = image_size or size, channels or bands
    if channels not in (1, 3):
        raise ConfigError(f"images in {source.what} can be read with 1 or 3 channels, not {channels}")
    shape = (len(source.names), channels, image_size, image_size)
    if source.size < SMALL:
        items, skipped = _decode_into_memory(source, shape)
    else:
        try:
            items, skipped = _from_cache(source, shape)
        except OSError as error:
            logger.warning(
                "the images cannot be kept in %s (%s): decoding them into memory, now and at each start; "
                "GANZOO_CACHE=FOLDER names another place, which needs %d MB",
                _cache_folder(),
                error.strerror or error,
                -(-math.prod(shape) // 10**6),
            )
            items, skipped = _decode_into_memory(source, shape)
    if skipped:
        logger.warning("skipped %d of %d images that cannot be read: %s", len(skipped), len(source.names), few(skipped))
    labels = source.labels
    if skipped and labels is not None:
        labels = np.delete(labels, list(skipped))
    return items, labels


def _peek(source: Source) -> tuple[int, int]:
    """Size and channels for images of unstated ones, from up to 32 of them spread over all."""
    sizes, modes = set(), set()
    n = len(source.names)
    for i in range(0, n, -(-n // 32)):
        try:
            with Image.open(io.BytesIO(source.read(i))) as image:
                sizes |= set(image.size)
                modes.add(image.mode)
        except UNREADABLE:
            continue  # reported when it is decoded
    own = sizes.pop() if len(sizes) == 1 else DEFAULT_SIZE
    grey = bool(modes) and all(mode in ("1", "L", "LA") or mode.startswith("I") for mode in modes)
    return min(own, DEFAULT_SIZE), 1 if grey else 3


def _decode_into_memory(source: Source, shape: tuple[int, ...]) -> tuple[Pixels, dict[int, str]]:
    skipped: dict[int, str] = {}
    items, done = np.empty(shape, np.uint8), 0
    for block in decode_all(source, shape, skipped):
        items[done : done + len(block)] = block
        done += len(block)
    return items[:done], skipped


# The cache.


def _cache_folder() -> Path:
    if folder := os.environ.get("GANZOO_CACHE"):
        return Path(folder).expanduser() / "images"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ganzoo" / "images"
    except RuntimeError as error:
        raise DataError(f"no folder for the cache of images ({error}): name one with GANZOO_CACHE") from error


def _from_cache(source: Source, shape: tuple[int, ...]) -> tuple[Pixels, dict[int, str]]:
    """The images mapped from the cache, which is made first if it is not there. Raises OSError if it cannot be."""
    key = json.dumps([FORMAT, shape[1:], source.identity])
    folder = _cache_folder() / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    if cached := _open_cache(folder, shape):
        return cached
    with _alone(folder):
        if cached := _open_cache(folder, shape):  # another process made it while this one waited
            return cached
        if any(folder.iterdir()):
            logger.warning("the cache %s is half-written or damaged: making it again", folder)
            for leftover in folder.iterdir():
                leftover.unlink()
        logger.info("decoding %d images of %s into %s", len(source.names), source.what, folder)
        began = time.perf_counter()
        _make_cache(folder, source, shape)
        logger.info("decoded in %.1f s; the next start takes them from there", time.perf_counter() - began)
    cached = _open_cache(folder, shape)
    if cached is None:
        raise OSError("what was written reads back as something else")
    return cached


def _open_cache(folder: Path, shape: tuple[int, ...]) -> tuple[Pixels, dict[int, str]] | None:
    """Pixels and skipped images of a whole cache; None if it is not there or not whole."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        skipped = {int(i): str(message) for i, message in index["skipped"].items()}
        shape = (shape[0] - len(skipped), *shape[1:])
        with open(folder / "items.npy", "rb") as file:
            if sys.platform == "linux":
                # Private pages, so that items can be written to like any tensor. Linux refuses to promise more of them
                # than it has memory, and a large cache would not open: do not ask for the promise.
                flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)
                pages = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            else:
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        items: Pixels = np.ndarray(shape, np.uint8, pages, len(_header(shape)))
        return (items, skipped) if zlib.crc32(items.data) == index["crc32"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _make_cache(folder: Path, source: Source, shape: tuple[int, ...]) -> None:
    """Write the pixels, then what says that they are whole. Each is written beside and then put in place."""
    skipped: dict[int, str] = {}
    crc = 0
    with _put(folder / "items.npy") as file, contextlib.closing(decode_all(source, shape, skipped)) as blocks:
        file.write(_header(shape))
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, file.tell() + math.prod(shape))  # a full disk is told now
        for block in blocks:
            file.write(block.data)
            crc = zlib.crc32(block.data, crc)
        file.truncate()
        file.seek(0)
        file.write(_header((shape[0] - len(skipped), *shape[1:])))
    index = {"format": FORMAT, "source": source.what, "shape": shape, "skipped": skipped, "crc32": crc}
    with _put(folder / "index.json") as file:
        file.write(json.dumps(index, indent=1).encode())


def _header(shape: tuple[int, ...]) -> bytes:
    """What precedes the pixels in items.npy; of one length for any number of them."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@contextlib.contextmanager
def _put(path: Path) -> Iterator[io.BufferedWriter]:
    """A file that appears under its name when it is whole and on the disk."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from this folder; they wait. Where there is no flock, both write and the last one stays."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process is decoding the same images: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
