"""The pixels of encoded images (a folder, a zip, a data set of the Hub), decoded once and kept in a cache on disk.

The cache is `images/<hash>/` under `$GANZOO_CACHE`, `$XDG_CACHE_HOME/ganzoo` or `~/.cache/ganzoo`: `items.npy`, uint8
(N, C, H, W), which training maps into memory, and `index.json` with the name of the source, the images that were
skipped, and the CRC-32 of the pixels. The hash covers the image size, the channels and every file's name, length and
time (in a zip, its CRC-32), so that images which change get a new folder.
"""

import contextlib
import hashlib
import io
import json
import logging
import math
import mmap
import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ganzoo.data.decode import SMALL, UNREADABLE, Pixels, decode_all, summarise
from ganzoo.data.source import Source
from ganzoo.errors import ConfigError, DataError
from ganzoo.files import cache_folder, replacing

logger = logging.getLogger("ganzoo")

FORMAT = 1
"""The version of the cache and of the decoding. It is part of the hash."""
DEFAULT_SIZE = 64
"""Height and width, in pixels, for images that are larger or of different sizes."""


def load_images(source: Source, image_size: int | None, channels: int | None) -> tuple[Pixels, list[int]]:
    """Load all images as squares of one size, from the cache if they are in it.

    Args:
        source: the encoded images.
        image_size: height and width in pixels; None: the images' common size, but at most 64, or 64 without one.
        channels: 1 or 3; None: 1 if all images are grey, else 3.

    Returns:
        uint8 pixels (N, C, H, W), and the indices of the images that cannot be read, which are skipped with a warning.

    Raises:
        DataError: more than 1 % of the images cannot be read.
        ConfigError: the number of channels is neither 1 nor 3.
    """
    if image_size is None or channels is None:
        own_size, own_channels = _guess_shape(source)
        image_size, channels = image_size or own_size, channels or own_channels
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
                "the images cannot be cached in %s (%s), so they are decoded into memory, now and at each start: "
                "set GANZOO_CACHE to a folder with %d MB of free space",
                _images_folder(),
                error.strerror or error,
                -(-math.prod(shape) // 10**6),
            )
            items, skipped = _decode_into_memory(source, shape)
    if skipped:
        messages = summarise(skipped)
        logger.warning("skipped %d of %d images that cannot be read: %s", len(skipped), len(source.names), messages)
    return items, sorted(skipped)


def _guess_shape(source: Source) -> tuple[int, int]:
    """The default size and number of channels, from up to 32 images spread over all of them."""
    sizes, modes = set(), set()
    n = len(source.names)
    for i in range(0, n, -(-n // 32)):
        try:
            with Image.open(io.BytesIO(source.read(i))) as image:
                sizes |= {image.width // 2, image.height} if source.half else set(image.size)
                modes.add(image.mode)
        except UNREADABLE:
            continue  # decoding reports it
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


def _images_folder() -> Path:
    try:
        return cache_folder() / "images"
    except RuntimeError as error:
        raise DataError(f"there is no folder for the cache of images ({error}): set GANZOO_CACHE to one") from error


def _from_cache(source: Source, shape: tuple[int, ...]) -> tuple[Pixels, dict[int, str]]:
    """The pixels in the cache, mapped into memory, and the skipped images. A missing cache is written first.

    Raises:
        OSError: it cannot be written.
    """
    key = json.dumps([FORMAT, shape[1:], source.identity, *([source.half] if source.half else [])])
    folder = _images_folder() / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    if cached := _open_cache(folder, shape):
        return cached
    with _locked(folder):
        if cached := _open_cache(folder, shape):  # another process wrote it while this one waited
            return cached
        if any(folder.iterdir()):
            logger.warning("the cache %s is incomplete or damaged: writing it again", folder)
            for leftover in folder.iterdir():
                leftover.unlink()
        logger.info("decoding %d images of %s into %s", len(source.names), source.what, folder)
        began = time.perf_counter()
        _write_cache(folder, source, shape)
        logger.info("decoded in %.1f s; the next start reads them from the cache", time.perf_counter() - began)
    cached = _open_cache(folder, shape)
    if cached is None:
        raise OSError("its content differs from what was written")
    return cached


def _open_cache(folder: Path, shape: tuple[int, ...]) -> tuple[Pixels, dict[int, str]] | None:
    """The pixels and the skipped images; None if the cache is missing or incomplete."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        skipped = {int(i): str(message) for i, message in index["skipped"].items()}
        shape = (shape[0] - len(skipped), *shape[1:])
        with open(folder / "items.npy", "rb") as file:
            if sys.platform == "linux":
                # Private pages, so that items can be written to like any tensor. Linux would reserve memory for all of
                # them and refuse to map a large cache; MAP_NORESERVE makes it reserve none.
                flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)
                pages = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            else:
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        items: Pixels = np.ndarray(shape, np.uint8, pages, len(_header(shape)))
        return (items, skipped) if zlib.crc32(items.data) == index["crc32"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_cache(folder: Path, source: Source, shape: tuple[int, ...]) -> None:
    """Write the pixels, and then the index, which shows that they are complete."""
    skipped: dict[int, str] = {}
    crc = 0
    with (
        replacing(folder / "items.npy", durable=True, shared=True) as temporary,
        open(temporary, "wb") as file,
        contextlib.closing(decode_all(source, shape, skipped)) as blocks,
    ):
        file.write(_header(shape))
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, file.tell() + math.prod(shape))  # fails now on a full disk
        for block in blocks:
            file.write(block.data)
            crc = zlib.crc32(block.data, crc)
        file.truncate()
        file.seek(0)
        file.write(_header((shape[0] - len(skipped), *shape[1:])))
    index = {"format": FORMAT, "source": source.what, "shape": shape, "skipped": skipped, "crc32": crc}
    with replacing(folder / "index.json", durable=True, shared=True) as temporary:
        temporary.write_text(json.dumps(index, indent=1), encoding="utf-8")


def _header(shape: tuple[int, ...]) -> bytes:
    """The header of items.npy. It has the same length for any number of images."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder; other processes wait for it. Without flock, several may write, and the last one's files stay."""
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
