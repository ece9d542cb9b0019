"""Inputs of a translation that are made from the images it is to give: `edges`, `grey`, `masked` and `smaller=K`."""

import re
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ganzoo.errors import ConfigError, DataError

KINDS = ("edges", "grey", "masked", "smaller")
FACTORS = (2, 4, 8, 16)
"""How many times fewer pixels a side of the input of `smaller` may have."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""
HOLE = 0.25, 0.5
"""The smallest and the largest side of the rectangle that `masked` removes, as a share of the image's."""
REMOVED = 128
"""The value of removed pixels."""


def is_made(spec: str) -> bool:
    """Whether an `--inputs` spec is one of `KINDS`, and not the name of data or a path."""
    return spec.partition("=")[0] in KINDS


class Made:
    """Inputs that are made from images when they are used. It is indexed like a uint8 tensor (N, C, H, W).

    The input of an image depends on the image and its number alone, so it is always the same.

    Args:
        images: the images, uint8 (N, C, H, W): a tensor or `ganzoo.Composed`.
        spec: "edges": the edges, dark on white, (N, 1, H, W). "grey": the luminance, (N, 1, H, W). "masked": the image
            with a rectangle removed, a quarter to a half as high and as wide. "smaller=K": the image with K times fewer
            pixels a side, where K is 2, 4, 8 or 16, by default 4.

    Raises:
        ConfigError: there are no such inputs, or the images cannot be reduced so many times.
        DataError: these are no images.
    """

    dtype = torch.uint8

    def __init__(self, images: Any, spec: str) -> None:
        if images.dtype != torch.uint8 or len(images.shape) != 4:
            raise DataError(f"the inputs {spec!r} are made from images, and this data has none")
        self.images, self.spec = images, spec
        self.kind, factor = _parse(spec)
        self.shape = torch.Size((len(images), *self._apply(images[:1], torch.arange(1), factor).shape[1:]))
        self.factor = factor
        self.nbytes = 0
        self.device = images.device

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Tensor:
        images = self.images[index]
        rows = torch.arange(len(self), device=index.device if isinstance(index, Tensor) else None)[index]
        if images.dim() == 3:
            return self._apply(images[None], rows[None], self.factor)[0]
        return self._apply(images, rows, self.factor)

    def to(self, device: torch.device) -> "Made":
        return Made(self.images.to(device), self.spec)

    def _apply(self, images: Tensor, rows: Tensor, factor: int) -> Tensor:
        if self.kind == "edges":
            return _edges(images)
        if self.kind == "grey":
            return luminance(images).round_().byte()
        if self.kind == "masked":
            return _masked(images, rows.to(images.device))
        return _smaller(images, factor)


def make_inputs(images: Tensor, spec: str) -> Tensor:
    """The inputs that training with `--inputs SPEC` would make from these images.

    Args:
        images: uint8 (N, C, H, W).
        spec: as for `Made`.

    Returns:
        uint8 (N, C', H', W').

    Raises:
        ConfigError, DataError: as `Made`.
    """
    return Made(images, spec)[:]


def luminance(images: Tensor) -> Tensor:
    """The grey values of images (N, C, H, W) of 1 or 3 channels, float32 (N, 1, H, W)."""
    if images.shape[1] == 1:
        return images.float()
    if images.shape[1] != 3:
        raise DataError(f"images of {images.shape[1]} channels have no grey values: take images of 1 or 3")
    red, green, blue = images.float().unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def _parse(spec: str) -> tuple[str, int]:
    match = re.fullmatch(r"(edges|grey|masked|smaller)|smaller=(\d{1,4})", spec)
    factor = int(match[2] or 4) if match else 0
    if match is None or factor not in FACTORS:
        raise ConfigError(
            f"no inputs are called {spec!r}: choose edges, grey, masked or smaller=K, where K is "
            f"{', '.join(map(str, FACTORS[:-1]))} or {FACTORS[-1]}"
        )
    return match[1] or "smaller", factor


def _edges(images: Tensor) -> Tensor:
    """White less the length of the luminance's gradient by Sobel's operator, of which an edge from black to white has
    twice the full range."""
    x = pad(luminance(images), (1, 1, 1, 1), mode="replicate")
    # Sums, not a convolution, which would upload its kernel each time and be less exact on a GPU.
    tall = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    wide = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    across, down = tall[..., 2:] - tall[..., :-2], wide[:, :, 2:] - wide[:, :, :-2]
    return (255 - (across.square() + down.square()).sqrt() / 4).clamp_(0, 255).round_().byte()


def _masked(images: Tensor, rows: Tensor) -> Tensor:
    top, left, height, width = rectangles(rows, *images.shape[2:]).unbind(1)
    y, x = (torch.arange(size, device=images.device) for size in images.shape[2:])
    inside_y = (y >= top[:, None]) & (y < (top + height)[:, None])
    inside_x = (x >= left[:, None]) & (x < (left + width)[:, None])
    return images.masked_fill((inside_y[:, :, None] & inside_x[:, None, :])[:, None], REMOVED)


def rectangles(rows: Tensor, height: int, width: int) -> Tensor:
    """The rectangles that `masked` removes from the images of these numbers: (N, 4) int64, as top, left, height and
    width in pixels."""
    hashed = [_hash(4 * rows + i) for i in range(4)]
    sides, starts = [], []
    for i, size in enumerate((height, width)):
        least, most = (max(1, round(size * share)) for share in HOLE)
        side = least + hashed[2 * i] % (most - least + 1)
        sides.append(side)
        starts.append(hashed[2 * i + 1] % (size - side + 1))
    return torch.stack([*starts, *sides], 1)


def _hash(x: Tensor) -> Tensor:
    """Numbers from 0 to 2^32 - 1 that look random, by the finaliser of MurmurHash3."""
    mask = 0xFFFFFFFF
    x = (x + 1) * 0x9E3779B1 & mask
    x = (x ^ x >> 16) * 0x85EBCA6B & mask
    x = (x ^ x >> 13) * 0xC2B2AE35 & mask
    return x ^ x >> 16


def _smaller(images: Tensor, factor: int) -> Tensor:
    height, width = images.shape[2:]
    if height % factor or width % factor:
        raise ConfigError(
            f"images of {height}x{width} pixels cannot be reduced {factor} times: choose another --image-size"
        )
    size = (height // factor, width // factor)
    reduced = interpolate(images.float(), size, mode="bicubic", antialias=True, align_corners=False)
    return reduced.round_().clamp_(0, 255).byte()
