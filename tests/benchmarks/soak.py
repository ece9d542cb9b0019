"""The memory of a long run that writes all the time: a tiny network with a log line, a picture, a page and a checkpoint
every few steps.

    python tests/benchmarks/soak.py --minutes 60

Prints the resident memory as time passes. It has to be flat after the first minutes. `--trace` adds the places in
Python that hold the most memory which was not held after the first tenth of the time.
"""

import argparse
import contextlib
import resource
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import ganzoo

EVERY = 5
"""Steps between log lines, pictures and checkpoints."""
ROWS = 20
"""Lines that are printed."""
SHOWN = 15
"""Places that a trace names."""


def resident() -> float:
    """Megabytes of this process in memory; where the system does not tell, the most that they have been."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--trace", action="store_true", help="slower: say which code holds what is left")
    options = parser.parse_args()
    seconds, began, shown = 60 * options.minutes, time.monotonic(), 0
    before: tracemalloc.Snapshot | None = None

    def watch(entry: dict[str, Any]) -> None:
        nonlocal shown, before
        passed = time.monotonic() - began
        if options.trace and before is None and passed > seconds / 10:
            tracemalloc.start(8)
            before = tracemalloc.take_snapshot()
        if passed * ROWS >= shown * seconds:
            shown += 1
            print(f"{passed / 60:5.1f} min  {entry['step']:9,} steps  {resident():7.1f} MB", flush=True)
        if passed > seconds:
            raise KeyboardInterrupt

    layers: dict[str, Any] = {"hidden": [16]}
    with tempfile.TemporaryDirectory() as folder:
        config = ganzoo.TrainConfig(
            "vanilla", generator=layers, discriminator=layers, batch_size=8, steps=10**9, log_every=EVERY,
            sample_every=EVERY, checkpoint_every=EVERY, out=f"{folder}/run", device="cpu",
        )  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt):
            ganzoo.train(config, on_log=watch)
    if before is not None:
        for line in tracemalloc.take_snapshot().compare_to(before, "lineno")[:SHOWN]:
            print(line)


if __name__ == "__main__":
    main()
