"""Draw docs/_static/generators.png: the first samples of seed 0 of every generator that ships with ganzoo, unselected;
of those that translate, inputs above what becomes of them.

python docs/picture.py
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file

import ganzoo
from ganzoo.sampling.options import takes_inputs
from ganzoo.store.manifest import GOLDEN
from ganzoo.store.source import find
from ganzoo.zoo.plugins import registry

ROWS, COLUMNS = 3, 5
"""Images of a generator."""
TILES = 3
"""Generators side by side."""
SIDE = 64
"""Pixels that the side of an image has at most, after enlarging it by a whole number."""
EDGE, GAP, LABEL = 28, 28, 34
"""Pixels around the picture, between two generators, and for the name of one."""
PANEL, TEXT = (22, 27, 34), (230, 237, 243)
"""Light text on a dark panel with round, transparent corners can be read on a light page and on a dark one."""
CORNER = 24


def in_colour(images: torch.Tensor) -> torch.Tensor:
    """Images (N, 1 or 3, H, W) as uint8 (N, 3, H, W)."""
    if images.dtype != torch.uint8:
        images = images.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
    return images.expand(-1, 3, -1, -1)


def tile(name: str) -> Image.Image:
    """The images of one generator without gaps, row by row."""
    g = ganzoo.from_pretrained(name)
    if takes_inputs(g):
        inputs = load_file(find(name) / GOLDEN)["inputs"]
        columns = len(inputs)
        images = torch.cat([in_colour(inputs), in_colour(ganzoo.sample(g, inputs=inputs, seed=0))])
    else:
        columns = COLUMNS
        images = in_colour(ganzoo.sample(g, ROWS * COLUMNS, seed=0))
    _, channels, height, width = images.shape
    sheet = images.reshape(-1, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    picture = Image.fromarray(np.ascontiguousarray(sheet.reshape(-1, columns * width, channels).numpy()))
    zoom = max(1, SIDE // height)
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def draw(names: list[str]) -> Image.Image:
    """The tiles of these generators on one panel, each under its name."""
    tiles = [tile(name) for name in names]
    width, height = (max(sizes) for sizes in zip(*(picture.size for picture in tiles), strict=True))
    rows = -(-len(tiles) // TILES)
    size = (2 * EDGE + TILES * (width + GAP) - GAP, 2 * EDGE + rows * (LABEL + height + GAP) - GAP)
    panel = Image.new("RGBA", size)
    pen = ImageDraw.Draw(panel)
    pen.rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), CORNER, fill=PANEL)
    font = ImageFont.load_default(size=22)
    for i, (name, picture) in enumerate(zip(names, tiles, strict=True)):
        x = EDGE + i % TILES * (width + GAP)
        y = EDGE + i // TILES * (LABEL + height + GAP)
        pen.text((x, y), name, font=font, fill=TEXT)
        panel.paste(picture, (x, y + LABEL))
    return panel


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw samples of every generator that ships with ganzoo.")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "_static" / "generators.png")
    out = parser.parse_args().out
    draw(list(registry().weights)).quantize(256).save(out, optimize=True)
    print(out)


if __name__ == "__main__":
    main()
