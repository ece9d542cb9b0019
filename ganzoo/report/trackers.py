"""Trackers, which record a run elsewhere than in its folder, and the threads that keep them from costing the run."""

import contextlib
import json
import logging
import queue
import re
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ganzoo.errors import PluginError
from ganzoo.files import read_json, write_text
from ganzoo.zoo.networks import build
from ganzoo.zoo.plugins import registry
from ganzoo.zoo.spelling import TrackerSpec

logger = logging.getLogger("ganzoo")

Call = tuple[str, tuple[Any, ...]]
"""A method's name, and its arguments."""
END: Call = ("", ())
"""In place of a call: there are no more."""
IDENTITY = "trackers.json"
"""The file of a run folder by which trackers know a run again when it is resumed."""
WAITING = 256
"""The most calls that wait for a tracker. What comes beyond them is lost there."""
CLOSING = 20.0
"""Seconds in which trackers may finish their records at the end of a run."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run.

    Attributes:
        folder: the run folder.
        name: the name of that folder, for people.
        id: a word that no other run has, and that stays the same when the run is resumed.
        config: its settings, as `TrainConfig.to_dict` gives them.
        step: the number of steps that were finished before; 0 for a new run. What an interrupted run has recorded
            after this step will come again, with the same values.
    """

    folder: Path
    name: str
    id: str
    config: dict[str, Any]
    step: int


class Tracker:
    """Base class of trackers. Every method may be left out.

    `__init__` takes the options, as keywords with defaults. It runs before training and must return at once: it may
    raise `ganzoo.ConfigError`, for example because a package is not installed. The other methods run one after another
    in a thread of the tracker's own. Whatever they raise, and however long they take, the run goes on.
    """

    def start(self, run: TrackedRun) -> None:
        """Open the record of this run, or of a resumed one go on with it. If this fails, no other method is called."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the numbers of a log line: losses, accuracy, images a second, FID where it was measured."""

    def picture(self, step: int, path: Path) -> None:
        """Record the picture of samples of a step, a PNG file in the run folder."""

    def warn(self, step: int, text: str) -> None:
        """Record a warning of the training."""

    def finish(self, status: str) -> None:
        """Close the record.

        Args:
            status: "finished", "interrupted", or "failed" after an error.
        """


def make_trackers(specs: list[TrackerSpec]) -> dict[str, Tracker]:
    """The trackers of a run, by name.

    Raises:
        UnknownNameError: no tracker is registered by one of the names.
        ConfigError: a tracker has no such option, refuses a value, or needs a package that is not installed.
        PluginError: a tracker cannot be loaded, or is none.
    """
    trackers = {}
    for spec in specs:
        entry = registry().tracker(spec.name)
        tracker, _ = build(entry.target, {}, spec.options, f"the tracker {spec.name}")
        if not isinstance(tracker, Tracker):
            kind = type(tracker).__name__
            raise PluginError(f"the tracker {spec.name} of {entry.plugin} is a {kind}: subclass ganzoo.Tracker")
        trackers[spec.name] = tracker
    return trackers


class Tracking:
    """Hands what a run logs to its trackers, each in a thread of its own, and never waits for one but at the end.

    A context manager: entering it starts the trackers, and leaving it finishes their records.

    Args:
        trackers: by name.
        folder: the run folder.
        config: the run's settings.
        step: the number of steps that are finished.
    """

    def __init__(self, trackers: Mapping[str, Tracker], folder: Path, config: dict[str, Any], step: int) -> None:
        self._workers = [_Worker(name, tracker) for name, tracker in trackers.items()]
        self._folder, self._config, self._last = folder, config, step
        self._aside: _Aside | None = None

    def __enter__(self) -> "Tracking":
        if self._workers:
            name = self._folder.resolve().name
            run = TrackedRun(self._folder, name, _identity(self._folder), self._config, self._last)
            if sys.stdout is not None:
                self._aside = _Aside(sys.stdout, {worker.thread: worker.name for worker in self._workers})
                sys.stdout = self._aside
            for worker in self._workers:
                worker.call("start", run)
                worker.thread.start()
        return self

    def log(self, entry: Mapping[str, Any]) -> None:
        """Hand over a line of metrics.jsonl."""
        self._last = step = entry["step"]
        values = {key: value for key, value in entry.items() if key != "step" and isinstance(value, int | float)}
        for worker in self._workers:
            worker.call("log", step, dict(values))
            for text in entry.get("warnings", ()):
                worker.call("warn", step, text)

    def picture(self, step: int, path: Path) -> None:
        """Hand over the picture of a step."""
        for worker in self._workers:
            worker.call("picture", step, path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "failed" if kind else "finished" if self._last >= self._config["steps"] else "interrupted"
        for worker in self._workers:
            worker.end(status)
        until = time.monotonic() + CLOSING
        for worker in self._workers:
            worker.join(until)
        if sys.stdout is self._aside and self._aside is not None:
            sys.stdout = self._aside.stream


class _Worker:
    """A tracker and its thread, which is a daemon: one that hangs does not keep the process."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self.calls: queue.Queue[Call] = queue.Queue(WAITING)
        self.thread = threading.Thread(target=self._work, name=f"ganzoo tracker {name}", daemon=True)
        self.lost = self.failed = 0
        self.over = False

    def call(self, method: str, *arguments: Any) -> None:
        """Have a method called in the thread, unless it has ended or too much waits there."""
        if self.over:
            return
        try:
            self.calls.put_nowait((method, arguments))
        except queue.Full:
            if not self.lost:
                logger.warning(
                    "tracking with %s does not keep up: the run goes on, and what comes until it does is missing there",
                    self.name,
                )
            self.lost += 1

    def end(self, status: str) -> None:
        """Have the record finished, and the thread ended. Where too much waits, the oldest calls make room."""
        for call in (("finish", (status,)), END):
            while True:
                try:
                    self.calls.put_nowait(call)
                    break
                except queue.Full:
                    with contextlib.suppress(queue.Empty):
                        self.calls.get_nowait()
                        self.lost += 1

    def _work(self) -> None:
        while (call := self.calls.get()) is not END:
            method, arguments = call
            try:
                getattr(self.tracker, method)(*arguments)
            except (Exception, SystemExit) as error:  # noqa: BLE001  (other people's code may raise anything)
                if not self.failed:
                    cause = " ".join(f"{type(error).__name__}: {error}".split())
                    logger.warning("tracking with %s fails (%s: %s): the run goes on", self.name, method, cause)
                self.failed += 1
                if method == "start":
                    self.over = True
                    return

    def join(self, until: float) -> None:
        """Wait for the thread until a time of `time.monotonic`, and say if it is late."""
        self.thread.join(max(0.0, until - time.monotonic()))
        if self.thread.is_alive():
            logger.warning(
                "tracking with %s has not finished within %.0f s: the run is complete, its record there may not be",
                self.name, CLOSING,
            )  # fmt: skip
        elif self.lost or self.failed > 1:
            logger.warning("%d records of this run are missing with %s", self.lost + self.failed, self.name)


def _identity(folder: Path) -> str:
    """The word by which trackers know a run again, from its folder; a new one is written there."""
    path = folder / IDENTITY
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        identity = read_json(path)["id"]
        if isinstance(identity, str) and re.fullmatch(r"[0-9a-z]{4,64}", identity):
            return identity
    identity = secrets.token_hex(8)
    try:
        write_text(path, json.dumps({"id": identity}) + "\n")
    except OSError as error:
        logger.warning(
            "%s cannot be written (%s): once resumed, the run will be a new one to its trackers", path, error
        )
    return identity


class _Aside:
    """Standard output, which holds results alone: what trackers print becomes a message of ganzoo's.

    Args:
        stream: the standard output.
        names: the names of the trackers by their threads.
    """

    def __init__(self, stream: TextIO, names: Mapping[threading.Thread, str]) -> None:
        self.stream, self._names = stream, names

    def write(self, text: str) -> int:
        name = self._names.get(threading.current_thread())
        if name is None:
            return self.stream.write(text)
        for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
            if line.strip():
                logger.info("%s: %s", name, line.strip())
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
