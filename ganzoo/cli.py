"""The command line: thin commands over the Python API. stdout is data, stderr is talk; errors are mapped in one place.

torch is imported inside the commands that need it, so that `ganzoo list` and `--help` answer at once.
"""

import json
import logging
import os
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganzoo import plugins
from ganzoo.config import TrainConfig, merge, parse_assignment, read_file
from ganzoo.errors import ConfigError, GanzooError, SampleError, UnknownNameError, did_you_mean
from ganzoo.registry import Architecture, Component, DataSource, Entry, Weights

if TYPE_CHECKING:
    from torch import nn

app = typer.Typer(
    name="ganzoo",
    help="A zoo of generative adversarial networks: train, sample, share.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_FIRST = os.environ.get("RANK", "0") == "0"
"""Whether this is the one of torchrun's processes that talks."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print names or paths alone.")]


def main() -> None:
    """The console script. Exits 0, 1 after an error of ours (one line; GANZOO_DEBUG=1: the traceback), 2 for usage."""
    logger = logging.getLogger("ganzoo")
    logger.addHandler(_Talk())
    logger.setLevel(logging.INFO if _FIRST else logging.WARNING)
    logger.propagate = False
    try:
        app()
    except GanzooError as error:
        if os.environ.get("GANZOO_DEBUG") == "1":
            raise
        who = "" if _FIRST else f"process {os.environ['RANK']}: "
        print(f"ganzoo: error: {who}{_one_line(str(error))}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `ganzoo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _one_line(text: str) -> str:
    """Text that may quote a stranger's file, fit for a terminal: no line breaks, no control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class _Talk(logging.Handler):
    """Messages to whatever stderr is now: the live line stands in for it while it is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(f"ganzoo: {level}{_one_line(record.getMessage())}", file=sys.stderr)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def _print_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Left-aligned columns."""
    table = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ganzoo {version('ganzoo')}")
        raise typer.Exit


@app.callback()
def _root(
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Shell pattern, such as '*gan*'.")] = "*",
    losses: Annotated[bool, typer.Option("--losses", help="List losses.")] = False,
    penalties: Annotated[bool, typer.Option("--penalties", help="List penalties.")] = False,
    data: Annotated[bool, typer.Option("--data", help="List data sets.")] = False,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="List weights.")] = False,
    hub: Annotated[bool, typer.Option("--hub", help="Search the Hugging Face Hub for ganzoo models.")] = False,
    org: Annotated[str | None, typer.Option(help="With --hub: of this user or organisation alone.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List architectures, or what else is registered."""
    import fnmatch

    if hub:
        from ganzoo.hub import search

        models = [model for model in search(org) if fnmatch.fnmatch(model["id"], pattern)]
        if as_json:
            _print_json(models)
        elif quiet:
            for model in models:
                print(_one_line(model["id"]))
        elif models:
            rows = ((m["id"], str(m["commit"])[:12], m["license"], f"{m['downloads']} downloads") for m in models)
            _print_table(tuple(map(_one_line, row)) for row in rows)
        else:
            print("ganzoo: no ganzoo models found on the Hub", file=sys.stderr)
        return
    chosen = [
        kind
        for kind, wanted in (("losses", losses), ("penalties", penalties), ("data", data), ("weights", pretrained))
        if wanted
    ]
    if len(chosen) > 1:
        raise typer.BadParameter("choose one of --losses, --penalties, --data and --pretrained")
    kind = chosen[0] if chosen else "architectures"
    table: dict[str, Entry] = getattr(plugins.registry(), kind)
    found = [table[name] for name in sorted(fnmatch.filter(table, pattern))]
    if as_json:
        _print_json([_facts(entry) for entry in found])
    elif quiet:
        for entry in found:
            print(entry.name)
    elif found:
        _print_table((entry.name, *_columns(entry), _origin(entry)) for entry in found)
    elif table:
        print(f"ganzoo: no {kind} match {pattern!r}: {did_you_mean(pattern, table)}", file=sys.stderr)
    else:
        print(f"ganzoo: no {kind} are registered", file=sys.stderr)


def _columns(entry: Entry) -> tuple[str, ...]:
    if not isinstance(entry, Weights):
        return (entry.summary,)
    facts = entry.facts()
    size = f"{facts['size'] / 1e6:.1f} MB" if facts["size"] else ""
    pixels = f"{facts['image_size']} px" if facts["image_size"] else ""
    where = f"hf-hub:{entry.repo_id}@{str(entry.revision)[:12]}" if entry.repo_id else "in the package"
    return entry.summary, size, pixels, entry.license, facts["score"], where


def _origin(entry: Entry) -> str:
    package = entry.plugin.partition(":")[0]
    return "" if package == plugins.GROUP else f"[{package}]"


def _facts(entry: Entry) -> dict[str, Any]:
    """What `list --json` and `info` say of an entry, as JSON can hold it."""
    facts: dict[str, Any] = {"name": entry.name, "summary": entry.summary, "plugin": entry.plugin}
    if isinstance(entry, Architecture):
        facts |= {"paper": entry.paper, "loss": entry.loss, "recipes": sorted({"default", *(entry.recipes or {})})}
    elif isinstance(entry, Component):
        facts |= {"paper": entry.paper}
    elif isinstance(entry, DataSource):
        facts |= {"license": entry.license}
    elif isinstance(entry, Weights):
        facts |= {"license": entry.license, "repo_id": entry.repo_id, "path": entry.path, "revision": entry.revision}
        facts |= entry.facts()
    return facts


@app.command()
def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Anything that `ganzoo list` lists.")],
    as_json: Json = False,
) -> None:
    """Say all about one registered thing: settings, parameters, recipes, paper, licence, plugin."""
    tables = vars(plugins.registry())
    entries: list[tuple[str, Entry]] = [(kind, table[name]) for kind, table in tables.items() if name in table]
    if not entries:
        known = [known for table in tables.values() for known in table]
        raise UnknownNameError(f"nothing is called {name!r}: {did_you_mean(name, known)}")
    told = []
    for kind, entry in entries:
        facts = {"kind": kind, **_facts(entry)}
        if isinstance(entry, Architecture):
            from ganzoo.zoo import create

            facts["recipes"] = {"default": {}, **(entry.recipes or {})}
            for role, network in zip(("generator", "discriminator"), create(name), strict=True):
                size = sum(parameter.numel() for parameter in network.parameters())
                facts[role] = {"parameters": size, "settings": network.config}
        told.append(facts)
    if as_json:
        _print_json(told if len(told) > 1 else told[0])
        return
    for facts in told:
        rows = []
        for key, value in facts.items():
            if isinstance(value, dict) and "parameters" in value:
                settings = ", ".join(f"{k}={json.dumps(v)}" for k, v in value["settings"].items())
                rows.append((key, f"{value['parameters']:,} parameters ({settings})"))
            elif isinstance(value, dict):
                rows += [(f"recipe {k}", json.dumps(v)) for k, v in value.items()]
            elif value:
                rows.append((key, str(value)))
        _print_table(rows)


@app.command()
def train(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="One of `ganzoo list`.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="A name of `ganzoo list --data`, a folder or zip of images, or hf:ORG/NAME.  [default: digits]"
        ),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where named data sets lie or are downloaded to.  [default: data]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Generator updates.  [default: the recipe's]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a batch.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels a side.  [default: the data's]")] = None,
    channels: Annotated[int | None, typer.Option(help="1 for grey, 3 for colour.  [default: the data's]")] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Mirror half of the images.")] = None,
    conditional: Annotated[
        bool | None,
        typer.Option("--conditional/--unconditional", help="Learn to generate by class, from labelled data."),
    ] = None,
    loss: Annotated[str | None, typer.Option(help="One of `ganzoo list --losses`.")] = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME[=WEIGHT[@EVERY]], such as r1=1@4; replaces the recipe's; 'none' removes them. Repeatable."
        ),
    ] = None,
    pack: Annotated[int | None, typer.Option(help="Samples that the discriminator judges at once (PacGAN).")] = None,
    augment: Annotated[
        str | None,
        typer.Option(metavar="POLICIES", help="DiffAugment: color,translation,cutout, any of them; 'none'."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="SOURCE", help="Fine-tune these weights, and their discriminator if published."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe of the architecture; see `ganzoo info`.  [default: default]")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.  [default: 0]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.  [default: auto]")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.  [default: auto]")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Take each batch in this many parts, to save memory.  [default: 1]")
    ] = None,
    compile_: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile: pays on long runs.")
    ] = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between measurements of fid; the best checkpoint is kept.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: the next free runs/ARCH-DATA-NNN]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, else the newest of this architecture.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="JSON file of settings; flags go before it.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting, such as generator.width=128 or n_critic=5. Repeatable."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings and sizes, train nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train an architecture. Prints the run folder."""
    flags = {
        "data": data, "data_dir": data_dir, "steps": steps, "batch_size": batch_size, "image_size": image_size,
        "channels": channels, "flip": flip, "conditional": conditional, "loss": loss, "lr": lr, "seed": seed,
        "device": device, "precision": precision, "accumulate": accumulate, "compile": compile_, "start": start,
        "pack": pack, "eval_every": eval_every,
        "out": None if out is None else str(out),
    }  # fmt: skip
    settings: dict[str, Any] = {}
    merge(settings, read_file(config) if config else {}, str(config))
    asked: dict[str, Any] = {}
    merge(asked, dict(parse_assignment(text) for text in set_ or []), "--set")
    merge(asked, {key: value for key, value in flags.items() if value is not None}, "the command line")
    merge(settings, asked, "the command line")
    if augment:
        settings["augment"] = [] if augment == "none" else augment.split(",")
    if penalty:
        settings["penalties"] = [] if penalty == ["none"] else penalty
    recipe = recipe or settings.pop("recipe", None)
    if settings.pop("architecture", architecture) != architecture:
        raise ConfigError(f"{config} is for another architecture than {architecture}")

    # Of many processes, the first decides: on other hosts there may be no run folder.
    complete = _resumed_settings(architecture, recipe, settings) if resume and _FIRST else None
    complete = complete or TrainConfig(architecture, recipe=recipe or "default", **settings)

    if quiet:
        logging.getLogger("ganzoo").setLevel(logging.WARNING)
    if dry_run:
        _dry_run(complete)
        return

    from ganzoo import training
    from ganzoo.progress import Progress

    with Progress(complete.steps, enabled=not quiet and _FIRST) as progress:
        run = training.train(complete, resume=resume, on_log=progress.log, on_step=progress.step)
    if not _FIRST:
        return
    if run.interrupted:
        print(f"stopped at step {run.step} of {run.config.steps}; go on with:", file=sys.stderr)
        launcher = "torchrun … -m ganzoo" if "RANK" in os.environ else "ganzoo"
        print(f"  {launcher} train {architecture} --resume --out {run.folder}", file=sys.stderr)
    elif not quiet:
        pictures = sorted((run.folder / "samples").glob("*.png"))
        if pictures:
            print(f"samples: {pictures[-1]}", file=sys.stderr)
        print(f"more:    ganzoo sample {_as_source(run.folder)} -n 64 --seed 1", file=sys.stderr)
    print(run.folder)


def _resumed_settings(architecture: str, recipe: str | None, settings: dict[str, Any]) -> TrainConfig | None:
    """The stored configuration with the given settings laid over it; None if there is no run to resume yet."""
    from ganzoo.checkpoint import newest_run, read_training

    folder = Path(settings["out"]) if "out" in settings else newest_run(architecture)
    if not (folder.exists() and any(folder.iterdir())):
        return None
    began, _ = read_training(folder)
    values = began.to_dict()
    given = {**settings, "architecture": architecture, "out": str(folder)}
    merge(values, given if recipe is None else {**given, "recipe": recipe}, "the command line")
    return TrainConfig.from_dict(values)


def _dry_run(config: TrainConfig) -> None:
    from ganzoo import parts
    from ganzoo.data import Batches

    data = parts.load_data(config)
    device = parts.choose_device(config.device)
    Batches(data, config.batch_size, config.seed, device, flip=config.flip)
    g, d, _, _ = parts.make_networks(config, data)
    sizes = {
        role: sum(p.numel() for p in module.parameters()) for role, module in (("generator", g), ("discriminator", d))
    }
    _print_json(
        {
            "config": config.to_dict(),
            "device": str(device),
            "precision": parts.choose_precision(config, device),
            "items": list(data.items.shape),
            "networks": {"generator": g.config, "discriminator": d.config},
            "parameters": sizes,
        }
    )


@app.command()
def sample(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder, hf-hub:ORG/NAME[@REVISION], or a pretrained name.")
    ],
    n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the latents.")] = 0,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="K,...", help="Of a conditional generator: 7, or 1,3,5, a row each.  [default: all]"
        ),
    ] = None,
    walk: Annotated[bool, typer.Option("--walk", help="Walk through latent space: an endless GIF.")] = False,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a walk.")] = 60,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="grid.png, walk.gif, images.npy, or folder/ for a PNG each.  [default: named after SOURCE]",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the output.")] = False,
) -> None:
    """Draw images from a trained generator. Prints what it wrote."""
    suffix = ".gif" if walk else ".png"
    target = (
        out or f"{source.partition('@')[0].rstrip('/').rpartition('/')[2]}-seed{seed}{'-walk' if walk else ''}{suffix}"
    )
    kind = "folder" if target.endswith(("/", os.sep)) or not Path(target).suffix else Path(target).suffix.lower()
    if walk != (kind == ".gif"):
        raise SampleError("a walk is written to a .gif: give --walk with -o walk.gif, or neither")
    if kind not in ("folder", ".npy", ".gif", ".png", ".jpg", ".jpeg", ".webp"):
        raise SampleError(
            f"{target}: images are written to a .png, .jpg or .webp grid, a .npy, a .gif walk or a folder/"
        )
    path = Path(target)
    if path.exists() and not force and not (kind == "folder" and path.is_dir() and not any(path.iterdir())):
        raise SampleError(f"{path} exists already: choose another -o, or --force to overwrite it")
    if kind not in ("folder", ".npy") and n > GRID_LIMIT:
        raise SampleError(f"{n} images are too many for one picture (at most {GRID_LIMIT}): write a .npy or a folder/")

    from ganzoo.hub import from_pretrained
    from ganzoo.parts import choose_device

    place = choose_device(device)
    g = from_pretrained(source).to(place)
    labels, columns = _classes_asked(g, class_, n, table=kind not in ("folder", ".npy"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(g, path, kind, n if labels is None else len(labels), seed, frames, labels, columns)
    except OSError as error:
        raise SampleError(f"{path} cannot be written: {error.strerror or error}") from error
    print(path)


GRID_LIMIT = 10_000


def _classes_asked(g: "nn.Module", class_: str | None, n: int, *, table: bool) -> tuple[list[int] | None, int | None]:
    """The class of each sample, where the generator knows any, and the columns of a table with a class a row."""
    from ganzoo.sampling import GRID, by_class, class_count

    count = class_count(g)
    if class_ is None and count is None:
        return None, None
    try:
        classes = list(range(count or 0)) if class_ is None else [int(text) for text in class_.split(",")]
    except ValueError as error:
        raise SampleError(f"--class takes numbers, such as 7 or 1,3,5, not {class_!r}") from error
    if table and 1 < len(classes) <= GRID:
        return by_class(n, classes)
    return [classes[i % len(classes)] for i in range(n)], None


def _write(
    g: "nn.Module",
    path: Path,
    kind: str,
    n: int,
    seed: int,
    frames: int,
    labels: list[int] | None,
    columns: int | None,
) -> None:
    """Write n samples as `kind` asks, block by block where they may not fit in memory."""
    import numpy as np
    from PIL import Image

    from ganzoo.sampling import blocks, grid, is_image, to_uint8, walk

    if kind == ".gif":
        pictures = [grid(to_uint8(images), columns) for images in walk(g, n, frames, seed, labels)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=50, loop=0)
        return
    made = blocks(g, n, seed, labels)
    if kind == ".npy":
        arrays = (to_uint8(items) if is_image(items) else items.cpu().numpy() for items in made)
        first = next(arrays)
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            file = np.lib.format.open_memmap(beside, "w+", first.dtype, (n, *first.shape[1:]))
            file[: len(first)] = first
            done = len(first)
            for block in arrays:
                file[done : done + len(block)] = block
                done += len(block)
            file.flush()
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    elif kind == "folder":
        path.mkdir(exist_ok=True)
        for i, image in enumerate(image for items in made for image in to_uint8(items)):
            name = f"{i:06d}.png" if labels is None else f"{i:06d}-class{labels[i]}.png"
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(path / name)
    else:
        grid(np.concatenate([to_uint8(items) for items in made]), columns).save(path)


def _as_source(folder: Path) -> str:
    """How to name this folder as a SOURCE."""
    text = str(folder)
    return text if os.sep in text or text.startswith(".") else f".{os.sep}{text}"


from ganzoo import cli_eval, cli_plugins, cli_share  # noqa: E402, F401  (their commands join the app)
