"""The check of a tracker."""

import secrets
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ganzoo.errors import CheckError
from ganzoo.report.trackers import TrackedRun, Tracker
from ganzoo.store.runs import append_metrics, create_run, save_picture
from ganzoo.testing.components import build_component
from ganzoo.testing.report import explaining, require
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.plugins import registry

PATIENCE = 60.0
"""Seconds that the calls of one record may take in the check."""

Call = tuple[str, tuple[Any, ...]]


def check_tracker(tracker: str | Callable[..., Any], **options: Any) -> None:
    """Check that a tracker keeps the contract: it records a run that is interrupted, resumed from an earlier step, and
    finished, and one that fails before its first line; it leaves alone what it is given, the files of the run, and
    torch's random numbers.

    The tracker does what it does in a training, so a service is called: tell it to stay offline, for example by the
    environment, before the check.

    Args:
        tracker: a registered name, or the class itself.
        **options: the options that it is built with.

    Raises:
        CheckError: a check fails; the message says what is wrong and how to fix it.
    """
    config = TrainConfig(next(iter(registry().architectures)), steps=6)
    with tempfile.TemporaryDirectory() as place:
        folder = create_run(config.replace(out=str(Path(place) / "run")), {})
        pictures = {step: save_picture(folder, step, Image.new("RGB", (8, 8), (40 * step, 0, 0))) for step in (2, 4, 6)}
        values = {"d_loss": 1.25, "g_loss": 0.5, "images_per_second": 100.0}
        for step in pictures:
            append_metrics(folder, {"step": step, **values})
        lines: dict[int, list[Call]] = {
            step: [("log", (step, dict(values))), ("picture", (step, path))] for step, path in pictures.items()
        }
        lines[4].insert(1, ("warn", (4, 'the <b>"discriminator"</b> wins')))
        lines[6][0] = ("log", (6, {**values, "fid": 12.5}))  # a value that earlier lines lack
        files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        new = TrackedRun(folder, "run", secrets.token_hex(8), config.to_dict(), step=0)
        resumed, other = replace(new, step=2), replace(new, id=secrets.token_hex(8))
        for run, calls in (
            (new, [*lines[2], *lines[4], ("finish", ("interrupted",))]),
            (resumed, [*lines[4], *lines[6], ("finish", ("finished",))]),
            (other, [("finish", ("failed",))]),
        ):
            what, instance = build_component("tracker", tracker, {}, options)
            if not isinstance(instance, Tracker):
                raise CheckError(f"{what} is a {type(instance).__name__}: subclass ganzoo.Tracker")
            _run(what, instance, [("start", (run,)), *calls])
        for path, content in files.items():
            same = path.is_file() and path.read_bytes() == content
            require(same, f"{what} changes {path.name} of the run folder: write files of its own")


def _run(what: str, tracker: Tracker, calls: list[Call]) -> None:
    """Make these calls in a thread of their own, as the trainer does."""
    failure: list[CheckError] = []
    method = ""

    def work() -> None:
        nonlocal method
        try:
            for method, arguments in calls:
                before = [dict(each) if isinstance(each, dict) else each for each in arguments]
                state = torch.random.get_rng_state()
                with explaining(f"{what}: {method}(…) fails"):
                    getattr(tracker, method)(*arguments)
                require(before == list(arguments), f"{what}: {method}(…) changes what it is given: work on a copy")
                require(
                    torch.equal(state, torch.random.get_rng_state()),
                    f"{what}: {method}(…) draws from torch's random numbers, which belong to the training: take others",
                )
        except CheckError as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    require(
        not thread.is_alive(), f"{what}: {method}(…) has not returned within {PATIENCE:.0f} s: give it a limit of time"
    )
    if failure:
        raise failure[0]
