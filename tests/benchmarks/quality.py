"""The time until good digits: `python tests/benchmarks/quality.py`, which takes more than an hour of one core.

First the textbook's DCGAN (textbook.py) trains for an hour, and its samples are measured on the way. Then `ganzoo train
dcgan --recipe digits` trains from scratch for more and more steps, until its samples are as good as the textbook's are
in the end. Both see the same images, and the same judge measures both: FID by the features `mnist`, of as many samples.
Seconds are processor time of one thread; measuring does not count. The textbook's generator is measured in training
mode, as such scripts draw their pictures, and ganzoo's as it is saved.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import textbook
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo.evaluation.evaluator import Evaluator

MINUTES = (1, 2, 5, 10, 20, 30, 40, 50, 60)
"""Of the textbook's training: when it is measured."""
STEPS = (125, 250, 500, 750, 1000, 1500, 2000, 3000, 4000)
"""Of ganzoo's trainings."""
Row = dict[str, Any]


class Enough(Exception):
    """Ends the textbook's loop."""


class Copied(nn.Module):
    """The textbook's generator, as the evaluator calls generators."""

    def __init__(self, g: nn.Module) -> None:
        super().__init__()
        self.g = g
        self.config = {"z_dim": textbook.Z_DIM, "image_size": 28, "channels": 1}

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.g.train()(z)
        return images


def say(row: Row) -> None:
    print(json.dumps(row), file=sys.stderr, flush=True)


def copied(judge: Evaluator, minutes: float) -> list[Row]:
    """The textbook's curve."""
    torch.manual_seed(0)
    networks = textbook.dcgan28()
    due = [60 * m for m in MINUTES if m < minutes] + [60 * minutes]
    rows: list[Row] = []
    steps, began = 0, time.process_time()

    def on_step(_: int) -> None:
        nonlocal steps, began
        steps += 1
        seconds = time.process_time() - began
        if seconds < due[len(rows)]:
            return
        random = torch.get_rng_state()
        fid = judge(Copied(networks[0])).values["fid"]
        rows.append({"of": "textbook", "seconds": seconds, "steps": steps, "fid": fid})
        torch.set_rng_state(random)
        began = time.process_time() - seconds
        say(rows[-1])
        if len(rows) == len(due):
            raise Enough

    with contextlib.suppress(Enough):
        textbook.gan(networks, textbook.Digits(), 64, torch.device("cpu"), on_step)
    return rows


def ours(judge: Evaluator, target: float) -> list[Row]:
    """ganzoo's trainings, up to the first that reaches this FID."""
    rows: list[Row] = []
    for steps in STEPS:
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            run = ganzoo.train("dcgan", recipe="digits", steps=steps, out=str(Path(folder) / "run"))
            seconds = time.process_time() - began
            fid = judge(run.generator).values["fid"]
            rows.append({"of": "ganzoo", "seconds": seconds, "steps": steps, "fid": fid})
        say(rows[-1])
        if rows[-1]["fid"] <= target:
            break
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="of the textbook's training (default 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    judge = Evaluator("digits", metrics=("fid",), features="mnist")
    theirs = copied(judge, options.minutes)
    target = theirs[-1]["fid"]
    mine = ours(judge, target)
    if options.json:
        options.json.write_text(json.dumps([*theirs, *mine], indent=1) + "\n", encoding="utf-8")
    print("| | steps | seconds | fid |\n|---|---:|---:|---:|")
    for row in [*theirs, *mine]:
        print(f"| {row['of']} | {row['steps']:,} | {row['seconds']:,.0f} | {row['fid']:.2f} |")
    if mine[-1]["fid"] <= target:
        times = theirs[-1]["seconds"] / mine[-1]["seconds"]
        print(f"\nganzoo becomes as good as the textbook's loop in the end {times:.3g} times as fast.")
    else:
        print("\nganzoo does not become as good as the textbook's loop.")


if __name__ == "__main__":
    main()
