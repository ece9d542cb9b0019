"""Single pictures from files, folders and zips, each in a size of its own."""

import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganzoo.data.decode import UNREADABLE, decode_one, open_image
from ganzoo.data.folders import SUFFIXES, listing
from ganzoo.data.source import check_size, read_file
from ganzoo.errors import DataError

logger = logging.getLogger("ganzoo")


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    check_size(archive.getinfo(name).file_size)
    return archive.read(name)


class Photos:
    """The pictures of a file, a folder or a zip, sorted by name. Iteration gives the name of each, without its suffix,
    and its pixels, uint8 (C, H, W). Those that cannot be read are skipped with a warning.

    Args:
        path: a picture, a folder or a zip.
        channels: 1 or 3.
        shorter: pixels of the shorter side, to which each picture is resized; None: each keeps its size.
        square: height and width of the squares to which pictures are cropped and resized instead, as for training.

    Raises:
        DataError: there are no pictures; at the end of an iteration, none of them can be read.
    """

    def __init__(self, path: Path, channels: int, *, shorter: int | None = None, square: int | None = None) -> None:
        self.path, self.channels, self.shorter, self.square = path, channels, shorter, square
        self._read: Callable[[str], bytes]
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            self.names = [path.name]
            self._read = lambda name: read_file(str(path))
        elif not path.exists():
            raise DataError(f"there is no picture, folder or zip {path}")
        else:
            archive, self.names = listing(path)
            self._read = (lambda name: _member(archive, name)) if archive else lambda name: read_file(str(path / name))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        count, stems = 0, [Path(name).with_suffix("").as_posix() for name in self.names]
        for name, stem in zip(self.names, stems, strict=True):
            try:
                pixels = self._decode(self._read(name))
            except UNREADABLE as error:
                logger.warning("%s of %s cannot be read and is skipped: %s", name, self.path, error)
                continue
            count += 1
            yield stem if stems.count(stem) == 1 else name, torch.from_numpy(pixels)
        if not count:
            raise DataError(f"none of the {len(self)} pictures of {self.path} can be read")

    def _decode(self, content: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
        if self.square is not None:
            return np.array(decode_one(content, self.square, self.channels))
        image = open_image(content, self.channels)
        if self.shorter is not None:
            scale = self.shorter / min(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image = image.resize(size, Image.Resampling.BICUBIC)
        return np.array(image).reshape(image.height, image.width, self.channels).transpose(2, 0, 1)
