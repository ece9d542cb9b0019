"""Tones: short sounds of three pitches, made by code. A data set of sound that needs no file and no download."""

import math

import torch

from ganzoo import Data, DataError, Rng

PITCHES = {"low": 131.0, "middle": 311.0, "high": 740.0}
"""The frequency of each class, in Hz. None is a multiple of another one."""
RATE = 4096
"""Samples a second."""
ATTACK = 0.01
"""Seconds in which a tone swells."""


def tones(n: int = 4000, length: int = 1024) -> Data:
    """Sine waves of one of three pitches that swell at once and die away, with random phase, amplitude and decay.

    Args:
        n: number of sounds.
        length: samples of each, at 4,096 Hz.

    Raises:
        DataError: n or length is below 1.
    """
    if n < 1 or length < 1:
        raise DataError(f"data.n and data.length must be at least 1, not {n} and {length}")
    rng = Rng(0, 0, "tones")
    labels = rng.randint(len(PITCHES), n)
    phase, amplitude, decay = (part[:, None].double() for part in rng.rand(n, 3).unbind(1))
    time = torch.arange(length, dtype=torch.float64) / RATE
    angle = 2 * math.pi * (torch.tensor([*PITCHES.values()], dtype=torch.float64)[labels, None] * time + phase)
    envelope = (time / ATTACK).clamp(max=1) * torch.exp(-time / (0.1 + 0.4 * decay))
    sounds = (0.4 + 0.55 * amplitude) * envelope * angle.sin()
    # Rounded to 16 bits, as in a file, so that they are the same bits on any machine.
    return Data(((sounds * 32768).round() / 32768).float()[:, None], labels, classes=list(PITCHES), rate=RATE)
