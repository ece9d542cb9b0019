"""The command line: thin commands over the Python API. Results go to stdout, everything else to stderr.

Commands import torch only when they need it, so that `ganzoo list` and `--help` answer at once.
"""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import Annotated, Any, TextIO

import typer

from ganzoo.cli import catalogue, eval, latent, plugins, report, sample, share, train, ui
from ganzoo.cli.output import FIRST, HELP, one_line
from ganzoo.errors import ConfigError, GanzooError
from ganzoo.files import reason

app = typer.Typer(
    name="ganzoo",
    help="A zoo of generative adversarial networks: train, sample, share.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"ganzoo {version('ganzoo')}")
        raise typer.Exit


@app.callback()
def _root(
    show: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("list")(catalogue.list_)
app.command()(catalogue.info)
app.command()(train.train)
app.command()(sample.sample)
app.command()(latent.walk)
app.command()(latent.invert)
app.command()(latent.directions)
app.command()(ui.ui)
app.command("eval")(eval.eval_)
app.command()(report.report)
app.add_typer(plugins.group, name="plugins")
app.command()(share.save)
app.command()(share.push)
app.command()(ui.space)
app.command()(share.publish)
app.command()(share.pull)
app.command()(share.verify)
app.command("import")(share.import_)
app.command()(share.export)


def main() -> None:
    """The console script.

    The exit code is 0, 1 after a GanzooError, which is printed on one line (GANZOO_DEBUG=1 shows the traceback), or 2
    for wrong usage.
    """
    sys.stderr = Talk(sys.stderr)
    if sys.stdout is None:  # closed, as by `>&-`
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (it stays open)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries, about what ganzoo's own messages tell
    logger = logging.getLogger("ganzoo")
    logger.addHandler(_Messages())
    logger.setLevel(logging.INFO if FIRST else logging.WARNING)
    logger.propagate = False
    try:
        try:
            _refuse_odd_outputs(sys.argv[1:])
            app()
        finally:
            sys.stdout.flush()
    except GanzooError as error:
        if os.environ.get("GANZOO_DEBUG") == "1":
            raise
        process = "" if FIRST else f"process {os.environ['RANK']}: "
        print(f"ganzoo: error: {process}{one_line(str(error))}", file=sys.stderr)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("GANZOO_DEBUG") == "1" or not _lacks_memory(error):
            raise
        print(f"ganzoo: error: there is not enough memory: {SMALLER}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `ganzoo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # of a full disk, where nobody has expected it
        if os.environ.get("GANZOO_DEBUG") == "1":
            raise
        print(f"ganzoo: error: the output cannot be written: {reason(error)}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


SMALLER = "choose a smaller batch size, image size or network, or fewer samples"


def _lacks_memory(error: Exception) -> bool:
    """Whether torch or numpy could not have as much memory as it asked for, or the size of it has too many bits."""
    texts = ("can't allocate memory", "Storage size calculation overflowed", "out of memory")
    return isinstance(error, MemoryError) or any(text in str(error) for text in texts)


def _refuse_odd_outputs(arguments: Sequence[str]) -> None:
    """Refuse an output without a name, which would be the current folder, and standard output where a command writes a
    folder or several files, before either is taken for a name."""
    streams = bool(arguments) and arguments[0] in ("sample", "walk")
    for name, value in pairwise([*arguments, "nothing"]):
        if (name in ("-o", "--out") and not value.strip()) or name == "--out=":
            raise ConfigError(f"{name} is empty: name a file or a folder, or leave it out")
        if not streams and ((name in ("-o", "--out") and value == "-") or name == "--out=-"):
            raise ConfigError(f"`ganzoo {arguments[0]}` does not write to standard output: name a file or a folder")


class Talk:
    """Standard error, on which nothing depends: if it is closed, broken or full, what is written to it is lost.

    Args:
        stream: the stream; None if it was closed before the program started.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if self.stream is not None:
            try:
                self.stream.write(text)
            except (OSError, ValueError):
                self._lose()
        return len(text)

    def flush(self) -> None:
        if self.stream is not None:
            try:
                self.stream.flush()
            except (OSError, ValueError):
                self._lose()

    def _lose(self) -> None:
        """Write nothing more, and leave nothing that the interpreter would try to flush at its end."""
        stream, self.stream = self.stream, None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["stream"] or io.StringIO(), name)


class _Messages(logging.Handler):
    """Prints log messages to the present `sys.stderr`, which the live line of progress replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(f"ganzoo: {level}{one_line(record.getMessage())}", file=sys.stderr)
