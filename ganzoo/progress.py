"""Progress while images are decoded or a run trains: one live line on a terminal and in a notebook, plain lines
elsewhere."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ClassVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Live

logger = logging.getLogger("ganzoo")

REFRESH = 0.1
"""Seconds between updates of the live line."""
NOTEBOOK = 0.5
"""Seconds between updates of the line in a notebook, each of which is a message to the browser."""
BAR = 24
"""Characters of a bar."""
PLAIN = 10
"""Seconds between plain lines about a count."""

Listener = Callable[[int, int, str], None]
"""Is told how many of how many things are done, and what they are."""
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """In the block, what `counting` counts in this thread is told to `listener` instead of being shown."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def in_notebook() -> bool:
    """Whether this code runs in a notebook, be it in a browser or in an editor. Imports no IPython."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class NotebookLine:
    """A line in the output of a notebook's cell that is replaced in place, which Jupyter, VS Code and Colab can.

    Args:
        total: what the bar counts to.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._first = (0, 0.0)  # what was done when it was first shown, and when that was
        self._shown_at = 0.0
        self._display: Any = None

    def show(self, done: int, text: str, *, force: bool = False) -> None:
        """Show how much is done, unless the line has just been changed.

        Args:
            done: of the total.
            text: what else to say.
            force: show it in any case.
        """
        now = time.perf_counter()
        if self._display is not None and now - self._shown_at < NOTEBOOK and not force:
            return
        self._shown_at = now
        if self._display is None:
            self._first = (done, now)
        since, seconds = done - self._first[0], now - self._first[1]
        left = f"  {(self.total - done) * seconds / since:.0f} s left" if since and done < self.total else ""
        filled = BAR * min(done, self.total) // self.total
        line = {"text/plain": f"{'━' * filled}{'·' * (BAR - filled)} {done:,}/{self.total:,}  {text}{left}"}
        if self._display is None:
            self._display = sys.modules["IPython.display"].display(line, raw=True, display_id=True)
        else:
            self._display.update(line, raw=True)


@contextlib.contextmanager
def counting(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` items are done, if ganzoo's logger shows messages of level INFO, or in a notebook after
    a second. During a training whose live line is shown, a second line appears below it.

    Yields:
        A function to call with the number of items that were finished since the last call.
    """
    began = last_line = time.perf_counter()
    listener = _listener.get()
    done, line = 0, NotebookLine(total) if in_notebook() and not listener else None

    def advance(count: int) -> None:
        nonlocal done, last_line
        done += count
        if listener:
            listener(done, total, what)
        elif line:
            if time.perf_counter() - began > 1:
                line.show(done, what, force=done >= total)
        elif live:
            live.update(task, completed=done)
        elif time.perf_counter() - last_line > PLAIN:
            last_line = time.perf_counter()
            logger.info("%d of %d %s", done, total, what)

    if listener or line or not (logger.isEnabledFor(logging.INFO) and sys.stderr.isatty()):
        live = None
        yield advance
        return
    training = Progress.shown
    own = contextlib.nullcontext(training) if training else Live(*_columns(), console=Console(stderr=True))
    with own as live:
        task = live.add_task(what, total=total)
        yield advance
        if training:
            training.remove_task(task)


def _columns() -> tuple[ProgressColumn, ...]:
    return BarColumn(BAR), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()


class Progress:
    """The progress of a training. As a context manager, it takes the live line away at the end.

    `step` and `log` are meant as the `on_step` and `on_log` of `train`.

    Args:
        steps: the last step of the run.
        enabled: whether to show anything.
    """

    shown: ClassVar[Live | None] = None
    """The live display while there is one; a terminal has room for one only."""

    def __init__(self, steps: int, *, enabled: bool = True) -> None:
        self.steps = steps
        self.cell = NotebookLine(steps) if enabled and in_notebook() else None
        self.plain = enabled and not self.cell and not sys.stderr.isatty()
        self.live: Live | None = None
        self.last_update = 0.0
        self.text = "starting"
        if enabled and not self.cell and sys.stderr.isatty():
            self.live = Live(*_columns(), console=Console(stderr=True), speed_estimate_period=60)
            self.task = self.live.add_task("starting", total=steps, start=False)

    def __enter__(self) -> "Progress":
        return self  # the live line starts with the first step: loading the data may show one before that

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        Progress.shown = None
        if self.live:
            self.live.stop()

    def step(self, step: int) -> None:
        """Show that so many steps are done."""
        now = time.perf_counter()
        if self.live and (now - self.last_update > REFRESH or step == self.steps):
            if not self.last_update:
                self.live.start()
                Progress.shown = self.live
                self.live.start_task(self.task)
            self.last_update = now
            self.live.update(self.task, completed=step)
        elif self.cell:
            self.cell.show(step, self.text, force=step == self.steps)

    def log(self, entry: dict[str, Any]) -> None:
        """Show a line of metrics.jsonl in short."""
        line = f"D {entry['d_loss']:.3f}  G {entry['g_loss']:.3f}" if "d_loss" in entry and "g_loss" in entry else ""
        if "accuracy" in entry:
            line += f"  D right {entry['accuracy']:.0%}"
        if "diversity" in entry:
            line += f"  diversity {entry['diversity']:.2f}"
        if "fid" in entry:
            line += f"  FID {entry['fid']:.3g}"
        line += f"  {entry['images_per_second']:,.0f} images/s"
        self.text = line.strip()
        if self.live:
            self.live.update(self.task, description=self.text)
        elif self.plain:
            left = (self.steps - entry["step"]) * entry["seconds"] / entry["step"]
            print(f"step {entry['step']}/{self.steps}  {self.text}  {left:.0f} s left", file=sys.stderr, flush=True)
