"""What a GPU would have to start, and what the host would wait for: the kernel launches and copies of a training step,
and the host's waits for the device in a log line, a picture, a checkpoint and an evaluation.

    python tests/benchmarks/launches.py
    python tests/benchmarks/launches.py sngan "dcgan, dragan"

`make bench BENCH="--only launches"` prints the same table.

They are counted on the simulated GPU of the tests (tests/simulated.py), so no GPU is needed. A launch is an operator of
torch that runs a kernel, forward or backward; a library may start several for one. The networks are those of the
default recipes on the digits, but narrow, as neither widths nor the size of the batch change a count. A step has all
penalties of its recipe, also those that only some steps have.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))
import ganzoo
import offline
from crash import Crash
from ganzoo.training.recorder import Recorder
from ganzoo.zoo.plugins import registry
from simulated import Machine

OUTPUTS = {"log line": "log", "picture": "sample", "checkpoint": "checkpoint", "evaluation": "_measure"}
"""What a run writes besides its steps, and the method of `Recorder` that does it."""
DUE = {"log_every": 3, "sample_every": 4, "checkpoint_every": 5, "eval_every": 7}
"""Each of these is first due at a step of its own; the second step has none."""
NARROW: dict[str, dict[str, Any]] = {
    "vanilla": {"hidden": 16},
    "r3gan": {"width": 16},
    "stylegan2": {"channel_base": 128, "channel_max": 8},
}
BACKBONE = {"backbone": "tf_efficientnet_lite0", "weights": "random", "resolution": 64}
EXTRAS: dict[str, dict[str, Any]] = {
    "dcgan, spectral norm": {"discriminator": {"width": 4, "norm": "spectral"}},
    "dcgan, DiffAugment": {"augment": ["color", "translation", "cutout"]},
    "dcgan, ada": {"augment": ["ada"]},
    "dcgan, dragan": {"penalties": ["dragan"]},
    "dcgan, palette": {"generator": {"width": 4, "palette": 16}},
}
"""Cases besides the architectures. Only the one named after it has a palette, so that the others compare with the
counts from before there was one."""


def cases() -> list[str]:
    """Their names: the built-in architectures, and some of what goes with any of them."""
    entries = registry().architectures.items()
    return [*sorted(name for name, entry in entries if entry.plugin.startswith("ganzoo:")), *EXTRAS]


def settings_of(case: str) -> dict[str, Any]:
    """What `TrainConfig` takes for a case."""
    name = case.partition(",")[0]
    narrow = NARROW.get(name, {"width": 4})
    recipe = ganzoo.TrainConfig(name)
    settings: dict[str, Any] = {
        "architecture": name,
        "generator": {**narrow, "palette": 0} if "palette" in recipe.generator else narrow,
        "discriminator": {**narrow, **(BACKBONE if name == "projected" else {})},
        "penalties": [penalty.partition("@")[0] for penalty in recipe.penalties],
        "inputs": offline.INPUTS.get(name),
        "augment": [],
        "batch_size": 8,
        "precision": "fp32",
        **DUE,
        "eval_samples": 128,
    }
    if name == "wavegan":  # whose sounds have no figures
        settings |= {"data": "tones", "data_options": {"n": 100, "length": 256}, "eval_every": None}
    return {**settings, **EXTRAS.get(case, {})}


def count(case: str, out: str) -> dict[str, int]:
    """The `launches` and `uploads` of a step, and the waits of a `step` and of each of `OUTPUTS`.

    Args:
        case: one of `cases()`.
        out: the folder of the run that this leaves behind.
    """
    counts: dict[str, int] = {}

    def on_step(step: int) -> None:
        if step == 2:
            counts.update(launches=machine.launches.total(), uploads=machine.uploads.total())
            counts["step"] = machine.waits.total()
        if step == max(DUE.values()):
            raise Crash
        for counter in (machine.launches, machine.uploads, machine.waits):
            counter.clear()

    with Machine("cuda") as machine, contextlib.ExitStack() as stack:
        for what, name in OUTPUTS.items():
            method = _counted(machine, getattr(Recorder, name), what, counts)
            stack.enter_context(patch.object(Recorder, name, method))
        with contextlib.suppress(Crash):
            ganzoo.train(ganzoo.TrainConfig(**settings_of(case), steps=100, device="cuda", out=out), on_step=on_step)
    return counts


def _counted(machine: Machine, method: Callable[..., Any], what: str, counts: dict[str, int]) -> Callable[..., Any]:
    """The method, which also notes the waits of its first call."""

    def run(*arguments: Any) -> Any:
        before = machine.waits.total()
        try:
            return method(*arguments)
        finally:
            counts.setdefault(what, machine.waits.total() - before)

    return run


def count_all(names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The counts of these cases."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(names):
            print(f"launches: {case}", file=sys.stderr, flush=True)
            rows[case] = count(case, os.path.join(folder, str(i)))
    return rows


def table(rows: dict[str, dict[str, int]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    columns = ("launches", "uploads", "step", *OUTPUTS)
    outputs = " | ".join(f"of a {what}" for what in ("step", *OUTPUTS))
    yield f"| | launches of a step | copies to the device | waits {outputs} |".replace("a evaluation", "an evaluation")
    yield f"|---|{'---:|' * len(columns)}"
    for case, counts in rows.items():
        yield f"| {case} | {' | '.join(f'{counts[key]:,}' if key in counts else '' for key in columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(cases())}; by default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(cases()):
        parser.error(f"no case is called {sorted(unknown)[0]!r}: choose from {', '.join(cases())}")
    rows = count_all(options.cases or cases())
    print("\n".join(table(rows)))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
