"""The command that trains."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.cli.output import FIRST, print_json
from ganzoo.errors import ConfigError
from ganzoo.zoo.command import parse_assignment
from ganzoo.zoo.config import TrainConfig, merge, read_file

if TYPE_CHECKING:
    from ganzoo.training import Run


def train(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="One of `ganzoo list`.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="A name of `ganzoo list --data`, a folder or zip of images or of .wav files, or hf:ORG/NAME. "
            "\\[default: the recipe's, or digits]"
        ),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Folder of named data sets, also for downloads. \\[default: data]")
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="What images are translated from: edges, grey, masked or smaller=4 (made from them), left or right "
            "(halves of each picture), A or B (folders), column=NAME (of a Hub data set), or a folder or zip.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Generator updates. \\[default: the recipe's]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a batch.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Height and width in pixels. \\[default: the data's]")] = None,
    channels: Annotated[int | None, typer.Option(help="1 for grey, 3 for colour. \\[default: the data's]")] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Mirror images at random.")] = None,
    conditional: Annotated[
        bool | None,
        typer.Option("--conditional/--unconditional", help="Condition both networks on the data's labels."),
    ] = None,
    loss: Annotated[str | None, typer.Option(help="One of `ganzoo list --losses`.")] = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME[=WEIGHT\\[@EVERY]], such as r1=1@4; replaces the recipe's; 'none' removes them. Repeatable."
        ),
    ] = None,
    pack: Annotated[int | None, typer.Option(help="Samples that the discriminator judges at once (PacGAN).")] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="POLICIES",
            help="auto (by the number of images), ada, any of color,translation,cutout, or none.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="SOURCE", help="Fine-tune this generator, with its discriminator if published."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe of the architecture; see `ganzoo info`. \\[default: default]")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. \\[default: 0]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps. \\[default: auto]")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16. \\[default: auto]")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Split each batch into this many parts, to save memory. \\[default: 1]")
    ] = None,
    compile_: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Use torch.compile, which pays for long runs.")
    ] = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between measurements of FID; the best checkpoint is kept.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. \\[default: the next free runs/ARCH-DATA-NNN]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, or else the newest of this architecture.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="JSON file of settings; flags override it.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting, such as generator.width=128 or n_critic=5. Repeatable."
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME\\[:KEY=VALUE,...]",
            help="Record the run with one of `ganzoo list --trackers` too; 'none' leaves those of a resumed run. "
            "Repeatable.",
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the pictures in the terminal (extra: ganzoo\\[preview]).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings and sizes without training.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Train an architecture, and print the run folder."""
    flags = {
        "data": data, "data_dir": data_dir, "inputs": inputs, "steps": steps, "batch_size": batch_size,
        "image_size": image_size, "channels": channels, "flip": flip, "conditional": conditional, "loss": loss,
        "lr": lr, "seed": seed, "device": device, "precision": precision, "accumulate": accumulate,
        "compile": compile_, "start": start, "pack": pack, "eval_every": eval_every,
        "out": None if out is None else str(out),
        "augment": None if not augment else [] if augment == "none" else augment.split(","),
        "penalties": None if not penalty else [spec for spec in penalty if spec != "none"],
        "track": None if not track else [spec for spec in track if spec != "none"],
    }  # fmt: skip
    settings = _merge_settings(config, set_ or [], flags)
    named = settings.pop("recipe", None)
    recipe = named if recipe is None else recipe
    if settings.pop("architecture", architecture) != architecture:
        raise ConfigError(f"{config} is for another architecture than {architecture}: take another file")

    # Only the first process reads the run folder, which other hosts may not have.
    complete = _resumed_settings(architecture, recipe, settings) if resume and FIRST else None
    complete = complete or TrainConfig(architecture, recipe="default" if recipe is None else recipe, **settings)

    if quiet:
        logging.getLogger("ganzoo").setLevel(logging.WARNING)
    if dry_run:
        _dry_run(complete)
        return

    from ganzoo.progress import Progress
    from ganzoo.training.loop import train as run_training

    show = None
    if preview and FIRST:
        from ganzoo.cli.preview import Preview

        show = Preview()
    with Progress(complete.steps, enabled=not quiet and FIRST) as progress:
        run = run_training(complete, resume=resume, on_log=progress.log, on_step=progress.step, on_picture=show)
    if FIRST:
        _report(run, architecture, quiet)
    if run.signal is not None and "RANK" not in os.environ:  # torchrun would take it for a crash
        raise typer.Exit(128 + run.signal)  # as the shell says of a program that a signal has ended


def _merge_settings(config: Path | None, assignments: list[str], flags: dict[str, Any]) -> dict[str, Any]:
    """The settings of the configuration file, of --set and of the flags. Later ones override earlier ones."""
    settings: dict[str, Any] = {}
    merge(settings, read_file(config) if config else {}, str(config))
    direct: dict[str, Any] = {}
    merge(direct, dict(parse_assignment(text) for text in assignments), "--set")
    merge(direct, {key: value for key, value in flags.items() if value is not None}, "the command line")
    merge(settings, direct, "the command line")
    return settings


def _report(run: "Run", architecture: str, quiet: bool) -> None:
    """Print the run folder, and a command to continue or sample it."""
    from ganzoo.report.commands import sample_command

    if run.interrupted:
        launcher = "torchrun … -m ganzoo" if "RANK" in os.environ else "ganzoo"
        print(f"stopped at step {run.step} of {run.config.steps}; continue with:", file=sys.stderr)
        print(f"  {launcher} train {architecture} --resume --out {run.folder}", file=sys.stderr)
    elif not quiet:
        pictures = sorted((run.folder / "samples").glob("*.png"))
        if pictures:
            print(f"samples: {pictures[-1]}", file=sys.stderr)
        print(f"page:    {run.folder / 'report.html'}", file=sys.stderr)
        print(f"more:    {sample_command(run.folder, run.config.to_dict())}", file=sys.stderr)
    print(run.folder)


def _resumed_settings(architecture: str, recipe: str | None, settings: dict[str, Any]) -> TrainConfig | None:
    """The recorded configuration, updated with these settings; None if there is no run to resume yet."""
    from ganzoo.store.runs import newest_run, read_training

    folder = Path(settings["out"]) if "out" in settings else newest_run(architecture)
    if not (folder.exists() and any(folder.iterdir())):
        return None
    recorded, _ = read_training(folder)
    values = recorded.to_dict()
    changes = {**settings, "architecture": architecture, "out": str(folder)}
    merge(values, changes if recipe is None else {**changes, "recipe": recipe}, "the command line")
    return TrainConfig.from_dict(values)


def _dry_run(config: TrainConfig) -> None:
    """Print the settings, and the sizes of the networks and the data."""
    from ganzoo.data.dataset import Batches
    from ganzoo.devices import choose_device
    from ganzoo.sampling.classes import class_names
    from ganzoo.training.build import build_players, load_data
    from ganzoo.training.settings import check_batch_size, choose_precision

    check_batch_size(config)
    data = load_data(config)
    device = choose_device(config.device)
    Batches(data, config.batch_size, config.seed, device, flip=config.flip)
    players = build_players(config, data)
    networks = {"generator": players.g, "discriminator": players.d}
    print_json(
        {
            "config": config.to_dict(),
            "device": str(device),
            "precision": choose_precision(config, device),
            "items": list(data.items.shape),
            "networks": {role: module.config for role, module in networks.items()},
            "classes": class_names(players.g),
            "parameters": {role: sum(p.numel() for p in module.parameters()) for role, module in networks.items()},
        }
    )
