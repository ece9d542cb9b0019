"""Damaged files of all kinds, each opened by a command in a process of its own: `make fuzz`.

    make fuzz FUZZ="--cases 100000 --state fuzz.json"
    make fuzz FUZZ="--seed 4711"

A case is a function of its seed: a kind of files (a model folder, a run folder, checkpoints from elsewhere, data,
settings), damage to one of them, with the hashes mended in half of the cases, and a command. It must end with exit code
0, or 1 and one line of ours on standard error, or 2, within bounds of time and memory, and change nothing outside its
folder. The first command goes on where it stopped; the second shows one case.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import corpus
import torch

from ganzoo.cli.app import main as ganzoo_main

CPU_SECONDS, SECONDS = 20, 120
"""The longest that a case may compute, and take; a whole one takes about a tenth of a second."""
MEMORY = 1 << 30
"""The most bytes that a case may need beyond those of the process that it is forked from."""
CRASHED = 70
"""The exit code of a case that ended with another exception than ours."""


def run(seed: int, whole: Path, kinds: dict[str, corpus.Kind], place: Path) -> tuple[str, str]:
    """Carry out one case.

    Args:
        seed: of the case.
        whole: the folder with the files of each kind.
        kinds: the kinds.
        place: an empty folder for the case.

    Returns:
        The kind, and what is wrong; empty if nothing is.
    """
    rng = random.Random(seed)
    name = rng.choice(sorted(kinds))
    kind = kinds[name]
    command = rng.choice(kind.commands)
    folder = place / "case"
    shutil.copytree(whole / name, folder)
    kind.damage(rng, folder)
    canary = place / "canary"
    canary.mkdir()
    (canary / "alive").write_text("alive")
    report = place / "report"
    child = os.fork()
    if not child:
        _child(folder, command, report)
    status = _wait(child)
    text = report.read_text(errors="replace") if report.exists() else ""
    fault = ""
    if status is None:
        fault = f"took more than {SECONDS} s"
    elif os.WIFSIGNALED(status):
        fault = f"died of {signal.Signals(os.WTERMSIG(status)).name}"
    elif (code := os.WEXITSTATUS(status)) not in (0, 1, 2):
        fault = f"ended with exit code {code}"
    elif code == 1 and sum(line.startswith("ganzoo: error: ") for line in text.splitlines()) != 1:
        fault = "failed without one line that says why"
    elif sorted(os.listdir(place)) != ["canary", "case", "report"] or (canary / "alive").read_text() != "alive":
        fault = "wrote outside of its folder"
    return name, f"{' '.join(command)}: {fault}\n{text[-1500:]}" if fault else ""


def _child(folder: Path, command: list[str], report: Path) -> None:
    """Carry out a command line, and end the process."""
    code = CRASHED
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.argv = ["ganzoo", *command]
        try:
            ganzoo_main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BaseException:  # noqa: BLE001  (whatever it is, it is what is looked for)
            traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _warm_up(whole: Path, kinds: dict[str, corpus.Kind]) -> None:
    """Carry out every command on undamaged files in this process, so that the cases need not import what it imports."""
    before, arguments = Path.cwd(), sys.argv
    for name, kind in kinds.items():
        for command in kind.commands:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(whole / name, folder, dirs_exist_ok=True)
                os.chdir(folder)
                sys.argv = ["ganzoo", *command]
                try:
                    with contextlib.redirect_stdout(said := io.StringIO()), contextlib.redirect_stderr(said):
                        ganzoo_main()
                except SystemExit as ended:
                    if ended.code:
                        sys.exit(f"{' '.join(command)} fails on undamaged files:\n{said.getvalue()}")
                finally:
                    os.chdir(before)
                    sys.argv = arguments
    gc.freeze()  # a collection in a case would copy what it shares with this process


def _wait(child: int) -> int | None:
    """The status that a process ended with; None if it had to be killed. Only the pauses count, so that no case fails
    because the machine was suspended."""
    pause, waited = 0.001, 0.0
    while waited < SECONDS:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        waited += pause
        pause = min(0.02, pause * 1.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def fuzz(seeds: range) -> tuple[Counter[str], dict[int, str]]:
    """Carry out the cases of some seeds.

    Returns:
        The number of cases of each kind, and what is wrong by seed.
    """
    counts: Counter[str] = Counter()
    faults: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as whole:
        os.environ |= {"GANZOO_CACHE": f"{whole}/cache", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        torch.set_num_threads(1)
        kinds = corpus.make(Path(whole))
        _warm_up(Path(whole), kinds)
        for seed in seeds:
            with tempfile.TemporaryDirectory() as place:
                name, fault = run(seed, Path(whole), kinds, Path(place))
            counts[name] += 1
            if fault:
                faults[seed] = fault
                print(f"seed {seed} ({name}): {fault}", file=sys.stderr, flush=True)
    return counts, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="the number of cases in all")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first case")
    parser.add_argument("--seed", type=int, help="one case alone")
    parser.add_argument("--state", type=Path, metavar="FILE", help="how far it came, to go on from there")
    options = parser.parse_args()
    if options.seed is not None:
        _, faults = fuzz(range(options.seed, options.seed + 1))
        sys.exit(bool(faults))
    state: dict[str, Any] = {"done": 0, "counts": {}, "faults": {}}
    if options.state and options.state.exists():
        state = json.loads(options.state.read_text())
    while state["done"] < options.cases:
        first = options.first + state["done"]
        seeds = range(first, first + min(500, options.cases - state["done"]))
        counts, faults = fuzz(seeds)
        state["counts"] = dict(Counter(state["counts"]) + counts)
        state["faults"] |= {str(seed): fault for seed, fault in faults.items()}
        state["done"] += len(seeds)
        print(f"{state['done']:,} cases, {len(state['faults'])} faults", file=sys.stderr, flush=True)
        if options.state:
            options.state.write_text(json.dumps(state, indent=1) + "\n")
    print(f"{state['done']:,} cases: {', '.join(f'{n:,} {kind}' for kind, n in sorted(state['counts'].items()))}")
    print(f"{len(state['faults'])} faults{': seeds ' + ', '.join(state['faults']) if state['faults'] else ''}")
    sys.exit(bool(state["faults"]))


if __name__ == "__main__":
    main()
