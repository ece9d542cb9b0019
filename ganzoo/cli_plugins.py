"""The commands about plugins: what was found, and a new one to start from."""

import keyword
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ganzoo import plugins
from ganzoo.cli import Json, _print_json, app
from ganzoo.errors import ConfigError

NAME = "example"
"""What the template is called, wherever its name stands in it."""

group = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(group, name="plugins")


@group.callback(invoke_without_command=True)
def plugins_(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Import everything that is registered; exit 1 if any fails.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the plugins found, what each brings, and why any was skipped; or start a new one."""
    if context.invoked_subcommand is not None:
        if check or as_json:
            raise typer.BadParameter(f"--check and --json do not go with {context.invoked_subcommand}")
        return
    records = plugins.records()
    problems = plugins.check() if check else {}
    if as_json:
        plain = [{**vars(record), "label": record.label} for record in records]
        _print_json({"plugins": plain, "problems": problems} if check else plain)
    else:
        for record in records:
            brings = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in record.provides.items())
            print(f"{record.label} {record.version}".rstrip())
            print(f"  skipped: {record.error}" if record.error else f"  {brings}")
    for what, why in problems.items():
        print(f"ganzoo: error: {what}: {why}", file=sys.stderr)
    if problems or (check and any(record.error for record in records)):
        raise typer.Exit(1)


@group.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the architecture: ganzoo train NAME.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder.  [default: ganzoo-NAME]")] = None,
) -> None:
    """Write a complete small plugin: two networks that train at once, and their test."""
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name!r} cannot name a plugin: take lower-case letters, digits, underscores, as in my_gan")
    if name in (known := plugins.registry().architectures):
        raise ConfigError(f"the architecture name {name!r} is taken by {known[name].plugin}: choose another")
    if find_spec(f"ganzoo_{name}"):
        raise ConfigError(f"there is a package ganzoo_{name} already: choose another name")
    folder = out or Path(f"ganzoo-{name}")
    if folder.exists():
        raise ConfigError(f"{folder} exists already: choose another -o")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        for source in sorted(template_folder().rglob("*")):
            if source.is_file() and "__pycache__" not in source.parts:
                target = beside / str(source.relative_to(template_folder())).replace(NAME, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(source.read_text(encoding="utf-8").replace(NAME, name), encoding="utf-8")
        os.rename(beside, folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print(f"ganzoo: next: pip install -e '{folder}[test]' && pytest {folder} && ganzoo train {name}", file=sys.stderr)
    print(folder)


def template_folder() -> Path:
    """Where the example plugin is: inside the package in a wheel, in plugins/ in a checkout."""
    here = Path(__file__).parent
    inside = here / "template"
    return inside if inside.is_dir() else here.parent / "plugins" / NAME
