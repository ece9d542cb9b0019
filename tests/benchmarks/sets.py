"""The table of docs/sets.md: every default recipe on seven sets of pictures, for the same CPU time.

    python tests/benchmarks/sets.py --data-dir ~/data --out runs/sets --jobs 2
    python tests/benchmarks/sets.py

The first trains what is missing in runs/sets, hours of it, measures it, and writes docs/sets.json and a picture of each
set. Both write the table from docs/sets.json.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from pictures import pictures
from PIL import Image, ImageDraw, ImageFont
from run import write_between_marks
from trial import Row, run

import ganzoo
from ganzoo.sampling.pictures import to_uint8

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = DOCS / "sets.json"
PAGE = DOCS / "sets.md"
MARKS = ("<!-- sets -->\n", "<!-- /sets -->\n")
SECONDS = 600
SEEDS = {"dcgan": 3}
TEXTBOOK = {"dcgan": "paper", "vanilla": "textbook", "wgan": "paper"}
"""The recipes that many tutorials have, for comparison."""
SHOWN = ("fid_multiple", "fid", "kid", "precision", "recall", "diversity", "diversity_pixels")
SAMPLES, ZOOM, LABEL = 16, 1, 150


def jobs(data_dir: Path, out: Path, features: str | None) -> list[Row]:
    """One trial for each architecture and set; three for `dcgan`."""
    recipes = [(name, "default", seed) for name in ARCHITECTURES for seed in range(SEEDS.get(name, 1))]
    recipes += [(name, recipe, 0) for name, recipe in TEXTBOOK.items()]
    shared = {"settings": "", "seconds": SECONDS, "data_dir": str(data_dir), "features": features, "samples": None}
    shared |= {"feature_precision": "fp32", "metrics": None}
    return [
        {**shared, "architecture": name, "recipe": recipe, "seed": seed, "set": of}
        for name, recipe, seed in recipes
        for of in pictures(data_dir, out)
    ]


ARCHITECTURES = ("dcgan", "vanilla", "wgan", "wgan_gp", "sngan", "infogan", "vaegan", "projected", "r3gan")


def label(row: Row) -> str:
    own = "" if row["recipe"] == "default" else f" --recipe {row['recipe']}"
    return f"{row['architecture']}{own}"


def picture(rows: list[Row]) -> Image.Image:
    """A line of samples of each row, of seed 0 and unselected, under one another."""
    strips = []
    for row in rows:
        g = ganzoo.from_pretrained(str(Path(row["out"]) / row["name"]))
        samples = to_uint8(ganzoo.sample(g, SAMPLES, seed=0))
        strips.append(np.concatenate(list(samples.repeat(3, 3) if samples.shape[3] == 1 else samples), 1))
    height, width = strips[0].shape[:2]
    sheet = Image.new("RGB", (LABEL + width, (height + 2) * len(strips)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (row, strip) in enumerate(zip(rows, strips, strict=True)):
        pen.text((2, i * (height + 2) + height // 2 - 6), label(row), font=ImageFont.load_default(10), fill="black")
        sheet.paste(Image.fromarray(strip), (LABEL, i * (height + 2)))
    return sheet


def cell(rows: list[dict[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return ""
    return f"{mean(values):.3g}" + (f" ± {stdev(values):.1g}" if len(values) > 1 else "")


def table(records: list[dict[str, Any]]) -> list[str]:
    """For each set a heading, a picture and a table, the best row first."""
    lines = []
    for of in dict.fromkeys(row["set"] for row in records):
        own: dict[str, list[dict[str, Any]]] = {}
        for row in records:
            if row["set"] == of:
                own.setdefault(label(row), []).append(row)
        figure = "fid" if any("fid" in row for row in records if row["set"] == of) else "kid"
        names = [name for name in SHOWN if name == figure or name not in ("fid", "kid", "fid_multiple")]
        names = (["fid_multiple"] if figure == "fid" else []) + names
        heads = {"fid_multiple": "fid, x floor", "diversity": "diversity", "diversity_pixels": "in pixels"}
        lines += [f"### {of}", "", f"![samples of each architecture on {of}](_static/sets-{of}.png)", ""]
        lines += [
            f"| | {' | '.join(heads.get(name, name) for name in names)} | steps |",
            f"|---|{'---:|' * (len(names) + 1)}",
        ]
        for shown, rows in sorted(own.items(), key=lambda item: mean(row.get(figure, 1e9) for row in item[1])):
            cells = " | ".join(cell(rows, name) for name in names)
            lines.append(f"| `{shown}` | {cells} | {mean(row['steps'] for row in rows):,.0f} |")
        lines.append("")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--features", help="FILE with the weights of the features of colour pictures")
    parser.add_argument("--out", type=Path, default=Path("runs/sets"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each with one thread")
    options = parser.parse_args()
    if options.data_dir:
        rows = run(jobs(options.data_dir, options.out, options.features), options.out, options.jobs)
        kept = ("architecture", "recipe", "seed", "set", "steps", "cpu", "error", *SHOWN)
        RECORDS.write_text(json.dumps([{k: row[k] for k in kept if k in row} for row in rows], indent=1) + "\n")
        for of in dict.fromkeys(row["set"] for row in rows):
            chosen = [row for row in rows if row["set"] == of and row["seed"] == 0 and "error" not in row]
            picture(chosen).save(DOCS / "_static" / f"sets-{of}.png", optimize=True)
    write_between_marks(PAGE, table(json.loads(RECORDS.read_text())), MARKS)


if __name__ == "__main__":
    main()
