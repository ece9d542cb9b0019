"""The commands of the workshop in the browser."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.output import Device, Source
from ganzoo.errors import ConfigError


def ui(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE...]",
            help="Generators to offer first: run or model folders, hf-hub:ORG/NAME\\[@REVISION], or pretrained names.",
        ),
    ] = None,
    runs: Annotated[
        Path, typer.Option(help="Training runs up to four folders below this one are offered and followed.")
    ] = Path(),
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port. \\[default: the first free one from 7860]")
    ] = None,
    open_: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page in a browser. \\[default: on a terminal]")
    ] = None,
    device: Device = "auto",
) -> None:
    """Open the workshop, a page in the browser for generators and training runs (extra: ganzoo\\[ui])."""
    if not runs.is_dir():
        raise ConfigError(f"--runs {runs} is no folder: name the one that your runs are in")
    try:
        from ganzoo.ui.server import LOCAL, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("gradio", "fastapi", "starlette", "uvicorn"):
            raise
        raise ConfigError(f"the workshop needs gradio ({error}): pip install 'ganzoo[ui]'") from error
    from ganzoo.devices import choose_device
    from ganzoo.ui.offers import Offers

    local = host in LOCAL
    if not local:
        print(f"ganzoo: everyone who reaches {host} can use this page, without a password", file=sys.stderr)
    offers = Offers(sources or [], runs=runs, hub=local, device=choose_device(device))
    if open_ is None:
        open_ = sys.stdout.isatty()
    print("ganzoo: press Ctrl-C to end", file=sys.stderr)
    serve(offers, host=host, port=port, open_browser=open_, started=lambda address: print(address, flush=True))


def space(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    title: Annotated[str, typer.Option(help="The title of the Space. \\[default: ARCH.TAG]")] = "",
    requirement: Annotated[
        str, typer.Option(metavar="SPEC", help="How pip installs ganzoo there. \\[default: ganzoo==VERSION]")
    ] = "",
) -> None:
    """Write the workshop for a generator as a Hugging Face Space, to publish by `ganzoo push --space`."""
    from ganzoo.ui.space import write_space

    print(write_space(source, out, requirement=requirement, title=title))
