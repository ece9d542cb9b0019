"""Finds the plugins and loads each by itself: one that fails is skipped as a whole and reported once.

pluggy does not isolate plugins: an entry point that raises an error stops all the others, and a name that is
registered twice is dropped silently. So each plugin gets a manager of its own and registers into a copy of the
registry, which replaces the registry only if the plugin loads without an error.
"""

import importlib.metadata
import logging
import os
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any

import pluggy

from ganzoo.errors import PluginError, did_you_mean
from ganzoo.zoo import hookspecs
from ganzoo.zoo.registry import SINGULAR, Architecture, Component, DataSource, Entry, Registry, TrackerEntry, Weights

GROUP = "ganzoo"
"""The entry-point group. The built-in plugins belong to the distribution of the same name."""

logger = logging.getLogger("ganzoo")

HOOKS: dict[str, tuple[str, type[Entry]]] = {
    "register_architectures": ("architectures", Architecture),
    "register_losses": ("losses", Component),
    "register_penalties": ("penalties", Component),
    "register_data": ("data", DataSource),
    "register_weights": ("weights", Weights),
    "register_trackers": ("trackers", TrackerEntry),
}


@dataclass
class PluginRecord:
    """The outcome of loading one plugin: the names that it registered, by kind, or the error if it was skipped."""

    package: str
    name: str
    version: str = ""
    provides: dict[str, list[str]] = field(default_factory=dict)
    error: str | None = None

    @property
    def label(self) -> str:
        return f"{self.package}:{self.name}"


_registry: Registry | None = None
_records: list[PluginRecord] = []


def registry() -> Registry:
    """The registry. The first call loads every installed plugin into it."""
    global _registry
    if _registry is None:
        _registry = Registry()
        try:
            _load_installed()
        except PluginError:  # GANZOO_STRICT_PLUGINS: the next call must raise it again, not return half a registry
            _registry = None
            _records.clear()
            raise
    return _registry


def records() -> list[PluginRecord]:
    """A record for each plugin, the built-in ones first."""
    registry()
    return list(_records)


def register(plugin: object, name: str | None = None) -> None:
    """Load a plugin into this process alone, for notebooks, scripts and tests.

    It replaces an earlier plugin of the same name, so that a notebook's cell can be run again.

    Args:
        plugin: a module or object with functions marked `@ganzoo.hookimpl`.
        name: the plugin's name; by default that of the module or class.

    Raises:
        PluginError: the plugin breaks the contract; nothing of it is registered.
    """
    name = name or getattr(plugin, "__name__", None) or type(plugin).__name__
    record = PluginRecord("in-process", name)
    _load(plugin, record, _without(record.label))
    _records[:] = [*(known for known in _records if known.label != record.label), record]


def unregister(name: str) -> None:
    """Remove a plugin that `register` loaded, with all its entries.

    Args:
        name: the plugin's name.

    Raises:
        PluginError: no plugin of that name was registered in this process.
    """
    global _registry
    label = PluginRecord("in-process", name).label
    if not any(record.label == label for record in _records):
        raise PluginError(f"no plugin {name!r} was registered in this process")
    _registry = _without(label)
    _records[:] = [record for record in _records if record.label != label]


def _without(label: str) -> Registry:
    """A copy of the registry without the entries of one plugin."""
    copy = registry().copy()
    for table in vars(copy).values():
        for key in [key for key, entry in table.items() if entry.plugin == label]:
            del table[key]
    return copy


def _load_installed() -> None:
    selection = os.environ.get("GANZOO_PLUGINS")
    packages = None if selection is None else {part.strip() for part in selection.split(",") if part.strip()}
    plugins: dict[str, tuple[PluginRecord, importlib.metadata.EntryPoint]] = {}
    for distribution in importlib.metadata.distributions():
        if points := [point for point in distribution.entry_points if point.group == GROUP]:
            metadata = distribution.metadata  # parsed at each access, so only where it is needed
            for point in points:
                record = PluginRecord(metadata["Name"] or "unknown", point.name, metadata["Version"] or "")
                if packages is None or record.package == GROUP or record.package in packages:
                    plugins.setdefault(record.label, (record, point))  # the first on sys.path is the one to import
    for record, point in sorted(plugins.values(), key=lambda pair: (pair[0].package != GROUP, pair[0].label)):
        _records.append(record)
        try:
            # SystemExit too: a module that calls sys.exit at import must not end `ganzoo list`.
            try:
                plugin = point.load()
            except (Exception, SystemExit) as error:
                raise PluginError(f"cannot be imported: {type(error).__name__}: {error}") from error
            _load(plugin, record, registry().copy())
        except PluginError as error:
            _skip(record, str(error), cause=error)
    for package in sorted((packages or set()) - {record.package for record in _records}):
        record = PluginRecord(package, "*")
        _records.append(record)
        _skip(record, "GANZOO_PLUGINS names it, but no installed package of that name has ganzoo entry points")


def _skip(record: PluginRecord, why: str, cause: Exception | None = None) -> None:
    if os.environ.get("GANZOO_STRICT_PLUGINS") == "1":
        raise PluginError(f"plugin {record.label}: {why}") from cause
    record.error = " ".join(why.split())
    record.provides.clear()
    logger.warning("plugin %s is skipped: %s", record.label, record.error)


def _load(plugin: object, record: PluginRecord, staged: Registry) -> None:
    """Let the plugin's hooks register into `staged`, which becomes the registry if none of them fails."""
    global _registry
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        _check_hooks(plugin)
        manager.register(plugin, record.label)
        manager.check_pending()
        if not manager.get_hookcallers(plugin):
            raise PluginError("has no hook marked with @ganzoo.hookimpl")
        for hook, (kind, entry_type) in HOOKS.items():
            getattr(manager.hook, hook)(register=partial(_register, staged, record, kind, entry_type))
    except (Exception, SystemExit) as error:
        if isinstance(error, PluginError):
            raise
        raise PluginError(f"{type(error).__name__}: {error}") from error
    _registry = staged


def _check_hooks(plugin: object) -> None:
    """Refuse mistakes in hooks that pluggy reports in its own terms or not at all."""
    for name in dir(plugin):
        hook = getattr(plugin, name, None)
        marked = hasattr(hook, f"{GROUP}_impl")
        if name in HOOKS and not marked:
            raise PluginError(f"{name} is not marked with @ganzoo.hookimpl, so it would never be called")
        if marked and name not in HOOKS:
            raise PluginError(f"there is no hook {name!r}: {did_you_mean(name, HOOKS)}")
        if marked and (others := set(signature(hook).parameters) - {"register"}):  # type: ignore[arg-type]
            raise PluginError(f"{name} takes {', '.join(sorted(others))}: a hook's only argument is register")


def _register(
    staged: Registry, record: PluginRecord, kind: str, entry_type: type[Entry], *args: Any, **kwargs: Any
) -> None:
    """The `register` callback of a hook. Its arguments are those of the entry that it creates."""
    try:
        entry = entry_type(*args, plugin=record.label, **kwargs)
    except TypeError as error:
        name = repr(args[0]) if args else "..."
        message = str(error).removeprefix(f"{entry_type.__name__}.__init__() ")
        raise PluginError(f"register({name}, ...) of {SINGULAR[kind]}: {message}") from error
    staged.add(kind, entry)
    record.provides.setdefault(kind, []).append(entry.name)
