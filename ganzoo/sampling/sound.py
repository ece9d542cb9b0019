"""Sounds as .wav files and as one picture, and the sampling rate that a generator of sounds has.

Sounds are (N, channels, T) in [-1, 1], T samples at `rate` Hz.
"""

import math
import wave
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from ganzoo.errors import SampleError
from ganzoo.sampling.draw import class_count, sample
from ganzoo.sampling.pictures import LONGEST_LABEL, row_names

FASTEST = 1_000_000
"""The highest sampling rate, in Hz. Sound cards end at 768,000."""
SILENCE = 0.25
"""Seconds between the sounds of one file."""
SHOWN = 8
"""Sounds in the picture that shows a generator."""
MOST_CLASSES = 32
"""Classes in that picture at most, which then shows one sound of each."""
WIDTH, HEIGHT = 220, 80
"""Pixels of a waveform, and of a spectrogram."""
LEFT, TOP, BOTTOM, RIGHT = 58, 20, 22, 12
"""Margins of both, in pixels, for their axes and names."""
FONT = 10
RANGE = 80.0
"""Decibels below the loudest point of a spectrogram that are told from silence."""
COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Colours of a spectrogram from silence to the loudest point, at equal distances."""


def rate_of(g: nn.Module) -> int | None:
    """The sampling rate of a generator of sounds, in Hz; None if it makes something else."""
    rate: int | None = getattr(g, "sampling_rate", None)
    return rate


def set_rate(g: nn.Module, rate: int | None) -> None:
    """Give a generator the sampling rate of its sounds, as its attribute `sampling_rate`. It is not in `config`, which
    holds only what a generator is built from."""
    g.sampling_rate = rate  # type: ignore[assignment]


def rate_fault(rate: object) -> str:
    """What is wrong with a sampling rate; empty if it can be used."""
    if type(rate) is int and 1 <= rate <= FASTEST:
        return ""
    return f"must be a whole number of Hz from 1 to {FASTEST:,}, not {rate!r}"


def write_wav(path: Path, sounds: Iterable[Tensor], rate: int) -> None:
    """Write one sound, or several with a quarter of a second of silence between them, as a .wav file of 16 bits.

    Args:
        path: the file.
        sounds: at least one, each (channels, T), with values cut off at -1 and 1.
        rate: samples a second.

    Raises:
        SampleError: these are no sounds.
        OSError: the file cannot be written.
    """
    sounds = iter(sounds)
    first = next(sounds)
    _check(first.shape)
    with open(path, "wb") as raw, wave.open(raw, "wb") as file:
        file.setparams((len(first), 2, rate, 0, "NONE", "not compressed"))
        for i, sound in enumerate(chain([first], sounds)):
            if i:
                file.writeframesraw(bytes(2 * len(sound) * round(SILENCE * rate)))
            samples = sound.detach().float().nan_to_num().mul(32768).round().clamp(-32768, 32767)
            file.writeframesraw(samples.t().cpu().numpy().astype("<i2").tobytes())


def sheet(sounds: Tensor, rate: int, names: Sequence[str] | None = None) -> Image.Image:
    """Sounds (N, channels, T) as one picture: of each the waveform, and beside it the spectrogram, with the seconds and
    the frequencies in Hz at the axes.

    Args:
        sounds: their channels are mixed.
        rate: samples a second.
        names: what is written above each; None: their numbers.

    Raises:
        SampleError: these are no sounds.
    """
    _check(sounds.shape[1:])
    waves = sounds.detach().float().mean(1).clamp(-1, 1).nan_to_num().cpu()
    n = len(waves)
    columns = min(n, 2 if n <= 16 else 4)
    width, height = 2 * (LEFT + WIDTH + RIGHT), TOP + HEIGHT + BOTTOM
    picture = Image.new("RGB", (columns * width, -(-n // columns) * height), "white")
    for i, samples in enumerate(waves):
        x, y = i % columns * width, i // columns * height
        seconds = len(samples) / rate
        _panel(picture, x + LEFT, y + TOP, _waveform(samples.numpy()), seconds, ("1", "0", "-1"))
        spectrum = (f"{rate / 2:g} Hz", f"{rate / 4:g}", "0")
        _panel(picture, x + 2 * LEFT + WIDTH + RIGHT, y + TOP, _spectrogram(samples), seconds, spectrum)
        text = names[i][:LONGEST_LABEL] if names else str(i)
        ImageDraw.Draw(picture).text((x + LEFT, y + TOP - 3), text, "black", _font(), anchor="ls")
    return picture


def overview(g: nn.Module, seed: int = 0) -> Image.Image:
    """The picture that shows what a generator of sounds has learned: its first samples of a seed, for a conditional one
    its classes in turn with their names.

    Raises:
        SampleError: it makes no sounds, or their sampling rate is not known.
    """
    count, rate = class_count(g), rate_of(g)
    if rate is None:
        raise SampleError("this generator has no sampling rate: give the data that it is trained on a rate")
    if count is None:
        return sheet(sample(g, SHOWN, seed), rate)
    count = min(count, MOST_CLASSES)
    labels = [i % count for i in range(max(SHOWN, count))]
    return sheet(sample(g, len(labels), seed, labels), rate, titles(g, labels))


def _check(shape: Sequence[int]) -> None:
    if len(shape) != 2:
        raise SampleError(f"samples of shape {tuple(shape)} are no sounds (channels, T): write a .npy")


def titles(g: nn.Module, labels: Sequence[int]) -> list[str]:
    """The name of the class of each sound in the letters of Pillow's font, or its number where it has none."""
    return row_names(g, labels) or [f"class {label}" for label in labels]


def _font() -> Any:
    return ImageFont.load_default(FONT)


def _panel(picture: Image.Image, left: int, top: int, plot: Image.Image, seconds: float, ticks: Sequence[str]) -> None:
    """Paste a plot with its axes: `ticks` at the left from top to bottom, the time below."""
    picture.paste(plot, (left, top))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - 1, top - 1, left + WIDTH, top + HEIGHT), outline="gray")
    for i, text in enumerate(ticks):
        y = top + i * (HEIGHT - 1) / (len(ticks) - 1)
        draw.line((left - 4, y, left - 1, y), "gray")
        draw.text((left - 6, y), text, "black", _font(), anchor="rm")
    for part, text in ((0.0, "0"), (0.5, f"{seconds / 2:.3g}"), (1.0, f"{seconds:.3g} s")):
        x = left + part * (WIDTH - 1)
        draw.line((x, top + HEIGHT, x, top + HEIGHT + 3), "gray")
        draw.text((x, top + HEIGHT + 5), text, "black", _font(), anchor="ra" if part == 1 else "ma")


def _waveform(samples: "np.ndarray[Any, np.dtype[np.float32]]") -> Image.Image:
    """A plot of samples (T,) in [-1, 1]: a line in each column from the lowest of its samples to the highest."""
    plot = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(plot)
    draw.line((0, HEIGHT // 2, WIDTH, HEIGHT // 2), "lightgray")
    y = (1 - samples) / 2 * (HEIGHT - 1)
    starts = np.arange(WIDTH) * len(samples) // WIDTH
    after = y[np.minimum([*starts[1:], len(samples)], len(samples) - 1)]  # joins a column to the next one
    highest, lowest = (
        np.minimum(np.minimum.reduceat(y, starts), after),
        np.maximum(np.maximum.reduceat(y, starts), after),
    )
    for x in range(WIDTH):
        draw.line((x, highest[x], x, lowest[x]), "steelblue")
    return plot


def _spectrogram(samples: Tensor) -> Image.Image:
    """A plot of the amplitudes of samples (T,) by time and frequency, in decibels below the largest."""
    size = min(max(2 ** int(math.log2(max(len(samples) / 8, 1))), 32), 512)
    window = torch.hann_window(size)
    spectrum = torch.stft(
        samples, size, max(size // 8, 1), window=window, center=True, pad_mode="constant", return_complex=True
    ).abs()
    decibels = 20 * (spectrum / spectrum.max().clamp_min(1e-9)).clamp_min(10 ** (-RANGE / 20)).log10()
    grey = Image.fromarray((decibels / RANGE + 1).mul(255).round().byte().flip(0).numpy())
    levels = np.asarray(grey.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)) / 255
    at = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(levels, at, channel) for channel in zip(*COLOURS, strict=True)]
    return Image.fromarray(np.stack(channels, -1).round().astype(np.uint8))
