"""What a notebook shows of a generator."""

import io

from PIL import Image
from torch import nn

from ganzoo.errors import SampleError
from ganzoo.sampling import pictures, sound
from ganzoo.sampling.options import takes_inputs

SMALLEST = 400
"""Pixels of the longer side of a picture that is shown as it is. Smaller ones are enlarged."""


def draw(g: nn.Module, seed: int = 0) -> Image.Image:
    """The picture that shows what a generator has learned: 64 images, or the waveforms and spectrograms of 8 sounds.

    Raises:
        SampleError: it makes neither, or translates inputs.
    """
    if takes_inputs(g):
        raise SampleError(
            "this generator translates inputs: show its images, as ganzoo.sample(g, inputs=...) gives them"
        )
    return pictures.overview(g, seed) if sound.rate_of(g) is None else sound.overview(g, seed)


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG, whose pixels are whole squares if it is a small one."""
    factor = -(-SMALLEST // max(picture.size))
    buffer = io.BytesIO()
    picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
