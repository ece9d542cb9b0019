"""The registry: plain dicts of architectures, losses, penalties, data sets, weights and trackers. Imports no torch."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ganzoo.errors import PluginError, UnknownNameError, did_you_mean
from ganzoo.zoo.hookspecs import Target

NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Entry:
    """One registered thing. `plugin` is the "package:name" of the plugin that registered it."""

    name: str
    _: KW_ONLY
    plugin: str
    summary: str = ""

    def targets(self) -> dict[str, Target]:
        """The callables that this entry uses, or the strings to import them by, by role."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Architecture(Entry):
    """Two networks, their loss and objective, and recipes, which are differences from the default configuration."""

    generator: Target
    discriminator: Target
    loss: str = "nonsaturating"
    objective: Target | None = None
    recipes: Mapping[str, Mapping[str, Any]] | None = None
    paper: str = ""

    def targets(self) -> dict[str, Target]:
        both = {"generator": self.generator, "discriminator": self.discriminator}
        return both if self.objective is None else {**both, "objective": self.objective}


@dataclass(frozen=True)
class Component(Entry):
    """A loss or a penalty."""

    target: Target
    _: KW_ONLY
    paper: str = ""

    def targets(self) -> dict[str, Target]:
        return {"target": self.target}


@dataclass(frozen=True)
class DataSource(Entry):
    """A data set and its loader. `features` are those by which generators of it are compared, or empty; `recipe` is the
    name of the recipes that were tuned to it, or empty."""

    loader: Target
    _: KW_ONLY
    license: str = ""
    features: str = ""
    recipe: str = ""

    def targets(self) -> dict[str, Target]:
        return {"loader": self.loader}


@dataclass(frozen=True, kw_only=True)
class Weights(Entry):
    """Pretrained weights "arch.tag": a model folder at `path`, or one commit of a Hub repository."""

    license: str
    path: str | Path | None = None
    repo_id: str | None = None
    revision: str | None = None
    size: int | None = None
    image_size: int | None = None
    score: str = ""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.repo_id is None):
            raise PluginError(f"weights {self.name!r} need either path= or repo_id=")
        if self.repo_id is not None and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise PluginError(f"weights {self.name!r} need revision= with the 40-hex commit of {self.repo_id!r}")


@dataclass(frozen=True)
class TrackerEntry(Entry):
    """A tracker, which records runs elsewhere."""

    target: Target

    def targets(self) -> dict[str, Target]:
        return {"target": self.target}


E_ = TypeVar("E_", bound=Entry)


class Registry:
    """All entries, in a dict for each kind. Names are unique within a kind."""

    def __init__(self) -> None:
        self.architectures: dict[str, Architecture] = {}
        self.losses: dict[str, Component] = {}
        self.penalties: dict[str, Component] = {}
        self.data: dict[str, DataSource] = {}
        self.weights: dict[str, Weights] = {}
        self.trackers: dict[str, TrackerEntry] = {}

    def copy(self) -> "Registry":
        """A copy whose entries can change without changing this registry."""
        other = Registry()
        for kind, entries in vars(self).items():
            setattr(other, kind, dict(entries))
        return other

    def add(self, kind: str, entry: Entry) -> None:
        """Add `entry` under `kind`.

        Raises:
            PluginError: the name is malformed or taken, or a target's module does not exist.
        """
        table: dict[str, Entry] = getattr(self, kind)
        what = SINGULAR[kind]
        pattern = rf"{NAME.pattern}\.{NAME.pattern}" if kind == "weights" else NAME.pattern
        if not re.fullmatch(pattern, entry.name):
            form = "have the form ARCHITECTURE.TAG, each of" if kind == "weights" else "consist of"
            raise PluginError(f"the {what} name {entry.name!r} must {form} lower-case letters, digits and underscores")
        if entry.name in table:
            raise PluginError(f"the {what} name {entry.name!r} is taken by {table[entry.name].plugin}")
        for role, target in entry.targets().items():
            check_target(target, f"{role} of {what} {entry.name!r}")
        table[entry.name] = entry

    def find(self, table: Mapping[str, E_], name: str, what: str) -> E_:
        """The entry called `name`.

        Raises:
            UnknownNameError: there is none; the message names the nearest.
        """
        if name not in table:
            raise UnknownNameError(f"no {what} is called {name!r}: {did_you_mean(name, table)}")
        return table[name]

    def architecture(self, name: str) -> Architecture:
        return self.find(self.architectures, name, "architecture")

    def loss(self, name: str) -> Component:
        return self.find(self.losses, name, "loss")

    def penalty(self, name: str) -> Component:
        return self.find(self.penalties, name, "penalty")

    def tracker(self, name: str) -> TrackerEntry:
        return self.find(self.trackers, name, "tracker")


SINGULAR = {
    "architectures": "architecture",
    "losses": "loss",
    "penalties": "penalty",
    "data": "data",
    "weights": "weights",
    "trackers": "tracker",
}


def check_target(target: Target, what: str) -> None:
    """Refuse a target that could never be resolved, without importing its module.

    Raises:
        PluginError: it is neither a callable nor a "package.module:attribute" string, or there is no such module.
    """
    if callable(target):
        return
    if not isinstance(target, str) or not TARGET.fullmatch(target):
        raise PluginError(f"the {what} must be a callable or 'package.module:attribute', not {target!r}")
    module = target.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise PluginError(f"the {what} names the module {module!r}, which cannot be found: {error}") from error
    if spec is None:
        raise PluginError(f"the {what} names the module {module!r}, which does not exist")
