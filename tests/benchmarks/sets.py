"""The tables of docs/sets.md: every default recipe on seven sets of pictures, for the same CPU time.

    python tests/benchmarks/sets.py --data-dir ~/data --out runs/sets --jobs 2
    python tests/benchmarks/sets.py

The first trains and measures what is missing in docs/sets.json, hours of it. After each training it writes that file,
a picture of samples and the table, so that it can be stopped, and the results committed, at any time. Both write the
table from docs/sets.json. A row whose recipe has changed since is missing too: it is trained anew.
"""

import argparse
import hashlib
import json
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from PIL import Image
from run import write_between_marks
from trial import Row, run

import ganzoo
from ganzoo.sampling.pictures import to_uint8
from ganzoo.zoo.plugins import registry

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = DOCS / "sets.json"
PICTURES = DOCS / "_static" / "sets"
PAGE = DOCS / "sets.md"
MARKS = ("<!-- sets -->\n", "<!-- /sets -->\n")
SECONDS = 600
SEEDS = {"dcgan": 3}
TEXTBOOK = {"dcgan": "paper", "vanilla": "textbook", "wgan": "paper"}
"""The recipes that many tutorials have, for comparison."""
SHOWN = ("fid_multiple", "fid", "kid", "precision", "recall", "diversity", "diversity_pixels")
IDENTITY = ("architecture", "recipe", "recipe_digest", "seed", "set")
SETS = ("digits", "mnist", "fashion_mnist", "nouns", "cifar10", "emoji", "nouns-300")
ARCHITECTURES = ("dcgan", "vanilla", "wgan", "wgan_gp", "sngan", "infogan", "vaegan", "projected", "r3gan")
SAMPLES = 16


def jobs(data_dir: Path, features: str | None) -> list[Row]:
    """One trial for each architecture and set, then the other seeds and recipes, so that gaps show early."""
    recipes = [(name, "default", 0) for name in ARCHITECTURES]
    recipes += [(name, "default", seed) for name, seeds in SEEDS.items() for seed in range(1, seeds)]
    recipes += [(name, recipe, 0) for name, recipe in TEXTBOOK.items()]
    own = {} if features is None else {"projected": f"discriminator.weights={features}"}
    shared = {"seconds": SECONDS, "data_dir": str(data_dir), "features": features, "samples": None}
    shared |= {"feature_precision": "fp32", "metrics": None}
    return [
        {
            **shared,
            "settings": own.get(name, ""),
            "architecture": name,
            "recipe": recipe,
            "recipe_digest": digest(name, recipe),
            "seed": seed,
            "set": of,
        }
        for name, recipe, seed in recipes
        for of in SETS
    ]


def digest(architecture: str, recipe: str) -> str:
    """Of the recipe's settings, by which a record shows that they have changed."""
    settings = (registry().architecture(architecture).recipes or {})[recipe]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def label(row: Row) -> str:
    own = "" if row["recipe"] == "default" else f" --recipe {row['recipe']}"
    return f"{row['architecture']}{own}"


def picture_of(row: Row) -> Path:
    """Where the samples of a row lie."""
    return PICTURES / f"{row['set']}-{label(row).replace(' --recipe ', '-')}.png"


def keep(row: Row) -> Row:
    """What is recorded of a trial's result. Unselected samples of its run are drawn if its seed is 0."""
    if row["seed"] == 0 and "error" not in row:
        g = ganzoo.from_pretrained(str(Path(row["out"]) / row["name"]))
        strip = np.concatenate(list(to_uint8(ganzoo.sample(g, SAMPLES, seed=0))), 1)
        PICTURES.mkdir(exist_ok=True)
        Image.fromarray(strip.squeeze(2) if strip.shape[2] == 1 else strip).save(picture_of(row), optimize=True)
    return {key: row[key] for key in (*IDENTITY, "steps", "cpu", "error", *SHOWN) if key in row}


def order(row: Row) -> tuple[int, int, str, int]:
    return SETS.index(row["set"]), ARCHITECTURES.index(row["architecture"]), row["recipe"], row["seed"]


def cell(rows: list[Row], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return ""
    return f"{mean(values):.3g}" + (f" ± {stdev(values):.1g}" if len(values) > 1 else "")


def by_label(records: list[Row], of: str) -> tuple[str, dict[str, list[Row]]]:
    """The figure that decides on a set, "fid" or "kid", and the records of each of its lines, the best first."""
    own: dict[str, list[Row]] = {}
    for row in records:
        if row["set"] == of:
            own.setdefault(label(row), []).append(row)
    figure = "fid" if any("fid" in row for rows in own.values() for row in rows) else "kid"
    return figure, dict(sorted(own.items(), key=lambda item: mean(row.get(figure, 1e9) for row in item[1])))


def overview(records: list[Row]) -> list[str]:
    """All sets side by side, the best of each in bold where there is more than one."""
    columns = {}
    for of in dict.fromkeys(row["set"] for row in records):
        figure, own = by_label(records, of)
        shown = "fid_multiple" if figure == "fid" else figure
        cells = {name: cell(rows, shown) or "failed" for name, rows in own.items()}
        if len(cells) > 1:
            best = next(iter(cells))
            cells[best] = f"**{cells[best]}**"
        columns[of if figure == "fid" else f"{of}, {figure}"] = cells
    in_order = sorted(records, key=lambda row: (row["recipe"] != "default", ARCHITECTURES.index(row["architecture"])))
    lines = [f"| fid, x floor | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name in dict.fromkeys(label(row) for row in in_order):
        lines.append(f"| `{name}` | {' | '.join(cells.get(name, '') for cells in columns.values())} |")
    return [*lines, ""]


def table(records: list[Row]) -> list[str]:
    """For each set a heading and a table with samples."""
    lines = []
    for of in dict.fromkeys(row["set"] for row in records):
        figure, own = by_label(records, of)
        names = [name for name in SHOWN if name == figure or name not in ("fid", "kid", "fid_multiple")]
        names = (["fid_multiple"] if figure == "fid" else []) + names
        heads = {"fid_multiple": "fid, x floor", "diversity_pixels": "in pixels"}
        lines += [f"## {of}", "", f"| | {' | '.join(heads.get(name, name) for name in names)} | steps | samples |"]
        lines += [f"|---|{'---:|' * (len(names) + 1)}---|"]
        for shown, rows in own.items():
            trained = [row["steps"] for row in rows if "error" not in row]
            steps = f"{mean(trained):,.0f}" if trained else ""
            errors = [f"failed: {row['error']}" for row in rows if "error" in row]
            drawn = any(row["seed"] == 0 and "error" not in row for row in rows)
            strip = "; ".join([*([f"![samples]({picture_of(rows[0]).relative_to(DOCS)})"] if drawn else []), *errors])
            cells = " | ".join(cell(rows, name) for name in names)
            lines.append(f"| `{shown}` | {cells} | {steps} | {strip} |")
        lines.append("")
    return lines


def write(records: list[Row]) -> None:
    write_between_marks(PAGE, [*overview(records), *table(records)], MARKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--features", help="FILE with the weights of the features of colour pictures")
    parser.add_argument("--out", type=Path, default=Path("runs/sets"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each with one thread")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, metavar="SET", help="only these sets")
    parser.add_argument(
        "--architectures",
        nargs="+",
        choices=ARCHITECTURES,
        default=ARCHITECTURES,
        metavar="ARCHITECTURE",
        help="only these",
    )
    options = parser.parse_args()
    records: list[Row] = json.loads(RECORDS.read_text()) if RECORDS.exists() else []
    if options.data_dir:
        wanted = {tuple(job[key] for key in IDENTITY): job for job in jobs(options.data_dir, options.features)}
        records = [row for row in records if wanted.pop(tuple(row[key] for key in IDENTITY), None)]
        missing = [
            job
            for job in wanted.values()
            if job["set"] in options.sets and job["architecture"] in options.architectures
        ]
        for row in run(missing, options.out, options.jobs):
            records = sorted([*records, keep(row)], key=order)
            RECORDS.write_text(json.dumps(records, indent=1) + "\n")
            write(records)
    write(records)


if __name__ == "__main__":
    main()
