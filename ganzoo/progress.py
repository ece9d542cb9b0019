"""What a person sees while images are decoded or a run trains: one live line on a terminal, plain lines elsewhere."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Live

logger = logging.getLogger("ganzoo")

REFRESH = 0.1
"""Seconds between updates of the live line."""
PLAIN = 10
"""Seconds between plain lines of what has no other rhythm."""


@contextlib.contextmanager
def counting(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A context that gives a function to tell how many more are done. Shown where ganzoo's logger shows information."""
    done, shown_at = 0, time.perf_counter()

    def tell(more: int) -> None:
        nonlocal done, shown_at
        done += more
        if live:
            live.update(task, completed=done)
        elif time.perf_counter() - shown_at > PLAIN:
            shown_at = time.perf_counter()
            logger.info("%d of %d %s", done, total, what)

    if not (logger.isEnabledFor(logging.INFO) and sys.stderr.isatty()):
        live = None
        yield tell
        return
    columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Live(*columns, console=Console(stderr=True)) as live:
        task = live.add_task(what, total=total)
        yield tell


class Progress:
    """A context whose `step` and `log` are what `train` wants as `on_step` and `on_log`."""

    def __init__(self, steps: int, *, enabled: bool = True) -> None:
        self.steps = steps
        self.plain = enabled and not sys.stderr.isatty()
        self.live: Live | None = None
        self.shown_at = 0.0
        if enabled and sys.stderr.isatty():
            columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.fields[line]}"), TimeRemainingColumn())
            self.live = Live(*columns, console=Console(stderr=True), speed_estimate_period=60)
            self.task = self.live.add_task("", total=steps, line="starting", start=False)

    def __enter__(self) -> "Progress":
        return self  # the live line starts with the first step: until then, loading data may draw its own

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def step(self, step: int) -> None:
        now = time.perf_counter()
        if self.live and (now - self.shown_at > REFRESH or step == self.steps):
            if not self.shown_at:
                self.live.start()
                self.live.start_task(self.task)
            self.shown_at = now
            self.live.update(self.task, completed=step)

    def log(self, entry: dict[str, Any]) -> None:
        line = f"D {entry['d_loss']:.3f}  G {entry['g_loss']:.3f}" if "d_loss" in entry and "g_loss" in entry else ""
        if "accuracy" in entry:
            line += f"  D right {entry['accuracy']:.0%}"
        if "fid" in entry:
            line += f"  FID {entry['fid']:.3g}"
        line += f"  {entry['images_per_second']:,.0f} images/s"
        if self.live:
            self.live.update(self.task, line=line.strip())
        elif self.plain:
            left = (self.steps - entry["step"]) * entry["seconds"] / entry["step"]
            print(f"step {entry['step']}/{self.steps}  {line.strip()}  {left:.0f} s left", file=sys.stderr, flush=True)
