"""What the page of a run and its trackers cost while it trains: shares of the time of DCGAN's default recipe.

Each tracker has a training in a process of its own, on one thread of torch, so that everything which another thread
computes belongs to what records. Of the steps after the start: the time in which the training's own thread writes the
page or hands something over, and the processor time of all other threads and of child processes, both over the time
that the steps took. The last of these shares is what a machine without a processor to spare would lose.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRACKERS = ("none", "csv", "tensorboard", "trackio", "wandb")
WARM_UP = 50
"""Steps after which the measurement begins: libraries are imported by then."""


def recording(quick: bool) -> dict[str, dict[str, float]]:
    """By tracker: `training`, the share of the training's own thread, `beside`, that of everything else, and `page`,
    that of the page.

    Args:
        quick: 100 steps with a picture, in place of 500.
    """
    found = {}
    for name in TRACKERS:
        print(f"bench: recording: {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            places = {"WANDB_DIR": folder, "TRACKIO_DIR": folder, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
            command = [sys.executable, __file__, name, str(100 if quick else 500)]
            environment = {**os.environ, **places, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"bench: recording with {name} failed:\n{done.stderr}")
            found[name] = json.loads(done.stdout)
    return found


def children() -> float:
    """Seconds of processor time of the processes that this one has started, where /proc tells."""
    seconds = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == os.getpid():
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def measure(tracker: str, steps: int) -> dict[str, float]:
    """One training, in this process."""
    import ganzoo
    from ganzoo.report.page import RunPage
    from ganzoo.report.trackers import Tracking

    spent = {"page": 0.0, "handed": 0.0}

    def timed(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[what] += time.perf_counter() - began

        return run

    RunPage.write = timed("page", RunPage.write)  # type: ignore[method-assign]
    Tracking.log = timed("handed", Tracking.log)  # type: ignore[method-assign]
    Tracking.picture = timed("handed", Tracking.picture)  # type: ignore[method-assign]
    marks: list[tuple[float, float, dict[str, float]]] = []

    def on_step(step: int) -> None:
        if step in (WARM_UP, WARM_UP + steps):
            beside = time.process_time() - time.thread_time() + children()
            marks.append((time.perf_counter(), beside, dict(spent)))

    ganzoo.train(
        "dcgan", on_step=on_step, device="cpu", out="run", steps=WARM_UP + steps + 1, sample_every=steps,
        track=[] if tracker == "none" else [tracker],
    )  # fmt: skip
    (began, beside_before, before), (ended, beside_after, after) = marks
    seconds = ended - began
    return {
        "training": (after["handed"] - before["handed"]) / seconds,
        "page": (after["page"] - before["page"]) / seconds,
        "beside": (beside_after - beside_before) / seconds,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
