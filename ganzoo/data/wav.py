"""Reading .wav files of PCM samples or floats.

They are read here rather than by a library: samples without compression, which is what nearly all .wav files hold, take
a few lines of numpy, which read bytes from a zip as well, and training on sounds then needs nothing to be installed.
Python's own `wave` knows neither floats nor, before 3.12, the header that programs write for 24 bits.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.sampling.sound import rate_fault

Samples = npt.NDArray[np.float32]

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""Format numbers of .wav files: integers, floats, and one that leads to another number."""
DTYPES = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 24): "u1", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}
"""How samples lie in a file, by format number and bits. Those of 24 bits are three bytes each."""


@dataclass(frozen=True)
class File:
    """An opened .wav file.

    Attributes:
        rate: samples a second.
        channels: the number of channels.
        form: the format number.
        bits: the bits of a sample.
        body: the samples, as they lie in the file.
    """

    rate: int
    channels: int
    form: int
    bits: int
    body: memoryview

    @property
    def frames(self) -> int:
        """Samples in each channel."""
        return len(self.body) // (self.channels * self.bits // 8)

    def read(self, n: int) -> Samples:
        """The first n samples in [-1, 1], all channels mixed; fewer if the file is shorter.

        Raises:
            ValueError: there are none, or some are NaN or infinite.
        """
        n = min(n, self.frames)
        raw = np.frombuffer(self.body[: n * self.channels * self.bits // 8], DTYPES[self.form, self.bits])
        values: npt.NDArray[Any]
        if self.form == FLOAT:
            values = raw
        elif self.bits == 8:
            values = (raw.astype(np.float32) - 128) / 128
        elif self.bits == 24:
            padded = np.zeros((len(raw) // 3, 4), np.uint8)
            padded[:, 1:] = raw.reshape(-1, 3)
            values = padded.view("<i4")[:, 0] / 2**31
        else:
            values = raw / 2 ** (self.bits - 1)
        if not len(values):
            raise ValueError("it holds no samples")
        if not np.isfinite(values).all():
            raise ValueError("some of its samples are NaN or infinite")
        mixed: Samples = values.clip(-1, 1).reshape(-1, self.channels).mean(1).astype(np.float32)
        return mixed


def parse(content: bytes) -> File:
    """Open the bytes of a .wav file.

    Raises:
        ValueError: they are none, are damaged, or hold compressed samples.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("it is empty" if not content else "it is not a .wav file")
    at, header = 12, None
    while len(content) >= at + 8:
        name, size = struct.unpack_from("<4sI", content, at)
        body = memoryview(content)[at + 8 : at + 8 + size]
        if name == b"data":
            break
        if name == b"fmt ":
            header = bytes(body)
        at += 8 + size + size % 2
    else:
        raise ValueError("it ends before its samples")
    if header is None or len(header) < 16:
        raise ValueError("it does not say what its samples are")
    if len(body) < size != 0xFFFFFFFF:  # what programs write that do not know the length yet
        raise ValueError(f"it ends after {len(body)} of {size} bytes of samples")
    form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", header)
    if form == EXTENSIBLE and len(header) >= 26:
        (form,) = struct.unpack_from("<H", header, 24)
    if (form, bits) not in DTYPES:
        raise ValueError(f"its samples have format {form} and {bits} bits, and are neither PCM nor floats")
    if not channels or rate_fault(rate):
        raise ValueError(f"it has {channels} channels at {rate} Hz")
    return File(rate, channels, form, bits, body)
