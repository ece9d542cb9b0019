"""How far translations are from the truth where it is hidden, beside trivial answers, and a sheet of them.

    python tests/benchmarks/translators.py pix2pix.nouns_masked --data nouns.zip --inputs masked --sheet masked.png
    python tests/benchmarks/translators.py pix2pix.nouns_grey --data nouns.zip --inputs grey --sheet grey.png

The inputs are made from the test part of the data. For `masked` only pixels inside the rectangle count; the trivial
answer is the mean colour of the pixels around it. For `grey` only chroma counts, Cb and Cr of BT.601; the trivial
answers are the mean chroma of the test images, which is one value, and that of each image, which the input hides.
Differences are means of absolute values, as a share of the range of the values.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import ganzoo
from ganzoo.data import load, make_inputs
from ganzoo.data.inputs import luminance, rectangles
from ganzoo.sampling.examples import Examples

ROWS = 48
"""The most test images on a sheet, evenly spaced, so that all classes are among them."""


def inside(images: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rectangles of `masked` are, and the pixels around them: two masks (N, 1, H, W)."""
    n, _, height, width = images.shape
    hidden = torch.zeros(n, 1, height, width, dtype=torch.bool)
    around = torch.zeros_like(hidden)
    for i, (top, left, tall, wide) in enumerate(rectangles(torch.arange(n), height, width).tolist()):
        around[i, 0, max(0, top - 1) : top + tall + 1, max(0, left - 1) : left + wide + 1] = True
        hidden[i, 0, top : top + tall, left : left + wide] = True
    return hidden, around & ~hidden


def completion(truth: Tensor, made: Tensor) -> dict[str, float]:
    """Mean absolute differences inside the rectangles, in images (N, C, H, W) of values from 0 to 1."""
    hidden, around = inside(truth)
    border = (truth * around).sum((2, 3), keepdim=True) / around.sum((2, 3), keepdim=True)
    count = hidden.sum() * truth.shape[1]
    answers = {"translated": made, "mean of the border": border}
    return {name: float(((answer - truth).abs() * hidden).sum() / count) for name, answer in answers.items()}


def chroma(images: Tensor) -> Tensor:
    """Cb and Cr, (N, 2, H, W), of images (N, 3, H, W) of values from 0 to 1."""
    luma = luminance(images)
    return torch.cat([0.564 * (images[:, 2:] - luma), 0.713 * (images[:, :1] - luma)], 1)


def colouring(truth: Tensor, made: Tensor) -> dict[str, float]:
    """Mean absolute differences of chroma in images (N, 3, H, W) of values from 0 to 1."""
    own = chroma(truth)
    answers = {
        "translated": chroma(made),
        "mean chroma": own.mean((0, 2, 3), keepdim=True),
        "mean chroma of each image": own.mean((2, 3), keepdim=True),
    }
    return {name: float((answer - own).abs().mean()) for name, answer in answers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--data", required=True, metavar="SPEC")
    parser.add_argument("--inputs", required=True, choices=["masked", "grey"])
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="draw input, output and truth of some images")
    options = parser.parse_args()
    g = ganzoo.from_pretrained(options.source)
    size: int = g.config["image_size"]  # type: ignore[index, assignment]  # set by the zoo
    truth = load(options.data, options={"split": "test"}, image_size=size).items[:]
    inputs = make_inputs(truth, options.inputs)
    made = ganzoo.sample(g, inputs=inputs).clamp(-1, 1) / 2 + 0.5
    measure = completion if options.inputs == "masked" else colouring
    figures = measure(truth.float() / 255, made)
    for name, value in figures.items():
        print(f"{name}: {value:.4f}, of which the translation is {figures['translated'] / value:.2f}")
    if options.sheet:
        some = torch.arange(0, len(truth), -(-len(truth) // ROWS))
        picture = Examples(inputs[some], truth[some]).picture(g)
        assert picture is not None
        picture.save(options.sheet, optimize=True)


if __name__ == "__main__":
    main()
