"""The hooks a plugin may implement, each given a `register` callback to call once per thing it brings.

A hook only ever gains arguments and `register` only gains keywords, so a plugin written today keeps working.
Wherever a callable is asked for, a `"package.module:attribute"` string does as well and is imported only when it
is used: that is what keeps `ganzoo list` fast.
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
    """`register(name, loss, *, summary="", paper="")`: `loss` is called with its options and gives a `ganzoo.Loss`."""


@hookspec
def register_penalties(register: Register) -> None:
    """`register(name, penalty, *, summary="", paper="")`: `penalty` is called with `weight` (if one was given) and
    gives a `ganzoo.Penalty`."""


@hookspec
def register_data(register: Register) -> None:
    """`register(name, loader, *, summary="", license="")`: `loader(data_dir, **options)` gives a `ganzoo.Data`."""


@hookspec
def register_weights(register: Register) -> None:
    """`register("arch.tag", *, path=... | repo_id=..., revision=<40-hex commit>, license, summary="", size=None,
    image_size=None, score="")`; the last three are shown in listings."""
