"""Sounds of one length and one sampling rate, from the .wav files of a folder or a zip."""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ganzoo.data.decode import UNREADABLE, summarise
from ganzoo.data.folders import open_path
from ganzoo.data.source import Labels, Source
from ganzoo.data.wav import Samples, parse
from ganzoo.errors import DataError
from ganzoo.progress import counting
from ganzoo.sampling.sound import rate_fault

logger = logging.getLogger("ganzoo")

LENGTHS = (16384, 4096, 1024)
"""Samples that sounds may have by default: 16 * 4^k, which are the lengths of WaveGAN."""
MARGIN = 64
"""Samples after the last one that is used, for the filter that changes the sampling rate."""


@dataclass(frozen=True)
class Sounds:
    """Sounds of one length and one sampling rate.

    Attributes:
        items: float32 (N, 1, T) in [-1, 1].
        rate: samples a second.
        labels: class numbers (N,), or None.
        classes: the names of the classes, by number, or None.
    """

    items: Samples
    rate: int
    labels: Labels | None
    classes: list[str] | None


def read_sounds(path: Path, split: str | None = None, rate: int | None = None, length: int | None = None) -> Sounds:
    """The beginnings of all .wav files in a folder or a zip, sorted by name.

    Args:
        path: the folder or zip.
        split: as for `open_path`.
        rate: samples a second; files of another rate are resampled. None: the rate that all files have.
        length: samples of each sound: longer files are cut after them, shorter ones end in silence. None: 16384, 4096
            or 1024, the largest of these that more than half of the files reach, or else 1024.

    Raises:
        DataError: an option is out of range, there are no .wav files or no such split, more than 1 % of the files
            cannot be read, they have several rates and `rate` is None, or PyAV, which resamples, is not installed.
    """
    if rate is not None and (fault := rate_fault(rate)):
        raise DataError(f"data.rate {fault}")
    if length is not None and length < 1:
        raise DataError(f"data.length must be at least 1 sample, not {length}")
    source = open_path(path, split)
    found = _read_all(source, rate, length or LENGTHS[0])
    if rate is None and len(found.rates) > 1:
        listed = ", ".join(f"{count} of {own:,} Hz" for own, count in sorted(found.rates.items()))
        raise DataError(
            f"the sounds in {path} have several sampling rates ({listed}): choose one to resample the others to, such "
            f"as --set data.rate={min(found.rates)}"
        )
    rate = rate or next(iter(found.rates))
    count = len(found.lengths)
    length = length or next((n for n in LENGTHS if sum(own >= n for own in found.lengths) * 2 > count), LENGTHS[-1])
    items = np.zeros((count, 1, length), np.float32)
    for row, samples in zip(items[:, 0], found.sounds, strict=True):
        row[: min(length, len(samples))] = samples[:length]
    if found.mixed:
        logger.info("%d of the %d sounds in %s have several channels, which are mixed", found.mixed, count, path)
    logger.info(
        "of each of the %d sounds in %s the first %d samples are used, %.3g s at %d Hz (--set data.length): %d are "
        "longer, %d shorter and end in silence",
        count, path, length, length / rate, rate,
        sum(own > length for own in found.lengths), sum(own < length for own in found.lengths),
    )  # fmt: skip
    labels = None if source.labels is None else np.delete(source.labels, found.skipped)
    return Sounds(items, rate, labels, source.classes)


@dataclass
class _Found:
    """What was found in the files that can be read: their samples, their whole lengths at the new rate, how many have
    each rate and how many have several channels; and the indices of those that cannot be read."""

    sounds: list[Samples] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    rates: dict[int, int] = field(default_factory=dict)
    mixed: int = 0
    skipped: list[int] = field(default_factory=list)


def _read_all(source: Source, rate: int | None, length: int) -> _Found:
    """Read at most `length` samples of each file, at `rate` if that is given.

    Raises:
        DataError: more than 1 % of the files cannot be read, or PyAV is not installed.
    """
    found, messages = _Found(), {}
    with counting(len(source.names), "sounds") as advance:
        for i, name in enumerate(source.names):
            advance(1)
            try:
                file = parse(source.read(i))
                new = rate or file.rate
                needed = length if new == file.rate else math.ceil((length + MARGIN) * file.rate / new)
                samples = file.read(needed)
            except UNREADABLE as error:
                messages[i] = f"{name}: {error}"
                continue
            found.sounds.append(samples if new == file.rate else resample(samples, file.rate, new)[:length])
            found.lengths.append(file.frames * new // file.rate)
            found.rates[file.rate] = found.rates.get(file.rate, 0) + 1
            found.mixed += file.channels > 1
    counts = f"{len(messages)} of {len(source.names)} sounds"
    if len(messages) > len(source.names) / 100:
        raise DataError(f"{counts} in {source.what} cannot be read: {summarise(messages)}")
    if messages:
        logger.warning("skipped %s that cannot be read: %s", counts, summarise(messages))
    found.skipped = list(messages)
    return found


def resample(samples: Samples, own: int, rate: int) -> Samples:
    """Samples (T,) at `own` Hz as samples at `rate` Hz, by the filter of FFmpeg's libswresample.

    Of the lower of both rates, frequencies up to 0.4 times it are kept within 0.1 %, and those above 0.55 times it are
    taken away to less than 1 %.

    Raises:
        DataError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"sounds of {own:,} Hz are resampled to {rate:,} Hz by PyAV: pip install 'ganzoo[sound]' ({error})"
        ) from error
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = own
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(parts).clip(-1, 1)
