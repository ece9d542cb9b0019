"""The commands that publish, fetch, verify, import and export weights."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ganzoo.cli.output import Json, Quiet, Source, print_json
from ganzoo.errors import ExportError, HubError

SHARED = ("image_size", "channels", "num_classes")
"""The settings in which both networks of an import must agree."""

License = Annotated[str, typer.Option(help="Licence of the weights as the Hub spells it, such as apache-2.0.")]


def save(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
    tag: Annotated[str, typer.Option(help="The TAG of ARCH.TAG. \\[default: the name of the data]")] = "",
    license: License = "",
    discriminator: Annotated[bool, typer.Option("--discriminator", help="Save the discriminator too.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Round weights to fp16, for files of half the size.")] = False,
) -> None:
    """Write a run's generator as a model folder."""
    from ganzoo.store.save import save_pretrained

    print(save_pretrained(source, out, tag=tag, license=license, discriminator=discriminator, half=half))


def push(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A run or model folder, or a Space's.")],
    repo_id: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Keep a new repository private.")] = False,
    license: License = "",
    tag: Annotated[str, typer.Option(help="A tag for the commit, such as v1.")] = "",
    message: Annotated[str, typer.Option("--message", "-m", help="Commit message.")] = "",
    discriminator: Annotated[bool, typer.Option("--discriminator", help="Publish the discriminator too.")] = False,
    space: Annotated[bool, typer.Option("--space", help="Publish a folder of `ganzoo space` as a Space.")] = False,
    as_json: Json = False,
) -> None:
    """Publish a generator on the Hugging Face Hub (log in with `hf auth login`, or set HF_TOKEN)."""
    from ganzoo.store.hub import PREFIX
    from ganzoo.store.publish import push as push_model
    from ganzoo.store.publish import push_space
    from ganzoo.store.source import find

    if space:
        if license or tag or discriminator:
            raise HubError("--license, --tag and --discriminator are about a model: leave them out with --space")
        pushed = push_space(source, repo_id, private=private, message=message)
        if as_json:
            print_json({"url": pushed.url, "commit": pushed.commit})
        else:
            print(pushed.url)
        return
    pushed = push_model(
        find(source if "/" in source or source.startswith(".") else f"./{source}"), repo_id, private=private,
        license=license, tag=tag, message=message, discriminator=discriminator,
    )  # fmt: skip
    if as_json:
        print_json({"url": pushed.url, "commit": pushed.commit})
        return
    print(pushed.url)
    print(f"pinned: {PREFIX}{repo_id}@{pushed.commit}", file=sys.stderr)


def publish(
    organisation: Annotated[str, typer.Argument(metavar="ORG", help="A user or organisation on the Hub.")],
    cards: Annotated[Path | None, typer.Option(help="Folder of model folders. \\[default: model_cards/]")] = None,
) -> None:
    """Push every model folder of model_cards/, and print the register_weights lines that pin them."""
    from ganzoo.store.publish import publish as publish_all

    for _, pushed, line in publish_all(organisation, cards):
        print(f"ganzoo: {pushed.url}", file=sys.stderr)
        print(line)


def pull(source: Source, quiet: Quiet = False) -> None:
    """Fetch a model into the cache, check every file, and print the folder."""
    from ganzoo.store.hub import PREFIX
    from ganzoo.store.manifest import FILES
    from ganzoo.store.source import find

    folder = find(source, FILES)
    if not quiet and source.startswith(PREFIX):
        repo_id = source.removeprefix(PREFIX).partition("@")[0]
        print(f"ganzoo: pinned: {PREFIX}{repo_id}@{folder.name}", file=sys.stderr)
    print(folder)


def verify(source: Source, as_json: Json = False) -> None:
    """Compare every file with its hash, every tensor with the network, and the images with the golden ones."""
    from ganzoo.store.manifest import FILES
    from ganzoo.store.models import verify as verify_model
    from ganzoo.store.source import find, is_model

    folder = find(source, FILES)
    if not is_model(folder):
        folder = folder / "model"
    report = verify_model(folder)
    if as_json:
        print_json({"folder": str(folder), **report})
    else:
        print(f"{folder}: {report['files']} files match, images within {report['difference']:.1g} of the golden ones")


def import_(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="One of `ganzoo list`.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pkl, .pt, .pth, .bin, .ckpt or .safetensors file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
    key: Annotated[str | None, typer.Option(help="Key of the generator's state dict in the file.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting that tensors do not show, such as activation=relu."),
    ] = None,
    tag: Annotated[str, typer.Option(help="The TAG of ARCH.TAG. \\[default: the name of the file]")] = "",
    license: License = "",
    discriminator: Annotated[
        bool, typer.Option("--discriminator", help="Import the discriminator too, so that others can fine-tune.")
    ] = False,
    discriminator_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Import the discriminator too, from a file of its own.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="PICTURES",
            help="For a generator that translates: a picture, folder or zip, of which the first 8 are translated in "
            "samples.png.",
        ),
    ] = None,
) -> None:
    """Convert a generator's checkpoint from elsewhere to a model folder. Check the result in its samples.png."""
    from ganzoo.cli.translate import first_inputs
    from ganzoo.errors import WeightsError
    from ganzoo.exchange.checkpoints import read_contents
    from ganzoo.exchange.foreign import convert
    from ganzoo.files import file_hash
    from ganzoo.report.commands import as_source
    from ganzoo.sampling.options import takes_inputs
    from ganzoo.store.manifest import PICTURE
    from ganzoo.store.runs import data_slug
    from ganzoo.store.save import write_model
    from ganzoo.zoo.command import parse_assignment
    from ganzoo.zoo.networks import network

    options = dict(parse_assignment(text) for text in set_ or [])
    contents = read_contents(file)
    checkpoint = contents.checkpoint(key)
    g = convert(architecture, checkpoint, **options)
    examples = first_inputs(g, inputs) if inputs is not None else None
    settings: dict[str, Any] = g.config  # type: ignore[assignment]  # set by the zoo
    origin: dict[str, Any] = {"file": file.name, "sha256": file_hash(file), "key": checkpoint.key}
    d = network(architecture, "discriminator", settings, {})
    if discriminator or discriminator_file:
        other = read_contents(discriminator_file) if discriminator_file else contents
        d_checkpoint = other.checkpoint(role="discriminator")
        if other is contents and d_checkpoint.key == checkpoint.key:
            raise WeightsError(f"{file} holds one network alone: name the discriminator's by --discriminator-file")
        shared = {name: settings[name] for name in SHARED if name in settings and name in d.config}
        d = convert(architecture, d_checkpoint, **shared)
        if discriminator_file:
            sha256 = file_hash(discriminator_file)
            origin["discriminator"] = {"file": discriminator_file.name, "sha256": sha256, "key": d_checkpoint.key}
    folder = write_model(
        out, architecture, tag or data_slug(file.name), g, d if discriminator or discriminator_file else None,
        discriminator_config=d.config, training={"imported": origin}, license=license, examples=examples,
    )  # fmt: skip
    print(f"ganzoo: read as {json.dumps(settings)}", file=sys.stderr)
    picture = str(folder / PICTURE)
    if takes_inputs(g) and examples is None:
        picture = f"what `ganzoo sample {as_source(folder)} --inputs photos/ -o sheet.png` writes"
    print(f"ganzoo: if {picture} looks wrong, correct the settings with --set", file=sys.stderr)
    print(folder)


def export(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .onnx file to write.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite it.")] = False,
) -> None:
    """Write a generator as ONNX, if the result agrees with torch (extra: ganzoo\\[onnx])."""
    from ganzoo.exchange.onnx import export_onnx
    from ganzoo.store.source import from_pretrained

    if out.suffix.lower() != ".onnx":
        raise ExportError(f"{out}: a generator is exported to an .onnx file")
    difference = export_onnx(from_pretrained(source), out, force=force)
    print(f"ganzoo: images within {difference:.1g} of torch's", file=sys.stderr)
    print(out)
