"""The leaderboard of docs/results.md: what the recipes reach, from the records of their runs.

    python tests/benchmarks/leaderboard.py runs/dcgan-0 runs/dcgan-1 --data mnist --data-dir ~/data
    python tests/benchmarks/leaderboard.py

The first measures finished runs by `ganzoo eval` and puts a record of each into docs/leaderboard.json, in place of an
older one of the same command. Both write the table from the records. Runs that differ in their seed alone are one row.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from run import write_between_marks

import ganzoo
from ganzoo.store.results import Result, compare
from ganzoo.store.runs import read_training
from ganzoo.zoo.command import train_command

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "docs" / "leaderboard.json"
PAGE = ROOT / "docs" / "results.md"
MARKS = ("<!-- leaderboard -->\n", "<!-- /leaderboard -->\n")
FIGURES = ("precision", "recall", "kl", "confident")
OFTEN = ("log_every", "sample_every", "checkpoint_every", "eval_every", "eval_samples", "eval_features", "out")
"""Settings that do not change what is learned."""


def record(folder: Path, evaluator: ganzoo.Evaluator) -> dict[str, Any]:
    """What the table shows of a finished run."""
    config, training = read_training(folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    if lines[-1]["step"] != config.steps:
        raise SystemExit(f"{folder} stopped at step {lines[-1]['step']} of {config.steps}: ganzoo train --resume it")
    g = ganzoo.from_pretrained(f"{folder}/")
    shown = {key: value for key, value in config.to_dict().items() if key not in (*OFTEN, "seed")}
    measured = [line for line in lines if "fid" in line]
    return {
        "command": train_command(shown),
        "seed": config.seed,
        "parameters": sum(p.numel() for p in g.parameters()),
        "steps": config.steps,
        "images": config.steps * config.batch_size * config.n_critic,
        "seconds": round(lines[-1]["seconds"], 1),
        "hardware": training["hardware"],
        "curve": [{key: line[key] for key in ("step", "seconds", "fid")} for line in measured],
        "result": evaluator(g, source=config.architecture, kind="ema").to_dict(),
    }


def spread(values: list[float], digits: int = 3) -> str:
    text = f"{mean(values):,.{digits}g}"
    return f"{text} ± {stdev(values):.1g}" if len(values) > 1 else text


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Rows by fid, best first."""
    results = [Result(**{key: value for key, value in r["result"].items() if key != "fid_multiple"}) for r in records]
    compare(results)
    floor = results[0].floor or {}
    rows: dict[str, list[int]] = {}
    for i, one in enumerate(records):
        rows.setdefault(one["command"], []).append(i)
    heads = "seeds", "fid, x floor", "best on the way", *FIGURES, "minutes", "images seen", "parameters"
    yield f"| | {' | '.join(heads)} |"
    yield f"|---|{'---:|' * len(heads)}"

    def fid(chosen: list[int]) -> float:
        return mean(results[i].values["fid"] for i in chosen)

    for command, chosen in sorted(rows.items(), key=lambda row: fid(row[1])):
        ours = [records[i] for i in chosen]
        best = [min([r["result"]["values"]["fid"], *(point["fid"] for point in r["curve"])]) for r in ours]
        cells = [
            f"`{command}`",
            str(len(chosen)),
            spread([results[i].fid_multiple or results[i].values["fid"] for i in chosen]),
            spread([value / floor.get("fid", 1) for value in best]),
            *(spread([results[i].values[name] for i in chosen], 2) for name in FIGURES),
            spread([r["seconds"] / 60 for r in ours], 2),
            f"{ours[0]['images'] / 1e6:.2f} M",
            f"{ours[0]['parameters'] / 1e6:.2f} M",
        ]
        yield f"| {' | '.join(cells)} |"
    if floor:
        real = " | ".join(f"{floor[name]:.2g}" for name in FIGURES)
        yield f"| {floor['n']:,.0f} real test images | | 1 | | {real} | | | |"
    features, generated, reference = (results[0].protocol[key] for key in ("features", "generated", "reference"))
    yield ""
    yield (
        f"{generated['n']:,} samples against {reference['n']:,} images of {results[0].protocol['data']}, "
        f"`{features['name']}` features. The floor is a FID of {floor.get('fid', 0):.3g}. Minutes are those of "
        f"training without the measurements, on {' or '.join(sorted({r['hardware'] for r in records}))}. ± is the "
        "standard deviation between seeds."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--threads", type=int, help="of torch")
    options = parser.parse_args()
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    records = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else []
    if options.runs:
        evaluator = ganzoo.Evaluator(options.data, data_dir=options.data_dir, metrics=("fid", "prdc", "modes"))
        for run in options.runs:
            new = record(run, evaluator)
            same = [r for r in records if (r["command"], r["seed"]) == (new["command"], new["seed"])]
            records = [r for r in records if r not in same] + [new]
        records.sort(key=lambda r: (r["command"], r["seed"]))
        RECORDS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    write_between_marks(PAGE, list(table(records)), MARKS)


if __name__ == "__main__":
    main()
