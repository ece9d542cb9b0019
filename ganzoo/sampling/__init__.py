"""From a generator to samples and pictures."""

from ganzoo.sampling.draw import blocks, draw_latent, sample, walk
from ganzoo.sampling.pictures import grid, is_image, overview, to_uint8
from ganzoo.sampling.statistics import estimate_statistics

__all__ = [
    "blocks",
    "draw_latent",
    "estimate_statistics",
    "grid",
    "is_image",
    "overview",
    "sample",
    "to_uint8",
    "walk",
]
