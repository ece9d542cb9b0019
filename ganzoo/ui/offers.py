"""What a page of the workshop offers: generators, and the training runs below a folder."""

import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganzoo.errors import UnknownNameError, did_you_mean
from ganzoo.store.hub import PREFIX
from ganzoo.store.runs import TRAINING
from ganzoo.store.source import find, from_pretrained
from ganzoo.zoo.plugins import registry

DEPTH = 4
"""Folders from the one that is searched down to a run, at most."""
LOOKED_AT = 5000
"""The most folders that a search for runs looks at."""
LOOK, SHARE = 2.0, 0.02
"""Seconds between two searches at least, and the share of the time that they may take."""
KEPT = 4
"""Generators that are kept in memory."""


class Offers:
    """The generators and runs of a page. A visitor chooses among these and reaches no other folder.

    Args:
        sources: SOURCEs that the command line names. They are offered first.
        runs: the folder below which training runs are offered; None: no runs.
        pretrained: whether all registered weights are offered.
        hub: whether a visitor may name any model of the Hub, which is then fetched.
        device: where generators compute.

    Raises:
        UnknownNameError, WeightsError, HubError: one of the sources is none.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        runs: Path | None = None,
        pretrained: bool = True,
        hub: bool = False,
        device: torch.device | None = None,
    ) -> None:
        for source in sources:
            find(source)
        self._sources, self._runs, self._pretrained, self.hub = tuple(sources), runs, pretrained, hub
        self.device = device or torch.device("cpu")
        self._loaded: OrderedDict[str, nn.Module] = OrderedDict()
        self._lock = threading.Lock()
        self._found: dict[str, Path] = {}
        self._due = 0.0

    @property
    def has_runs(self) -> bool:
        """Whether there is a folder in which to look for runs."""
        return self._runs is not None

    def runs(self) -> dict[str, Path]:
        """The training runs that are there now, by their paths below the folder, the newest first."""
        if self._runs is None:
            return {}
        began = time.monotonic()
        if began >= self._due:
            self._found = _search(self._runs)
            ended = time.monotonic()
            self._due = ended + max(LOOK, (ended - began) / SHARE)
        return dict(self._found)

    def choices(self) -> list[tuple[str, str]]:
        """The generators that can be chosen now, each as a label and what `load` takes."""
        given = {str(Path(source).absolute()) for source in self._sources}
        runs = [
            (f"{name} (run)", str(path.absolute()))
            for name, path in self.runs().items()
            if str(path.absolute()) not in given
            and (any((path / "checkpoints").glob("step-*")) or (path / "model").is_dir())
        ]
        names = [name for name in registry().weights if name not in self._sources] if self._pretrained else []
        return [*((name, name) for name in self._sources), *runs, *((name, name) for name in names)]

    def load(self, source: str, *, again: bool = False) -> nn.Module:
        """A generator that is offered, on the device of this page.

        Args:
            source: one of `choices`, or "hf-hub:ORG/NAME[@REVISION]" where any model of the Hub may be named.
            again: read it anew, such as the newest checkpoint of a run that goes on.

        Raises:
            UnknownNameError: it is not offered.
            WeightsError, CheckpointError, HubError: it cannot be loaded.
        """
        source = source.strip()
        with self._lock:
            if again:
                self._loaded.pop(source, None)
            if source not in self._loaded:
                self._check(source)
                self._loaded[source] = from_pretrained(source).to(self.device)
                while len(self._loaded) > KEPT:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(source)
            return self._loaded[source]

    def _check(self, source: str) -> None:
        known = [value for _, value in self.choices()]
        if source in known or (self.hub and source.startswith(PREFIX)):
            return
        if source.startswith(PREFIX):
            raise UnknownNameError("this page offers no other models of the Hub: choose one of the list")
        if "/" in source or source.startswith("."):
            raise UnknownNameError(
                f"this page does not offer {source}: start `ganzoo ui {source}`, or `--runs` with a folder above it"
            )
        raise UnknownNameError(f"no generator {source!r} is offered here: {did_you_mean(source, known)}")


def _search(root: Path) -> dict[str, Path]:
    """The runs below a folder by their paths in it, the newest first. Folders nearer to it are looked at first."""
    waiting, found = deque([(root, 0)]), []
    for _ in range(LOOKED_AT):
        if not waiting:
            break
        folder, depth = waiting.popleft()
        try:
            below = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
            if "checkpoints" in below and (folder / TRAINING).is_file():
                found.append(((folder / TRAINING).stat().st_mtime, folder))
                continue
        except OSError:  # it is gone, or may not be read
            continue
        if depth < DEPTH:
            waiting.extend((folder / name, depth + 1) for name in below if not name.startswith((".", "__")))
    return {path.relative_to(root).as_posix(): path for _, path in sorted(found, reverse=True)}


def settings(g: nn.Module) -> dict[str, Any]:
    """The settings that a generator was built from."""
    config: dict[str, Any] = g.config  # type: ignore[assignment]  # set by the zoo
    return config
