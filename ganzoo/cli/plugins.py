"""The commands that list plugins and write a new one."""

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.output import HELP, Json, print_json
from ganzoo.errors import ConfigError, GanzooError
from ganzoo.files import reason, replacing
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.networks import resolve
from ganzoo.zoo.plugins import records, registry
from ganzoo.zoo.registry import Architecture, Weights

TEMPLATE, TRANSLATOR = "example", "example_inputs"
"""The names of the template plugins, of which a new plugin's name replaces the one it is copied from everywhere."""

group = typer.Typer(context_settings=HELP)


@group.callback(invoke_without_command=True)
def plugins_(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Import everything that is registered; exit 1 if any fails.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the plugins with their entries, and the reason if one was skipped; or write a new plugin."""
    if context.invoked_subcommand is not None:
        if check or as_json:
            raise typer.BadParameter(f"--check and --json cannot be used with {context.invoked_subcommand}")
        return
    plugins = records()
    problems = import_everything() if check else {}
    if as_json:
        plain = [{**vars(record), "label": record.label} for record in plugins]
        print_json({"plugins": plain, "problems": problems} if check else plain)
    else:
        for record in plugins:
            entries = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in record.provides.items())
            print(f"{record.label} {record.version}".rstrip())
            print(f"  skipped: {record.error}" if record.error else f"  {entries}")
    for what, why in problems.items():
        print(f"ganzoo: error: {what}: {why}", file=sys.stderr)
    if problems or (check and any(record.error for record in plugins)):
        raise typer.Exit(1)


@group.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the architecture, for ganzoo train NAME.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write. \\[default: ganzoo-NAME]")] = None,
    inputs: Annotated[bool, typer.Option("--inputs", help="One that translates pictures into pictures.")] = False,
) -> None:
    """Write a small complete plugin: two networks that can be trained, and their test."""
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot name a plugin: use lower-case letters, digits and underscores, as in my_gan"
        )
    if name in (known := registry().architectures):
        raise ConfigError(f"the architecture name {name!r} is taken by {known[name].plugin}: choose another")
    if find_spec(f"ganzoo_{name}"):
        raise ConfigError(f"there is a package ganzoo_{name} already: choose another name")
    folder = out or Path(f"ganzoo-{name}")
    if folder.exists():
        raise ConfigError(f"{folder} exists already: choose another -o")
    template_name = TRANSLATOR if inputs else TEMPLATE
    template = template_folder(template_name)
    try:
        with replacing(folder, overwrite=False, shared=True) as temporary:
            for source in sorted(template.rglob("*")):
                if source.is_file() and "__pycache__" not in source.parts:
                    target = temporary / str(source.relative_to(template)).replace(template_name, name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(source.read_text(encoding="utf-8").replace(template_name, name), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {reason(error)}") from error
    train = f"ganzoo train {name}{' --inputs edges' if inputs else ''}"
    print(f"ganzoo: next: pip install -e '{folder}[test]' && pytest {folder} && {train}", file=sys.stderr)
    print(folder)


def template_folder(name: str) -> Path:
    """The folder of an example plugin: inside the package if that was installed from a wheel, else in plugins/."""
    here = Path(__file__).parent.parent
    inside = here / "templates"
    return (inside if inside.is_dir() else here.parent / "plugins") / name


def import_everything() -> dict[str, str]:
    """Import everything that is registered.

    Returns:
        A message for each entry that fails, by "kind name". Empty if none does.
    """
    problems: dict[str, str] = {}
    for kind, table in vars(registry()).items():
        for name, entry in table.items():
            try:
                for target in entry.targets().values():
                    resolve(target)
                if isinstance(entry, Architecture):
                    for recipe in {"default", *(entry.recipes or {})}:
                        TrainConfig(name, recipe=recipe)
                if isinstance(entry, Weights) and entry.path and not (Path(entry.path) / "config.json").is_file():
                    problems[f"{kind} {name}"] = f"there is no model folder {entry.path}"
            except GanzooError as error:
                problems[f"{kind} {name}"] = str(error)
    return problems
