"""Search for a recipe: train each candidate for the same time, measure it, print a table.

    python tests/benchmarks/search.py dcgan --seconds 120 --data mnist --data-dir ~/data \
        --base "precision=bf16" --try "lr=1e-3" --try "lr=2e-3 penalties=r1=1@4,r2=1@4"

A candidate is settings as `ganzoo train --set` takes them, laid over the default recipe and --base. Its speed is
measured first, and the number of steps set so that the whole training takes the time given: schedules fall over those
steps. fid and its multiple of the floor, precision, recall, kl and confident are those of `ganzoo eval`.
"""

import argparse
import contextlib
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import ganzoo
from ganzoo.zoo.command import parse_assignment

WARM_UP, TIMED = 20, 60


class Enough(Exception):
    pass


def step_seconds(settings: dict[str, Any], architecture: str) -> float:
    """Of a training with these settings, warmed up."""
    times = []

    def on_step(step: int) -> None:
        times.append(time.perf_counter())
        if step == WARM_UP + TIMED:
            raise Enough

    quiet = {"log_every": 10**6, "sample_every": 10**6, "checkpoint_every": 10**6, "steps": 10**6}
    with tempfile.TemporaryDirectory() as folder:
        config = ganzoo.TrainConfig(architecture, **{**settings, **quiet, "out": f"{folder}/run"})
        with contextlib.suppress(Enough):
            ganzoo.train(config, on_step=on_step)
    return (times[-1] - times[WARM_UP - 1]) / TIMED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--base", default="", help="settings of every candidate")
    parser.add_argument("--try", dest="candidates", action="append", default=[], help="settings of one candidate")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--out", type=Path, help="keep the runs there; results go to results.jsonl in it")
    options = parser.parse_args()
    logging.getLogger("ganzoo").setLevel(logging.ERROR)
    if options.threads:
        torch.set_num_threads(options.threads)
    evaluator = ganzoo.Evaluator(options.data, data_dir=options.data_dir, metrics=("fid", "prdc", "modes"))
    print("| settings | steps | seconds | fid | x floor | precision | recall | kl | confident |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        taken = len(list(out.glob("run*")))
        for i, candidate in enumerate(options.candidates or [""], taken):
            for seed in range(options.seeds):
                settings = dict(parse_assignment(text) for text in f"{options.base} {candidate}".split())
                if isinstance(settings.get("penalties"), str):
                    settings["penalties"] = settings["penalties"].split(",")
                settings |= {"data": options.data, "data_dir": options.data_dir, "seed": seed}
                each = step_seconds(settings, options.architecture)
                often = {"log_every": 200, "sample_every": 10**6, "checkpoint_every": 10**6}
                settings |= often | {
                    "steps": max(1, int(options.seconds / each)),
                    "out": str(out / f"run{i:03d}-{seed}"),
                }
                run = ganzoo.train(ganzoo.TrainConfig(options.architecture, **settings))
                result = evaluator(run.generator)
                row = {"settings": candidate, "seed": seed, "steps": run.step, "seconds": run.metrics["seconds"]}
                row |= {"fid_multiple": result.fid_multiple, **result.values}
                with open(out / "results.jsonl", "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                shown = [f"{row[key]:.3g}" if row.get(key) is not None else "" for key in (
                    "fid", "fid_multiple", "precision", "recall", "kl", "confident")]  # fmt: skip
                name = f"`{candidate}`" + (f" seed {seed}" if options.seeds > 1 else "")
                print(f"| {name} | {run.step} | {row['seconds']:.0f} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
