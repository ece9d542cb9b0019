"""Draw what an InfoGAN has learned: a category in each row, with one continuous code going from -1 to 1 along the row.

ganzoo train infogan --out runs/infogan
python examples/codes.py runs/infogan -o codes.png
"""

import argparse
from typing import Any

import torch
from torch.nn.functional import one_hot

import ganzoo
from ganzoo.sampling.pictures import grid, to_uint8

parser = argparse.ArgumentParser(description="Draw the codes of a trained InfoGAN.")
parser.add_argument("source", help="a pretrained name, a run or model folder, or hf-hub:ORG/NAME")
parser.add_argument("--code", type=int, default=0, help="which continuous code to vary, counted from 0")
parser.add_argument("--columns", type=int, default=10)
parser.add_argument(
    "--seed", type=int, default=0, help="seed of the noise and of the other codes, which are the same in all images"
)
parser.add_argument("-o", "--out", default="codes.png", help="the picture")
arguments = parser.parse_args()

g: Any = ganzoo.from_pretrained(arguments.source)  # of infogan, with more than an nn.Module has
noise, categories, continuous = g.sizes
if not 0 <= arguments.code < continuous:
    parser.error(f"there is no --code {arguments.code}: this generator has {continuous} continuous codes, from 0 on")
fixed = g.draw_latent(1, ganzoo.Rng(arguments.seed, 0, "codes")).expand(arguments.columns, -1).clone()
fixed[:, noise + categories + arguments.code] = torch.linspace(-1, 1, arguments.columns)
rows = []
with torch.no_grad():
    for category in range(categories):
        fixed[:, noise : noise + categories] = one_hot(torch.tensor(category), categories)
        rows.append(g(fixed))
grid(to_uint8(torch.cat(rows)), columns=arguments.columns).save(arguments.out)
print(arguments.out)
