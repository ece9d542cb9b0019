"""Training data in memory, and the batch of any step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganzoo.data.inputs import Made
from ganzoo.errors import ConfigError, DataError
from ganzoo.files import tensor_hash
from ganzoo.rng import Rng, to_device
from ganzoo.sampling.classes import name_fault
from ganzoo.sampling.sound import rate_fault
from ganzoo.sampling.values import from_uint8


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
        inputs: what items are translated from, or None: uint8 images (M, C, H, W) or floats (M, ...), as items are.
        classes: the names of the classes, by class number, or None. There may be more than the labels use.
        paired: whether input i belongs to item i, so that M is N. If not, the inputs have an order of their own.
        rate: of sounds, floats (N, channels, T) in [-1, 1]: their samples a second; None: the items are something else.

    Raises:
        DataError: the items or inputs have another type or shape, the labels or paired inputs another length, the names
            of classes are too few, not distinct or not printable, or the rate is none of sounds.
    """

    items: Tensor | Composed
    labels: Tensor | None = None
    inputs: Tensor | Composed | Made | None = None
    classes: Sequence[str] | None = None
    paired: bool = True
    rate: int | None = None

    def __post_init__(self) -> None:
        self.items = _checked("items", self.items)
        if self.labels is not None:
            self.labels = torch.as_tensor(self.labels).long()
        if self.inputs is not None:
            self.inputs = self.inputs if isinstance(self.inputs, Made) else _checked("inputs", self.inputs)
            if not len(self.inputs):
                raise DataError("there are no inputs: leave them out, or give some")
        for name, other in (("labels", self.labels), ("inputs", self.inputs if self.paired else None)):
            if other is not None and len(other) != len(self.items):
                raise DataError(f"there are {len(other)} {name} for {len(self.items)} items: give one for each")
        if self.classes is not None:
            self._check_classes(self.classes)
        if self.rate is not None:
            if self.is_image or len(self.items.shape) != 3:
                raise DataError(f"a rate belongs to sounds, floats (N, channels, T), not {tuple(self.items.shape)}")
            if fault := rate_fault(self.rate):
                raise DataError(f"the rate of the sounds {fault}")

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

    @property
    def is_sound(self) -> bool:
        return self.rate is not None

    def digest(self) -> str:
        """SHA-256 of the shape, type and bytes of the items, and of the inputs if there are any, in hexadecimal."""
        parts = [*_hashed(self.items)]
        if isinstance(self.inputs, Made):  # they follow from the items
            parts.append((f"inputs {self.inputs.spec}", torch.empty(0)))
        elif self.inputs is not None:
            parts += [(f"inputs {header}", tensor) for header, tensor in _hashed(self.inputs)]
        return tensor_hash(parts)


def _hashed(items: Tensor | Composed) -> list[tuple[str, Tensor]]:
    first, *rest = (items.source, items.table) if isinstance(items, Composed) else (items,)
    return [(f"{tuple(items.shape)} {items.dtype}", first), *(("", tensor) for tensor in rest)]


def _checked(what: str, items: Any) -> Tensor | Composed:
    """Items or inputs as uint8 images or floats."""
    if not isinstance(items, Composed):
        items = torch.as_tensor(items)
    if items.dtype == torch.uint8 and len(items.shape) != 4:
        raise DataError(f"uint8 {what} must be images (N, C, H, W), not {tuple(items.shape)}")
    if items.dtype != torch.uint8 and not items.dtype.is_floating_point:
        raise DataError(f"{what} must be uint8 images or floats, not {items.dtype}: convert them")
    return items  # type: ignore[no-any-return]


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
        self.items, self.labels, self.inputs, self.paired = data.items, data.labels, data.inputs, data.paired
        # Data that fits into a quarter of the free memory leaves room for the networks.
        size = self.items.nbytes + (0 if self.inputs is None else self.inputs.nbytes)
        if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 4:
            self.items = self.items.to(device)
            self.inputs = None if self.inputs is None else self.inputs.to(device)
        self._orders: dict[str, tuple[int, Tensor]] = {}

    def indices(self, k: int) -> Tensor:
        """The indices (batch_size,) of the items in batch k."""
        return self._ordered(k, len(self.items), "order")

    def _ordered(self, k: int, n: int, purpose: str) -> Tensor:
        """The k-th batch of indices below n, of which each epoch has a permutation of its own."""
        start, parts, missing = k * self.batch_size, [], self.batch_size
        while missing:
            epoch, position = divmod(start, n)
            if self._orders.get(purpose, (-1,))[0] != epoch:
                order = torch.randperm(n, generator=Rng(self.seed, epoch, purpose).generator)
                self._orders[purpose] = epoch, order
            part = self._orders[purpose][1][position : position + missing]
            parts.append(part)
            start, missing = start + len(part), missing - len(part)
        return torch.cat(parts)

    def get(self, k: int, part: int = 0, parts: int = 1) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One of `parts` equal parts of batch k.

        Returns:
            Items (n, ...), images as floats in [-1, 1]; labels (n,) and inputs (n, ...), or None if the data has none.
        """
        n = self.batch_size // parts
        own = slice(part * n, (part + 1) * n)
        rows = self.indices(k)[own]

        def mirrored(x: Tensor, purpose: str) -> Tensor:
            flipped = Rng(self.seed, k, purpose, self.device, part, parts).rand(n, *[1] * (x.dim() - 1)) < 0.5
            return torch.where(flipped, x.flip(-1), x)

        items = self._take(self.items, rows)
        labels = None if self.labels is None else to_device(self.labels[rows], self.device)
        inputs = None
        if self.inputs is not None:
            if not self.paired:
                rows = self._ordered(k, len(self.inputs), "inputs order")[own]
            inputs = self._take(self.inputs, rows)
            if self.flip and inputs.dim() == 4:
                inputs = mirrored(inputs, "flip" if self.paired else "inputs flip")
        if self.flip:
            items = mirrored(items, "flip")
        return items, labels, inputs

    def _take(self, source: "Tensor | Composed | Made", rows: Tensor) -> Tensor:
        """Rows of items or inputs on the device of the batches, images as floats in [-1, 1]."""
        x = to_device(source[to_device(rows, source.device)], self.device)
        if source.dtype == torch.uint8:
            return from_uint8(x).contiguous(memory_format=self.memory_format)
        return x
