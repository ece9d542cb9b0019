"""Draw docs/_static/generators.png: the first samples of seed 0 of every generator that ships with ganzoo, unselected.

python docs/picture.py
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import ganzoo
from ganzoo.zoo.plugins import registry

ROWS, COLUMNS = 3, 5
"""Images of a generator."""
TILES = 3
"""Generators side by side."""
ZOOM = 2
EDGE, GAP, LABEL = 28, 28, 34
"""Pixels around the picture, between two generators, and for the name of one."""
PANEL, TEXT = (22, 27, 34), (230, 237, 243)
"""Light text on a dark panel with round, transparent corners can be read on a light page and on a dark one."""
CORNER = 24


def tile(name: str) -> Image.Image:
    """The images of one generator without gaps, row by row."""
    images = ganzoo.sample(ganzoo.from_pretrained(name), ROWS * COLUMNS, seed=0)
    images = images.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    channels, height, width = images.shape[1:]
    sheet = images.reshape(ROWS, COLUMNS, channels, height, width).permute(0, 3, 1, 4, 2)
    picture = Image.fromarray(np.ascontiguousarray(sheet.reshape(ROWS * height, COLUMNS * width, channels).numpy()))
    return picture.resize((picture.width * ZOOM, picture.height * ZOOM), Image.Resampling.NEAREST)


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
