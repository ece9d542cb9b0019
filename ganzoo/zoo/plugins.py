"""Finding plugins and loading each alone: one that fails is skipped whole and told once, everything else goes on.

pluggy isolates nothing by itself: an entry point that raises takes the rest down, and a name that comes twice is
dropped in silence. So every plugin gets a manager of its own and registers into a copy of the registry, which
replaces the registry only when all of it went well.
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
from ganzoo.zoo.registry import SINGULAR, Architecture, Component, DataSource, Entry, Registry, Weights

GROUP = "ganzoo"
"""The entry-point group; its built-in members come from the distribution of the same name."""

logger = logging.getLogger("ganzoo")

HOOKS: dict[str, tuple[str, type[Entry]]] = {
    "register_architectures": ("architectures", Architecture),
    "register_losses": ("losses", Component),
    "register_penalties": ("penalties", Component),
    "register_data": ("data", DataSource),
    "register_weights": ("weights", Weights),
}


@dataclass
class PluginRecord:
    """How loading one plugin went: `error` is None or says why it was skipped."""

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
    """The registry, with every installed plugin loaded into it on the first call."""
    global _registry
    if _registry is None:
        _registry = Registry()
        try:
            _load_installed()
        except PluginError:  # GANZOO_STRICT_PLUGINS: the next call must raise again, not find half a registry
            _registry = None
            _records.clear()
            raise
    return _registry


def records() -> list[PluginRecord]:
    """One record per plugin found, the built-in ones first."""
    registry()
    return list(_records)


def register(plugin: object, name: str | None = None) -> None:
    """Load a module or object with hooks in this process: for notebooks, scripts and tests.

    What was registered under the same name before is replaced, so that a notebook's cell can be run again.

    Args:
        plugin: anything with functions marked `@ganzoo.hookimpl`.
        name: what to call it; by default the module's or class's own name.

    Raises:
        PluginError: it breaks the contract; nothing of it is registered.
    """
    name = name or getattr(plugin, "__name__", None) or type(plugin).__name__
    record = PluginRecord("in-process", name)
    _load(plugin, record, _without(record.label))
    _records[:] = [*(known for known in _records if known.label != record.label), record]


def unregister(name: str) -> None:
    """Take what `register` brought under `name` out again.

    Raises:
        PluginError: nothing was registered in this process under that name.
    """
    global _registry
    label = PluginRecord("in-process", name).label
    if not any(record.label == label for record in _records):
        raise PluginError(f"no plugin {name!r} was registered in this process")
    _registry = _without(label)
    _records[:] = [record for record in _records if record.label != label]


def _without(label: str) -> Registry:
    """A copy of the registry without what one plugin brought."""
    copy = registry().copy()
    for table in vars(copy).values():
        for key in [key for key, entry in table.items() if entry.plugin == label]:
            del table[key]
    return copy


def _load_installed() -> None:
    wanted = os.environ.get("GANZOO_PLUGINS")
    packages = None if wanted is None else {part.strip() for part in wanted.split(",") if part.strip()}
    found: dict[str, tuple[PluginRecord, importlib.metadata.EntryPoint]] = {}
    for distribution in importlib.metadata.distributions():
        if points := [point for point in distribution.entry_points if point.group == GROUP]:
            metadata = distribution.metadata  # parsed anew at each access, so not asked for where it is not needed
            for point in points:
                record = PluginRecord(metadata["Name"] or "unknown", point.name, metadata["Version"] or "")
                if packages is None or record.package == GROUP or record.package in packages:
                    found.setdefault(record.label, (record, point))  # the first on sys.path is the one that imports
    for record, point in sorted(found.values(), key=lambda pair: (pair[0].package != GROUP, pair[0].label)):
        _records.append(record)
        try:
            # SystemExit too: a module that calls sys.exit when imported must not end `ganzoo list`.
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
    """Run the plugin's hooks against `staged`, and make that the registry if all went well."""
    global _registry
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        _look_over(plugin)
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


def _look_over(plugin: object) -> None:
    """Refuse mistakes in hooks that pluggy tells in its own words or not at all."""
    for name in dir(plugin):
        hook = getattr(plugin, name, None)
        marked = hasattr(hook, f"{GROUP}_impl")
        if name in HOOKS and not marked:
            raise PluginError(f"{name} is not marked with @ganzoo.hookimpl, so it would never be called")
        if marked and name not in HOOKS:
            raise PluginError(f"there is no hook {name!r}: {did_you_mean(name, HOOKS)}")
        if marked and (others := set(signature(hook).parameters) - {"register"}):  # type: ignore[arg-type]
            raise PluginError(f"{name} takes {', '.join(sorted(others))}: a hook's one argument is called register")


def _register(
    staged: Registry, record: PluginRecord, kind: str, entry_type: type[Entry], *args: Any, **kwargs: Any
) -> None:
    """What a hook gets as `register`: makes the entry, so its signature is the entry's."""
    try:
        entry = entry_type(*args, plugin=record.label, **kwargs)
    except TypeError as error:
        name = repr(args[0]) if args else "..."
        told = str(error).removeprefix(f"{entry_type.__name__}.__init__() ")
        raise PluginError(f"register({name}, ...) of {SINGULAR[kind]}: {told}") from error
    staged.add(kind, entry)
    record.provides.setdefault(kind, []).append(entry.name)
