"""Loading training data from a `--data` spec, and drawing the batch of any step.

A spec is a registered name (`digits`, `mnist`, ...), a folder or zip of images, or `hf:ORG/NAME`.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.data.cache import load_images
from ganzoo.data.folders import has_split, open_path
from ganzoo.data.hub_dataset import open_hub
from ganzoo.errors import ConfigError, DataError, UnknownNameError, did_you_mean
from ganzoo.files import tensor_hash
from ganzoo.rng import Rng, to_device
from ganzoo.sampling.classes import name_fault
from ganzoo.zoo.networks import build, resolve
from ganzoo.zoo.plugins import registry

logger = logging.getLogger("ganzoo")


class Composed:
    """Images whose channels are grey images from a smaller set. It is indexed like a uint8 tensor (N, C, H, W), and the
    images are composed at that time.

    Args:
        source: the grey images, uint8 (M, 1, H, W).
        table: for each image, the indices of its channels in `source`, int64 (N, C).
    """

    dtype = torch.uint8

    def __init__(self, source: Tensor, table: Tensor) -> None:
        self.source, self.table = source, table
        self.shape = torch.Size([*table.shape, *source.shape[2:]])
        self.nbytes = source.nbytes + table.nbytes
        self.device = source.device

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> Tensor:
        return self.source[:, 0][self.table[index]]

    def to(self, device: torch.device) -> "Composed":
        return Composed(self.source.to(device), self.table.to(device))


@dataclass
class Data:
    """Training data in memory.

    Args:
        items: uint8 images (N, C, H, W), or floats (N, ...), which are used as they are; a tensor, an array or
            `Composed`.
        labels: class numbers (N,), or None.
        inputs: the inputs (N, ...) of a paired architecture, such as the images to translate, or None.
        classes: the names of the classes, by class number, or None. There may be more than the labels use.

    Raises:
        DataError: the items have another type or shape, the labels or inputs another length, or the names of classes
            are too few, not distinct or not printable.
    """

    items: Tensor | Composed
    labels: Tensor | None = None
    inputs: Tensor | None = None
    classes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.items, Composed):
            self.items = torch.as_tensor(self.items)
        if self.items.dtype == torch.uint8 and len(self.items.shape) != 4:
            raise DataError(f"uint8 items must be images (N, C, H, W), not {tuple(self.items.shape)}")
        if self.items.dtype != torch.uint8 and not self.items.dtype.is_floating_point:
            raise DataError(f"items must be uint8 images or floats, not {self.items.dtype}: convert them")
        if self.labels is not None:
            self.labels = torch.as_tensor(self.labels).long()
        for name, other in (("labels", self.labels), ("inputs", self.inputs)):
            if other is not None and len(other) != len(self.items):
                raise DataError(f"there are {len(other)} {name} for {len(self.items)} items: give one for each")
        if self.classes is not None:
            self._check_classes(self.classes)

    def _check_classes(self, classes: Sequence[str]) -> None:
        if self.labels is None:
            raise DataError("there are names of classes but no labels: give a label for each item")
        used = int(self.labels.max()) + 1 if len(self.labels) else 0
        if len(classes) < used:
            raise DataError(f"there are {len(classes)} names for {used} classes: give one for each, by class number")
        if fault := name_fault(classes):
            raise DataError(f"the names of the classes cannot be used: {fault}")

    @property
    def is_image(self) -> bool:
        return self.items.dtype == torch.uint8

    def digest(self) -> str:
        """SHA-256 of the items' shape, type and bytes, in hexadecimal."""
        items = self.items
        first, *rest = (items.source, items.table) if isinstance(items, Composed) else (items,)
        header = f"{tuple(items.shape)} {items.dtype}"
        return tensor_hash([(header, first), *(("", tensor) for tensor in rest)])


def load(
    spec: str,
    data_dir: str = "data",
    *,
    image_size: int | None = None,
    channels: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Data:
    """Load the data that a spec names, as images of one size.

    Args:
        spec: a registered name, a folder or zip of images, or `hf:` and a data set of the Hub or a folder with one.
        data_dir: the folder of named data sets, also for downloads.
        image_size: height and width in pixels; None: the data's own, which for a folder is its images' common size, but
            at most 64, or 64 without one.
        channels: 1 or 3; None: the data's own.
        options: keywords for the loader of named data, or else for `open_path` or `open_hub`, such as
            `{"split": "test"}`.

    Raises:
        DataError: the data is missing, or more than 1 % of the images cannot be read.
        ConfigError: an option is unknown, or the images cannot have these channels.
        UnknownNameError: the spec is neither a registered name nor a path that exists.
    """
    if spec in registry().data:
        offered = {"data_dir": data_dir, "image_size": image_size, "channels": channels}
        data, _ = build(registry().data[spec].loader, offered, options or {}, f"the data {spec!r}")
        if not isinstance(data, Data):
            raise DataError(f"the loader of {spec!r} returns a {type(data).__name__}: it must return a ganzoo.Data")
        return _fit(data, image_size, channels)
    opener = partial(open_hub, spec[3:]) if spec.startswith("hf:") else partial(open_path, _path(spec))
    source, _ = build(opener, {}, options or {}, f"the data {spec!r}")
    items, labels = load_images(source, image_size, channels)
    classes = source.classes
    if classes is not None and (fault := name_fault(classes)):
        logger.warning("the classes of %s have numbers only, no names: %s", source.what, fault)
        classes = None
    return Data(torch.from_numpy(items), None if labels is None else torch.from_numpy(labels), classes=classes)


def has_test_split(spec: str) -> bool:
    """Whether `load` with the options `{"split": "test"}` gives images that are not in the training data."""
    if spec in registry().data:
        return "split" in signature(resolve(registry().data[spec].loader)).parameters
    return not spec.startswith("hf:") and has_split(_path(spec), "test")


def _path(spec: str) -> Path:
    path = Path(spec).expanduser()
    if not path.exists():
        if os.sep in spec or spec.startswith(".") or path.suffix:
            raise DataError(f"there is no folder or zip {spec}")
        raise UnknownNameError(
            f"no data is called {spec!r} (nor is there such a folder): {did_you_mean(spec, registry().data)}"
        )
    return path


def _fit(data: Data, image_size: int | None, channels: int | None) -> Data:
    """Crop images to squares and resize them with antialiasing, and repeat or mix their channels."""
    if not data.is_image:
        return data
    items = data.items
    if isinstance(items, Composed):
        if channels not in (None, items.shape[1]):
            raise ConfigError(f"images composed of {items.shape[1]} channels cannot have {channels}")
        source = _fit(Data(items.source), image_size, None).items
        return replace(data, items=Composed(source, items.table))  # type: ignore[arg-type]
    if channels is not None and channels != items.shape[1]:
        if items.shape[1] == 1:
            items = items.expand(-1, channels, -1, -1)
        elif channels == 1 and items.shape[1] == 3:
            weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R 601 luma
            items = torch.cat(
                [(part * weights).sum(1, keepdim=True).round().byte() for part in torch.split(items, 1024)]
            )
        else:
            raise ConfigError(f"images of {items.shape[1]} channels cannot be converted to {channels}: choose 1 or 3")
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
    return replace(data, items=items.contiguous())


class Batches:
    """Batches by number: the k-th is a function of (seed, k) alone. Each epoch has a new permutation.

    Args:
        data: the training data.
        batch_size: items in a batch.
        seed: the seed of the order and of the mirroring.
        device: the device of the batches.
        flip: mirror each image left to right with probability 1/2.
        memory_format: the layout of image batches.

    Raises:
        DataError: the data has fewer items than a batch.
        ConfigError: `flip` without images.
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
            shortage = f"{len(data.items)} items are fewer than a batch of {batch_size}"
            raise DataError(f"{shortage}: give more data or a smaller --batch-size")
        if flip and not data.is_image:
            raise ConfigError("flip mirrors images, and this data has none")
        self.batch_size, self.seed, self.device, self.flip = batch_size, seed, device, flip
        self.memory_format = memory_format
        self.items, self.labels, self.inputs = data.items, data.labels, data.inputs
        # Data that fits into a quarter of the free memory leaves room for the networks.
        if device.type == "cuda" and self.items.nbytes < torch.cuda.mem_get_info(device)[0] / 4:
            self.items = self.items.to(device)
        self._orders: dict[int, Tensor] = {}

    def indices(self, k: int) -> Tensor:
        """The indices (batch_size,) of the items in batch k."""
        n = len(self.items)
        start, parts, missing = k * self.batch_size, [], self.batch_size
        while missing:
            epoch, position = divmod(start, n)
            if epoch not in self._orders:
                self._orders = {epoch: torch.randperm(n, generator=Rng(self.seed, epoch, "order").generator)}
            part = self._orders[epoch][position : position + missing]
            parts.append(part)
            start, missing = start + len(part), missing - len(part)
        return torch.cat(parts)

    def get(self, k: int, part: int = 0, parts: int = 1) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One of `parts` equal parts of batch k.

        Returns:
            Items (n, ...), images as floats in [-1, 1]; labels (n,) and inputs (n, ...), or None if the data has none.
        """
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
