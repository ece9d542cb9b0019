"""Search for a recipe that suits all pictures: train each candidate on each set for the same CPU time, measure, and let
the better half go on for longer.

    python tests/benchmarks/search.py dcgan --data-dir ~/data --seconds 120 --rounds 2 --jobs 2 --out runs/search \
        --base "precision=bf16" --try "lr=1e-3" --try "lr=2e-3 pack=2 penalties=r1=1@8"

A candidate is settings as `ganzoo train --set` takes them, laid over the default recipe and --base. Its CPU time for a
step is measured first, and the number of steps set so that the whole training takes the time given: schedules fall
over those steps. Each training has one thread. On each set the candidates are ranked by fid, with 2,000 samples and
features in bf16; a collapsed one (diversity near 0) comes last. The mean of the ranks decides, and the table shows the
worst set beside it. A search that was stopped goes on where it was.
"""

import argparse
from pathlib import Path

from pictures import pictures
from trial import Row, run

MEASURED = {"samples": 2000, "feature_precision": "bf16", "metrics": ["fid", "prdc", "diversity"]}
DIVERSITY = 0.3
"""Below this, in pixels or in features, a training has collapsed."""


def collapsed(row: Row) -> bool:
    return "error" in row or min(row["diversity"], row["diversity_pixels"]) < DIVERSITY


def rank(rows: list[Row]) -> list[tuple[float, float, str]]:
    """For each candidate the mean of its ranks, its worst fid as a multiple of the best one on that set, and its
    settings; the best candidate first."""
    ranks: dict[str, list[int]] = {}
    worst: dict[str, float] = {}
    for name in {row["set"] for row in rows}:
        own = [row for row in rows if row["set"] == name]
        own.sort(key=lambda row: (collapsed(row), row.get("fid", float("inf"))))
        for i, row in enumerate(own):
            multiple = float("inf") if collapsed(row) else row["fid"] / own[0]["fid"]
            ranks.setdefault(row["settings"], []).append(i + 1)
            worst[row["settings"]] = max(worst.get(row["settings"], 0.0), multiple)
    return sorted((sum(values) / len(values), worst[settings], settings) for settings, values in ranks.items())


def table(rows: list[Row], sets: list[str], base: str) -> list[str]:
    """The lines of a table of the candidates, the best first: fid on each set, with a star where it collapsed."""
    lines = [
        "| settings | mean rank | worst, x best | " + " | ".join(sets) + " |",
        "|---|---:|---:|" + "---:|" * len(sets),
    ]
    for mean, worst, settings in rank(rows):
        cells = []
        for name in sets:
            row = next(row for row in rows if row["set"] == name and row["settings"] == settings)
            cells.append("failed" if "error" in row else f"{row['fid']:.3g}" + ("*" if collapsed(row) else ""))
        shown = settings.removeprefix(base).strip() or "(the base)"
        lines.append(f"| `{shown}` | {mean:.2f} | {worst:.2f} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--set", dest="sets", action="append", help="one of the sets; all of them if left out")
    parser.add_argument("--features", help="FILE with the weights of the features of colour pictures")
    parser.add_argument("--seconds", type=float, default=120, help="CPU time of each training of the first round")
    parser.add_argument("--longer", type=float, default=2.5, help="the factor of the time from one round to the next")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--base", default="", help="settings of every candidate")
    parser.add_argument("--try", dest="candidates", action="append", default=[], help="settings of one candidate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each with one thread")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the runs and of results.jsonl")
    options = parser.parse_args()
    sets = options.sets or list(pictures(options.data_dir, options.out))
    candidates, seconds = [f"{options.base} {text}".strip() for text in options.candidates or [""]], options.seconds
    shared = {"architecture": options.architecture, "recipe": options.recipe, "seed": options.seed, **MEASURED}
    shared |= {"data_dir": str(options.data_dir), "features": options.features}
    for _ in range(options.rounds):
        jobs = [
            {**shared, "settings": settings, "set": name, "seconds": seconds}
            for settings in candidates
            for name in sets
        ]
        rows = list(run(jobs, options.out, options.jobs))
        print(f"\n{seconds:.0f} seconds of CPU time each:\n")
        print("\n".join(table(rows, sets, options.base)), flush=True)
        candidates = [settings for _, _, settings in rank(rows)[: -(-len(candidates) // 2)]]
        seconds *= options.longer


if __name__ == "__main__":
    main()
