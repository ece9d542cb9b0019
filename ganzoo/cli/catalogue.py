"""The commands that show the registry: `list` and `info`."""

import fnmatch
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ganzoo.cli.output import Json, Quiet, one_line, print_json, print_table
from ganzoo.errors import UnknownNameError, did_you_mean
from ganzoo.files import read_json
from ganzoo.store.results import headline
from ganzoo.zoo.plugins import GROUP, registry
from ganzoo.zoo.registry import Architecture, Component, DataSource, Entry, Weights


def list_(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Shell pattern, such as '*gan*'.")] = "*",
    losses: Annotated[bool, typer.Option("--losses", help="List losses.")] = False,
    penalties: Annotated[bool, typer.Option("--penalties", help="List penalties.")] = False,
    data: Annotated[bool, typer.Option("--data", help="List data sets.")] = False,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="List weights.")] = False,
    trackers: Annotated[bool, typer.Option("--trackers", help="List trackers.")] = False,
    hub: Annotated[bool, typer.Option("--hub", help="Search the Hugging Face Hub for ganzoo models.")] = False,
    org: Annotated[str | None, typer.Option(help="With --hub, only models of this user or organisation.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List architectures, losses, penalties, data sets, weights or trackers."""
    if hub:
        _list_hub(pattern, org, as_json, quiet)
        return
    flags = (
        ("losses", losses), ("penalties", penalties), ("data", data), ("weights", pretrained), ("trackers", trackers),
    )  # fmt: skip
    kinds = [kind for kind, flag in flags if flag] or ["architectures"]
    if len(kinds) > 1:
        raise typer.BadParameter("choose one of --losses, --penalties, --data, --pretrained and --trackers")
    table: dict[str, Entry] = getattr(registry(), kinds[0])
    names = fnmatch.filter(table, pattern)
    # Weights stand as their plugins register them: those to look at first come first.
    entries = [table[name] for name in (names if kinds == ["weights"] else sorted(names))]
    if as_json:
        print_json([_facts(entry) for entry in entries])
    elif quiet:
        for entry in entries:
            print(entry.name)
    elif entries:
        print_table((entry.name, *_columns(entry), _origin(entry)) for entry in entries)
    elif table:
        print(f"ganzoo: no {kinds[0]} match {pattern!r}: {did_you_mean(pattern, table)}", file=sys.stderr)
    else:
        print(f"ganzoo: no {kinds[0]} are registered", file=sys.stderr)


def _list_hub(pattern: str, organisation: str | None, as_json: bool, quiet: bool) -> None:
    from ganzoo.store.hub import search

    models = [model for model in search(organisation) if fnmatch.fnmatch(model["id"], pattern)]
    if as_json:
        print_json(models)
    elif quiet:
        for model in models:
            print(one_line(model["id"]))
    elif models:
        rows = ((m["id"], str(m["commit"])[:12], m["license"], f"{m['downloads']} downloads") for m in models)
        print_table(tuple(map(one_line, row)) for row in rows)
    else:
        print("ganzoo: there are no ganzoo models of that name on the Hub", file=sys.stderr)


def _columns(entry: Entry) -> tuple[str, ...]:
    if not isinstance(entry, Weights):
        return (entry.summary,)
    facts = _weights_facts(entry)
    size = f"{facts['size'] / 1e6:.1f} MB" if facts["size"] else ""
    pixels = f"{facts['image_size']} px" if facts["image_size"] else ""
    place = f"hf-hub:{entry.repo_id}@{str(entry.revision)[:12]}" if entry.repo_id else "in the package"
    return entry.summary, size, pixels, entry.license, facts["score"], place


def _weights_facts(entry: Weights) -> dict[str, Any]:
    """Size in bytes, image size in pixels and score: as registered, or else from the model folder in the package, which
    also has the names of classes."""
    facts: dict[str, Any] = {"size": entry.size, "image_size": entry.image_size, "score": entry.score, "classes": None}
    if entry.path is not None:
        folder = Path(entry.path)
        try:
            model = read_json(folder / "config.json")
            facts["size"] = facts["size"] or model["files"]["model.safetensors"]["size"]
            facts["image_size"] = facts["image_size"] or model["generator"].get("image_size")
            facts["classes"] = model.get("classes")
            if not entry.score and "scores.json" in model["files"]:
                facts["score"] = headline(read_json(folder / "scores.json"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # loading the weights reports the error
    return facts


def _origin(entry: Entry) -> str:
    package = entry.plugin.partition(":")[0]
    return "" if package == GROUP else f"[{package}]"


def _facts(entry: Entry) -> dict[str, Any]:
    """The part of an entry that `list --json` and `info` print, as JSON values."""
    facts: dict[str, Any] = {"name": entry.name, "summary": entry.summary, "plugin": entry.plugin}
    if isinstance(entry, Architecture):
        facts |= {"paper": entry.paper, "loss": entry.loss, "recipes": sorted({"default", *(entry.recipes or {})})}
    elif isinstance(entry, Component):
        facts |= {"paper": entry.paper}
    elif isinstance(entry, DataSource):
        facts |= {"license": entry.license}
    elif isinstance(entry, Weights):
        facts |= {"license": entry.license, "repo_id": entry.repo_id, "path": entry.path, "revision": entry.revision}
        facts |= _weights_facts(entry)
    return facts


def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Any name from `ganzoo list`.")],
    as_json: Json = False,
) -> None:
    """Show everything about one name: settings, parameters, recipes, paper, licence, plugin."""
    tables = vars(registry())
    entries: list[tuple[str, Entry]] = [(kind, table[name]) for kind, table in tables.items() if name in table]
    if not entries:
        known = [known for table in tables.values() for known in table]
        raise UnknownNameError(f"nothing is called {name!r}: {did_you_mean(name, known)}")
    descriptions = [_describe(kind, entry) for kind, entry in entries]
    if as_json:
        print_json(descriptions if len(descriptions) > 1 else descriptions[0])
        return
    for facts in descriptions:
        rows = []
        for key, value in facts.items():
            if isinstance(value, dict) and "parameters" in value:
                settings = ", ".join(f"{k}={json.dumps(v)}" for k, v in value["settings"].items())
                rows.append((key, f"{value['parameters']:,} parameters ({settings})"))
            elif isinstance(value, dict):
                rows += [(f"recipe {k}", json.dumps(v)) for k, v in value.items()]
            elif isinstance(value, list):
                rows.append((key, one_line(", ".join(map(str, value)))))
            elif value:
                rows.append((key, str(value)))
        print_table(rows)


def _describe(kind: str, entry: Entry) -> dict[str, Any]:
    facts = {"kind": kind, **_facts(entry)}
    if isinstance(entry, Architecture):
        from ganzoo.zoo.networks import create

        facts["recipes"] = {"default": {}, **(entry.recipes or {})}
        for role, network in zip(("generator", "discriminator"), create(entry.name), strict=True):
            size = sum(parameter.numel() for parameter in network.parameters())
            facts[role] = {"parameters": size, "settings": network.config}
    return facts
