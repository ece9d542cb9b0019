"""The command that measures generators."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ganzoo.cli.output import Device, Json, print_json, print_table
from ganzoo.errors import EvaluationError, GanzooError, WeightsError
from ganzoo.zoo.command import parse_assignment

if TYPE_CHECKING:
    from ganzoo.store.results import Result


def eval_(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders, hf-hub:ORG/NAME\\[@REVISION], pretrained names, or .json files with the output of --json.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(metavar="SPEC", help="The data to compare with: a name, or a folder or zip of images.")
    ] = None,
    data_dir: Annotated[str, typer.Option(help="Folder of named data sets, also for downloads.")] = "data",
    split: Annotated[
        str | None,
        typer.Option(help="Part of the data to compare with, such as test. \\[default: train, or all of it]"),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="Other real images, for the floor. \\[default: the other part of data with splits]"
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="What the images are translated from, as in training. \\[default: the data's]"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of the generators, such as truncation=0.7, or with data.KEY one of the data. Repeatable.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Any of fid,kid,is,prdc,diversity,modes, of pairs also l1,psnr,ssim,perceptual, and neighbours; "
            "'default' is what the data allows, without the last. \\[default: default]"
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="auto\\[=FILE], mnist, inception\\[=FILE] or timm:NAME\\[=FILE]. auto is mnist for MNIST, else "
            "timm:tf_efficientnet_lite0. \\[default: auto]"
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=1,
            help="Number of samples. \\[default: 5000 or as many as held-out images or inputs; for mnist features "
            "10000, or 26000 in colour]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the latents.")] = 0,
    raw: Annotated[bool, typer.Option("--raw", help="Measure a run's raw generator, not the averaged one.")] = False,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="Of the features: fp32, or bf16, which is faster on hardware that has it.")
    ] = "fp32",
    neighbours: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw the samples nearest to images of the data, each beside these, and measure how near they are.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the picture of --neighbours.")] = False,
    record: Annotated[
        bool,
        typer.Option("--record", help="Write the figures to scores.json and the card of each SOURCE's model folder."),
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")] = False,
    as_json: Json = False,
) -> None:
    """Measure generators (extra: ganzoo\\[eval]). Results with different protocols are refused."""
    saved = [source for source in sources if source.endswith(".json")]
    if data is None and len(saved) < len(sources):
        raise typer.BadParameter("name the data to compare with: --data SPEC")
    if record and raw:
        raise typer.BadParameter("--record needs the averaged generator, which a model folder holds: leave --raw out")
    if neighbours is not None and len(saved) == len(sources):
        raise typer.BadParameter("--neighbours needs samples to draw: name a SOURCE that is no .json file")
    if neighbours is not None and Path(neighbours).exists() and not force:
        raise EvaluationError(f"{neighbours} exists already: choose another file, or --force to overwrite it")

    from ganzoo.devices import choose_device
    from ganzoo.evaluation.measure import measure_sources
    from ganzoo.store.results import compare, read_results
    from ganzoo.store.save import record as record_result

    assigned = dict(map(parse_assignment, set_ or []))
    of_data = {key.removeprefix("data."): value for key, value in assigned.items() if key.startswith("data.")}
    options = {key: value for key, value in assigned.items() if not key.startswith("data.")}
    models = [_own_model(source) for source in sources if source not in saved] if record else []
    results = [result for path in saved for result in read_results(Path(path))]
    compare(results)
    others = [source for source in sources if source not in saved]
    if data is not None and others:
        measured = measure_sources(
            others, data, data_dir=data_dir, split=split,
            held_out=held_out, inputs=inputs, options=options, data_options=of_data,
            metrics=None if metrics is None else metrics.split(","), features=features, n=n, seed=seed, raw=raw,
            device=choose_device(device), precision=precision, use_cache=not no_cache, neighbours=neighbours,
        )  # fmt: skip
        before = len(results)
        try:
            for result in measured:
                if models:
                    record_result(models.pop(0), result)
                compare([*results, result])
                results.append(result)
        except (GanzooError, KeyboardInterrupt):  # what was measured before is not lost
            if len(results) > before:
                _print_results(results, as_json)
            raise
    _print_results(results, as_json)


def _own_model(source: str) -> Path:
    """The model folder of a SOURCE that is a folder on this machine, outside the package and the cache of the Hub.

    Raises:
        WeightsError: the SOURCE is not a folder, or has no model folder yet.
    """
    from ganzoo.store.source import find, is_model

    if not Path(source).is_dir():
        raise WeightsError(f"--record writes into a model folder of your own, which {source} is not: `ganzoo save` it")
    folder = find(source)
    if is_model(folder):
        return folder
    if not is_model(folder / "model"):
        raise WeightsError(f"{source} holds no model folder to record in yet: finish the run, or `ganzoo save` it")
    return folder / "model"


def _print_results(results: "list[Result]", as_json: bool) -> None:
    """Print a row for each result, with the floor and the baseline below, and the protocol to stderr; or JSON."""
    if as_json:
        print_json([result.to_dict() for result in results])
        return
    known = dict.fromkeys(name for result in results for name in result.values)
    names = [name for name in known if not name.endswith(("_perfect", "_std"))]
    table: list[tuple[str, ...]] = [("", *names)]
    for result in results:
        cells = []
        for name in names:
            value = result.values.get(name)
            cell = "-" if value is None else f"{value:.4g}"
            if f"{name}_std" in result.values:
                cell += f" ± {result.values[f'{name}_std']:.2g}"
            if name == "fid" and result.fid_multiple is not None:
                cell += f" ({result.fid_multiple:.1f} x floor)"
            if f"{name}_perfect" in result.values:
                cell += f" (perfect {result.values[f'{name}_perfect']:.4g})"
            cells.append(cell)
        kind = result.weights.get("kind")
        table.append((f"{result.source} ({kind})" if kind else result.source, *cells))
    first = results[0]
    for title, figures in (
        (f"floor: {first.floor_images}", first.floor),
        (f"baseline: {first.baseline_name}", first.baseline),
    ):
        if figures:
            table.append((title, *(f"{figures[name]:.4g}" if name in figures else "-" for name in names)))
    print_table(table)
    print(f"protocol: {json.dumps(first.protocol)}", file=sys.stderr)
