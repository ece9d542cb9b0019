"""What a person sees while a run trains: one live line on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Live

REFRESH = 0.1
"""Seconds between updates of the live line."""


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
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def step(self, step: int) -> None:
        now = time.perf_counter()
        if self.live and (now - self.shown_at > REFRESH or step == self.steps):
            if not self.shown_at:
                self.live.start_task(self.task)
            self.shown_at = now
            self.live.update(self.task, completed=step)

    def log(self, entry: dict[str, Any]) -> None:
        line = f"D {entry['d_loss']:.3f}  G {entry['g_loss']:.3f}" if "d_loss" in entry and "g_loss" in entry else ""
        if "accuracy" in entry:
            line += f"  D right {entry['accuracy']:.0%}"
        line += f"  {entry['images_per_second']:,.0f} images/s"
        if self.live:
            self.live.update(self.task, line=line.strip())
        elif self.plain:
            left = (self.steps - entry["step"]) * entry["seconds"] / entry["step"]
            print(f"step {entry['step']}/{self.steps}  {line.strip()}  {left:.0f} s left", file=sys.stderr, flush=True)
