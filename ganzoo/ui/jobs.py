"""Jobs of a page: one computes at a time, says how far it is, and stops when it is told to or its tab is closed."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from torch import nn

from ganzoo.progress import listening

REFRESH = 0.2
"""Seconds between two messages about progress."""

Tell = Callable[[int, int, str], None]
"""Shows that so many of so many steps are done, and a text."""


class Stopped(Exception):
    """A job was stopped by its visitor."""


class Jobs:
    """The jobs of all tabs of a page."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._session: str | None = None
        self._stop = False
        self._closed: set[str] = set()

    @contextlib.contextmanager
    def running(self, session: str, generators: list[nn.Module], tell: Tell) -> Iterator[None]:
        """A job of a tab, which begins when the one before it has ended.

        What it counts by `ganzoo.progress.counting` is shown, with the time that is left. A generator that it calls
        raises `Stopped` before its next layer if the job is to stop.

        Args:
            session: the tab's.
            generators: those that it calls.
            tell: shows progress.
        """
        with self._turn:
            self._session, self._stop = session, session in self._closed
            modules = {module for g in generators for module in g.modules()}
            handles = [module.register_forward_pre_hook(lambda *_: self._check()) for module in modules]
            try:
                self._check()
                with listening(_timed(tell)):
                    yield
            finally:
                self._session = None
                for handle in handles:
                    handle.remove()

    def stop(self, session: str) -> None:
        """Stop the job of a tab, if it runs."""
        if session == self._session:
            self._stop = True

    def close(self, session: str) -> None:
        """Stop the job of a tab that is closed, and let none of its waiting jobs begin."""
        self._closed.add(session)
        self.stop(session)

    def end(self) -> None:
        """Stop the job that is running, as the server ends."""
        self._stop = True

    def _check(self) -> None:
        if self._stop:
            raise Stopped


def _timed(tell: Tell) -> Tell:
    """Adds the time that is left, and tells at most every `REFRESH` seconds."""
    began = last = time.perf_counter()

    def counted(done: int, total: int, what: str) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last < REFRESH and done < total:
            return
        last = now
        left = (now - began) * (total - done) / max(done, 1)
        time_left = f", about {left:.0f} s left" if left >= 1 else ""
        tell(done, total, f"{done} of {total} {what}{time_left}")

    return counted
