"""From a `--data` spec to items in memory, and from there to the batch of any step.

A spec is a registered name (`digits`, `mnist`, ...) or a folder or zip of images.
"""

import io
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ganzoo.errors import ConfigError, DataError, UnknownNameError, did_you_mean
from ganzoo.plugins import registry
from ganzoo.registry import build
from ganzoo.rng import Rng, to_device

logger = logging.getLogger("ganzoo")

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jfif png bmp webp gif tif tiff ppm pgm pbm tga avif".split()  # noqa: SIM905
)
DEFAULT_SIZE = 64
"""Pixels a side for images whose own size is larger or differs."""
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    Image.DecompressionBombError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What Pillow and zipfile raise for a damaged (or encrypted) file."""


@dataclass
class Data:
    """Training data in memory.

    Args:
        items: uint8 images (N, C, H, W), or floats (N, ...) used as they are. Arrays are taken too.
        labels: (N,) class numbers, if any.
        inputs: (N, ...) what a paired architecture translates from, if any.

    Raises:
        DataError: items of another type or shape, or a length that differs.
    """

    items: Tensor
    labels: Tensor | None = None
    inputs: Tensor | None = None

    def __post_init__(self) -> None:
        self.items = torch.as_tensor(self.items)
        if self.items.dtype == torch.uint8 and self.items.dim() != 4:
            raise DataError(f"uint8 items must be images (N, C, H, W), not {tuple(self.items.shape)}")
        if self.items.dtype != torch.uint8 and not self.items.is_floating_point():
            raise DataError(f"items must be uint8 images or floats, not {self.items.dtype}")
        if self.labels is not None:
            self.labels = torch.as_tensor(self.labels).long()
        for name, other in (("labels", self.labels), ("inputs", self.inputs)):
            if other is not None and len(other) != len(self.items):
                raise DataError(f"{len(other)} {name} for {len(self.items)} items")

    @property
    def is_image(self) -> bool:
        return self.items.dtype == torch.uint8


def load(
    spec: str,
    data_dir: str = "data",
    *,
    image_size: int | None = None,
    channels: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Data:
    """The data that a spec names, as images of one size.

    Args:
        spec: a registered name, or a folder or zip of images.
        data_dir: where named data lies or is downloaded to.
        image_size: height and width in pixels; None: the data's own (a folder's: its images' common size up to 64, else
            64).
        channels: 1 or 3; None: the data's own.
        options: keywords for the loader of named data, such as `{"split": "test"}`.

    Raises:
        DataError: nothing there, nothing readable, or more than 1 % unreadable.
        UnknownNameError: neither a registered name nor a path that exists.
    """
    if spec in registry().data:
        offered = {"data_dir": data_dir, "image_size": image_size, "channels": channels}
        data, _ = build(registry().data[spec].loader, offered, options or {}, f"the data {spec!r}")
        if not isinstance(data, Data):
            raise DataError(f"the loader of {spec!r} gave a {type(data).__name__}, not a ganzoo.Data")
        return _fit(data, image_size, channels)
    path = Path(spec).expanduser()
    if not path.exists():
        if os.sep in spec or spec.startswith(".") or path.suffix:
            raise DataError(f"there is no folder or zip {spec}")
        raise UnknownNameError(
            f"no data is called {spec!r} (nor is there such a folder): {did_you_mean(spec, registry().data)}"
        )
    if options:
        raise ConfigError(f"data options ({', '.join(options)}) are for named data, not for {spec}")
    return _read_images(path, image_size, channels)


def _fit(data: Data, image_size: int | None, channels: int | None) -> Data:
    """Resize images with antialiasing and repeat or mix their channels, as asked."""
    if not data.is_image:
        return data
    items = data.items
    if channels is not None and channels != items.shape[1]:
        if items.shape[1] == 1:
            items = items.expand(-1, channels, -1, -1)
        elif channels == 1 and items.shape[1] == 3:
            weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R 601 luma
            items = torch.cat(
                [(part * weights).sum(1, keepdim=True).round().byte() for part in torch.split(items, 1024)]
            )
        else:
            raise ConfigError(f"images of {items.shape[1]} channels cannot become images of {channels}")
    if image_size is not None and (image_size, image_size) != tuple(items.shape[2:]):
        side = min(items.shape[2:])
        top, left = (items.shape[2] - side) // 2, (items.shape[3] - side) // 2
        items = items[:, :, top : top + side, left : left + side]
        shape = (image_size, image_size)
        resized = (
            torch.nn.functional.interpolate(part.float(), shape, mode="bicubic", antialias=True, align_corners=False)
            for part in torch.split(items, 1024)
        )
        items = torch.cat([part.round().clamp(0, 255).byte() for part in resized])
    return Data(items.contiguous(), data.labels, data.inputs)


def _read_images(path: Path, image_size: int | None, channels: int | None) -> Data:
    names, read = _open_source(path)
    if not names:
        raise DataError(f"no images in {path}: looked for {', '.join(sorted(SUFFIXES))}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if image_size is None or channels is None:
            size, bands = _peek(names, read)
            image_size, channels = image_size or size, channels or bands
        if channels not in (1, 3):
            raise ConfigError(f"images in a folder can be read with 1 or 3 channels, not {channels}")
        items = np.empty((len(names), channels, image_size, image_size), np.uint8)

        def decode(i: int) -> Exception | None:
            try:
                items[i] = _decode(read(names[i]), image_size, channels)
            except UNREADABLE as error:
                return error
            return None

        errors = list(pool.map(decode, range(len(names))))
    failures = [f"{name}: {error}" for name, error in zip(names, errors, strict=True) if error]
    labels = _labels(names)
    if failures:
        shown = "; ".join(failures[:5]) + (f"; and {len(failures) - 5} more" if len(failures) > 5 else "")
        if len(failures) > len(names) / 100:
            raise DataError(f"{len(failures)} of {len(names)} images in {path} cannot be read: {shown}")
        logger.warning("skipped %d of %d images that cannot be read: %s", len(failures), len(names), shown)
        good = [i for i, error in enumerate(errors) if error is None]
        items, labels = items[good], None if labels is None else labels[good]
    return Data(torch.from_numpy(items), labels)


def _open_source(path: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """The images' names below a folder or in a zip, sorted, and a function that reads one (from any thread)."""
    if path.is_dir():
        names = [str((Path(folder) / file).relative_to(path)) for folder, _, files in os.walk(path) for file in files]
        read: Callable[[str], bytes] = lambda name: (path / name).read_bytes()  # noqa: E731
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is neither a folder nor a zip that can be read: {error}") from error
        names, read = archive.namelist(), archive.read
    hidden = re.compile(r"(^|[/\\])(\.|__MACOSX)")
    return sorted(n for n in names if Path(n).suffix.lower() in SUFFIXES and not hidden.search(n)), read


def _peek(names: list[str], read: Callable[[str], bytes]) -> tuple[int, int]:
    """Size and channels for images of unstated ones, from up to 32 of them spread over all."""
    sizes, modes = set(), set()
    for name in names[:: -(-len(names) // 32)]:
        try:
            with Image.open(io.BytesIO(read(name))) as image:
                sizes |= set(image.size)
                modes.add(image.mode)
        except UNREADABLE:
            continue  # reported when it is decoded
    own = sizes.pop() if len(sizes) == 1 else DEFAULT_SIZE
    grey = bool(modes) and all(mode in ("1", "L", "LA") or mode.startswith("I") for mode in modes)
    return min(own, DEFAULT_SIZE), 1 if grey else 3


def _decode(content: bytes, size: int, channels: int) -> np.ndarray[Any, Any]:
    """One image as (channels, size, size) uint8: upright, on white where transparent, centre-cropped, resized."""
    with Image.open(io.BytesIO(content)) as opened:
        image: Image.Image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them to 8
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def _labels(names: list[str]) -> Tensor | None:
    """Class numbers from the folder each image lies in, in the order of their names; None if all lie in one."""
    folders = [str(Path(name).parent) for name in names]
    classes = {folder: i for i, folder in enumerate(sorted(set(folders)))}
    return torch.tensor([classes[folder] for folder in folders]) if len(classes) > 1 else None


class Batches:
    """Batches by counter: the k-th is a function of (seed, k) alone. Each epoch is a fresh permutation.

    Args:
        data: what to draw from.
        batch_size: items a batch.
        seed: of the order and of the mirroring.
        device: where batches go.
        flip: mirror each image left to right with probability 1/2.
        memory_format: layout of image batches.

    Raises:
        DataError: fewer items than a batch.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        seed: int,
        device: torch.device,
        *,
        flip: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        if len(data.items) < batch_size:
            few = f"{len(data.items)} items are fewer than a batch of {batch_size}"
            raise DataError(f"{few}: give more data or a smaller --batch-size")
        if flip and not data.is_image:
            raise ConfigError("flip mirrors images, and this data has none")
        self.batch_size, self.seed, self.device, self.flip = batch_size, seed, device, flip
        self.memory_format = memory_format
        self.items, self.labels, self.inputs = data.items, data.labels, data.inputs
        # A quarter of what is free leaves room for the networks.
        if device.type == "cuda" and self.items.nbytes < torch.cuda.mem_get_info(device)[0] / 4:
            self.items = self.items.to(device)
        self._orders: dict[int, Tensor] = {}

    def indices(self, k: int) -> Tensor:
        """Which items batch k holds, (batch_size,)."""
        n = len(self.items)
        start, parts, wanted = k * self.batch_size, [], self.batch_size
        while wanted:
            epoch, position = divmod(start, n)
            if epoch not in self._orders:
                self._orders = {epoch: torch.randperm(n, generator=Rng(self.seed, epoch, "order").generator)}
            part = self._orders[epoch][position : position + wanted]
            parts.append(part)
            start, wanted = start + len(part), wanted - len(part)
        return torch.cat(parts)

    def get(self, k: int, part: int = 0, parts: int = 1) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One of `parts` equal parts of batch k: items, images as floats in [-1, 1]; labels and inputs where the data
        has them."""
        n = self.batch_size // parts
        rows = self.indices(k)[part * n : (part + 1) * n]
        items = to_device(self.items[to_device(rows, self.items.device)], self.device)
        if self.items.dtype == torch.uint8:
            items = items.to(torch.get_default_dtype()).div_(127.5).sub_(1).contiguous(memory_format=self.memory_format)
        if self.flip:
            mirrored = Rng(self.seed, k, "flip", self.device, part, parts).rand(n, 1, 1, 1) < 0.5
            items = torch.where(mirrored, items.flip(-1), items)
        labels, inputs = (
            None if column is None else to_device(column[rows], self.device) for column in (self.labels, self.inputs)
        )
        return items, labels, inputs
