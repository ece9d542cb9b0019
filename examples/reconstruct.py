"""Draw images and, below each, its reconstruction by a VAE/GAN: encoded and decoded again.

ganzoo train vaegan --out runs/vaegan
python examples/reconstruct.py runs/vaegan -o pairs.png
"""

import argparse
import sys
from typing import Any

import torch

import ganzoo
from ganzoo.data.loading import load
from ganzoo.sampling.pictures import grid, to_uint8

parser = argparse.ArgumentParser(description="Reconstruct images with a trained VAE/GAN.")
parser.add_argument("source", help="a pretrained name, a run or model folder, or hf-hub:ORG/NAME")
parser.add_argument("--data", default="digits", help="where the images come from")
parser.add_argument("--data-dir", default="data")
parser.add_argument("-n", type=int, default=16, help="how many images")
parser.add_argument("-o", "--out", default="pairs.png", help="the picture")
arguments = parser.parse_args()

g: Any = ganzoo.from_pretrained(arguments.source)  # of vaegan, with more than an nn.Module has
size, channels = g.config["image_size"], g.config["channels"]
data = load(arguments.data, arguments.data_dir, image_size=size, channels=channels)
images = data.items[: arguments.n].float() / 127.5 - 1
with torch.no_grad():
    mean, _ = g.encode(images)
    reconstructions = g(mean)
print(f"mean squared difference {(reconstructions - images).square().mean():.4f} of values in [-1, 1]", file=sys.stderr)
grid(to_uint8(torch.cat([images, reconstructions])), columns=len(images)).save(arguments.out)
print(arguments.out)
