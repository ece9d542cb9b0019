"""Signals that ask a training to stop."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

logger = logging.getLogger("ganzoo")


class Stop(threading.Event):
    """Set when training is to stop.

    Attributes:
        number: that of the signal that asked for it.
    """

    number: int | None = None


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets. The second one has its usual effect."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}  # as under nohup

    def handle(number: int, frame: FrameType | None) -> None:
        stop.number = number
        stop.set()
        signal.signal(number, before[number])
        logger.info("stopping after this step: writing a checkpoint")

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
