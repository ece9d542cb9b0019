"""The hooks that a plugin may implement. Each gets a `register` callback, to call once for each thing it registers.

Hooks may gain arguments and `register` may gain keywords, but neither loses any, so that a plugin keeps working.
Instead of a callable, a `"package.module:attribute"` string can be passed. It is imported only when it is used, which
keeps `ganzoo list` fast.
"""

from collections.abc import Callable
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("ganzoo")
hookimpl = pluggy.HookimplMarker("ganzoo")
"""Marks a function of a plugin as the implementation of the hook of the same name."""

Register = Callable[..., None]
Target = Callable[..., Any] | str


@hookspec
def register_architectures(register: Register) -> None:
    """`register(name, *, generator, discriminator, loss="nonsaturating", objective=None, recipes=None, summary="",
    paper="")`"""


@hookspec
def register_losses(register: Register) -> None:
    """`register(name, loss, *, summary="", paper="")`; `loss(**options)` returns a `ganzoo.Loss`."""


@hookspec
def register_penalties(register: Register) -> None:
    """`register(name, penalty, *, summary="", paper="")`; `penalty()` or `penalty(weight=…)` returns a
    `ganzoo.Penalty`."""


@hookspec
def register_data(register: Register) -> None:
    """`register(name, loader, *, summary="", license="", features="", recipe="")`; `loader(data_dir, **options)`
    returns a `ganzoo.Data`. `ganzoo eval --features auto` takes `features`, such as "mnist", and training suggests
    `recipe` where the architecture has one of that name."""


@hookspec
def register_weights(register: Register) -> None:
    """`register("arch.tag", *, path=... | repo_id=..., revision=<40-hex commit>, license, summary="", size=None,
    image_size=None, score="")`; listings show the last three."""


@hookspec
def register_trackers(register: Register) -> None:
    """`register(name, tracker, *, summary="")`; `tracker(**options)` returns a `ganzoo.Tracker`."""
