"""Trials: a training of given CPU time on one set of pictures, and its measurement, each in a process of its own.

`run` makes trials, two or more at once, and appends the result of each to `results.jsonl` in their folder. Trials whose
results are there already are not made again, so that a list of hours can be stopped and continued.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from pictures import pictures

import ganzoo
from ganzoo.zoo.command import parse_assignment

WARM_UP, TIMED = 16, 48
Row = dict[str, Any]


class Enough(Exception):
    pass


def settings_of(text: str) -> dict[str, Any]:
    """The settings that `ganzoo train --set` would take from each word of the text."""
    settings = dict(parse_assignment(word) for word in text.split())
    for key in ("penalties", "augment"):
        if key in settings:
            value = settings[key]
            settings[key] = value.split(",") if isinstance(value, str) else value or []
    return settings


def cpu_seconds(architecture: str, settings: dict[str, Any]) -> float:
    """Of a step of a training with these settings, warmed up."""
    times: list[float] = []

    def on_step(step: int) -> None:
        times.append(time.process_time())
        if step == WARM_UP + TIMED:
            raise Enough

    quiet = {"log_every": 10**6, "sample_every": 10**6, "checkpoint_every": 10**6, "steps": 10**6}
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Enough):
        ganzoo.train(ganzoo.TrainConfig(architecture, **{**settings, **quiet, "out": f"{folder}/run"}), on_step=on_step)
    return (times[-1] - times[WARM_UP - 1]) / TIMED


def trial(job: Row) -> Row:
    """Train and measure.

    Args:
        job: "architecture", "recipe", "settings" (text), "set", "seed", "seconds" of CPU time, the folder "data_dir" of
            the sets, the folder "out" and the "name" of the run in it, "features" (a file of weights, or None), the
            number of "samples", the "feature_precision", and the "metrics".

    Returns:
        The job with the run's "steps" and "cpu" seconds, and the figures; or with the "error" of a run that diverged.
    """
    logging.getLogger("ganzoo").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    chosen = pictures(Path(job["data_dir"]), Path(job["out"]))[job["set"]]
    settings = settings_of(job["settings"])
    settings |= {"recipe": job["recipe"], "data": chosen.data, "data_dir": chosen.data_dir, "seed": job["seed"]}
    run_folder = Path(job["out"]) / job["name"]
    try:
        steps = max(1, round(job["seconds"] / cpu_seconds(job["architecture"], settings)))
        every = max(1, steps // 4)
        settings |= {"steps": steps, "sample_every": every, "checkpoint_every": every, "out": str(run_folder)}
        began_at = time.process_time()
        run = ganzoo.train(ganzoo.TrainConfig(job["architecture"], **settings))
        row = {**job, "steps": run.step, "cpu": time.process_time() - began_at}
        features = {} if job["features"] is None else {"features": f"auto={job['features']}"}
        against = {"data": chosen.data, "data_dir": chosen.data_dir, **chosen.against, **features}
        evaluator = ganzoo.Evaluator(
            **against, metrics=job["metrics"], n=job["samples"], precision=job["feature_precision"]
        )
        result = evaluator(run.generator)
    except ganzoo.GanzooError as error:
        return {**job, "error": str(error)}
    return {**row, **result.values, "fid_multiple": result.fid_multiple}


def run(jobs: Sequence[Row], out: Path, at_once: int) -> Iterator[Row]:
    """The results of trials, as they come, `at_once` of them at a time, each with one thread.

    Args:
        jobs: as for `trial`, without "out" and "name".
        out: the folder of the runs and of the results.
        at_once: the number of processes.
    """
    out.mkdir(parents=True, exist_ok=True)
    known = out / "results.jsonl"
    rows: list[Row] = [json.loads(line) for line in known.read_text().splitlines()] if known.exists() else []

    def result(job: Row) -> Row:
        for earlier in rows:
            if job.items() <= earlier.items():
                return earlier
        name = f"{job['architecture']}-{job['set']}-{time.time_ns() // 10**6 % 10**10:010d}"
        text = json.dumps({**job, "out": str(out), "name": name})
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        output = subprocess.run(
            [sys.executable, __file__, text], env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        row: Row = json.loads(output.splitlines()[-1])
        with open(known, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return row

    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(result, jobs)


if __name__ == "__main__":
    print(json.dumps(trial(json.loads(sys.argv[1]))))
