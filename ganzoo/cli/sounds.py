"""What `ganzoo sample` does with generators of sounds."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo.errors import SampleError
from ganzoo.files import replacing

if TYPE_CHECKING:
    from torch import Tensor, nn

SHEET_LIMIT = 256
"""The most sounds in one picture."""


def refuse_for(rate: int | None, target: str, *, moving: bool) -> None:
    """Refuse an output that the samples of a generator cannot be written to.

    Args:
        rate: the sampling rate of a generator of sounds; None: it makes something else.
        target: the output.
        moving: whether it is a walk or a sheet of style mixing.

    Raises:
        SampleError: these are moving pictures of sounds, or a .wav of something else.
    """
    if rate is None and target.lower().endswith(".wav"):
        raise SampleError(
            f"{target}: this generator makes no sounds whose sampling rate is known: write a .npy or a .png"
        )
    if rate is not None and moving:
        raise SampleError("--walk and --mix draw images, and this generator makes sounds: leave them out")


def write_sounds(
    g: "nn.Module", rate: int, items: "Iterable[Tensor]", path: Path, kind: str, n: int, labels: list[int] | None
) -> None:
    """Write n sounds as one .wav, as a folder of them, or as a picture of waveforms and spectrograms.

    Raises:
        SampleError: there are too many for one picture.
    """
    import torch

    from ganzoo.sampling.pictures import save
    from ganzoo.sampling.sound import sheet, titles, write_wav

    if kind not in ("folder", ".wav") and n > SHEET_LIMIT:
        raise SampleError(f"{n} sounds are too many for one picture (at most {SHEET_LIMIT}): write a .wav or a folder/")
    sounds = (sound for block in items for sound in block)
    if kind == "folder":
        path.mkdir(exist_ok=True)
        for i, sound in enumerate(sounds):
            name = f"{i:06d}.wav" if labels is None else f"{i:06d}-class{labels[i]}.wav"
            write_wav(path / name, [sound], rate)
    elif kind == ".wav":
        with replacing(path, shared=True) as temporary:
            write_wav(temporary, sounds, rate)
    else:
        save(sheet(torch.cat(list(items)), rate, None if labels is None else titles(g, labels)), path)
