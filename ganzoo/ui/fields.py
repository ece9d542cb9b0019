"""The fields and outputs of the workshop that several of its tabs have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from torch import nn

from ganzoo.sampling.classes import class_names
from ganzoo.sampling.draw import class_count
from ganzoo.sampling.options import call_options, option_choices
from ganzoo.zoo.command import parse_assignment

Values = dict[Any, Any]
"""The values of components, by component."""
IN_TURN = "all classes in turn"


@dataclass(frozen=True)
class Fields:
    """The fields for what a generator's call takes: a class, and its call options by name."""

    g: nn.Module
    label: Any
    options: dict[str, Any]

    @property
    def components(self) -> set[Any]:
        """All of them."""
        return {*self.options.values(), *([] if self.label is None else [self.label])}

    def read(self, values: Values) -> tuple[int | None, dict[str, Any]]:
        """The class, if one was chosen, and the options that differ from their defaults."""
        label = None if self.label is None or values[self.label] == IN_TURN else int(values[self.label])
        chosen: dict[str, Any] = {}
        for name, default in call_options(self.g).items():
            value = values[self.options[name]]
            if isinstance(value, str) and not option_choices(self.g, name):
                value = default if not value.strip() else parse_assignment(f"{name}={value.strip()}")[1]
            if value not in (default, "" if default is None else default, None):
                chosen[name] = value
        return label, chosen


def fields(g: nn.Module) -> Fields:
    """Fields for the class and for every call option of a generator."""
    label = class_field(g)
    return Fields(g, label, {name: _option_field(g, name, default) for name, default in call_options(g).items()})


def class_field(g: nn.Module, *, in_turn: bool = True) -> Any:
    """A list of the classes of a generator; None where it has none."""
    count = class_count(g)
    if count is None:
        return None
    names = class_names(g) or [f"class {number}" for number in range(count)]
    choices = [*([(IN_TURN, IN_TURN)] if in_turn else []), *((name, str(i)) for i, name in enumerate(names))]
    return gr.Dropdown(choices, value=choices[0][1], label="Class", interactive=True)


def _option_field(g: nn.Module, name: str, default: Any) -> Any:
    """A field for one call option: a list of its values, a box to tick, a number, or a text."""
    if choices := option_choices(g, name):
        listed = [(f"{choice}", choice) for choice in choices]
        first = [("default", "")] if default is None else []
        return gr.Dropdown([*first, *listed], value="" if default is None else default, label=name, interactive=True)
    if isinstance(default, bool):
        return gr.Checkbox(default, label=name, interactive=True)
    if isinstance(default, int | float):
        step = 1 if isinstance(default, int) else 0.05
        return gr.Number(default, label=name, step=step, info=f"default {default}", interactive=True)
    return gr.Textbox("", label=name, interactive=True, info=f"default {default}, which stands if this is empty")


def whole(label: str, value: int, most: int, least: int = 0) -> Any:
    """A field for a whole number."""
    return gr.Number(value, label=label, precision=0, minimum=least, maximum=most, interactive=True)


def plain(text: str) -> str:
    """A text as Markdown in which nothing is markup."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|~#$&" else c for c in text)


def downloads(name: str) -> Any:
    """A list of files to download, which appears with the first of them."""
    return gr.File(label="Download", file_count="multiple", interactive=False, visible=False, elem_id=name)


def offered(paths: Sequence[Path]) -> Any:
    """Files as the value of `downloads`."""
    return gr.File([str(path) for path in paths], visible=True)


def gallery_of(label: str, name: str, *, wide: bool = False) -> Any:
    """A table of pictures, `wide` for those that hold several."""
    return gr.Gallery(
        label=label, show_label=False, format="png", elem_classes=["pictures", *(["wide"] if wide else [])],
        elem_id=name, object_fit="contain", height="auto", interactive=False, buttons=["fullscreen"],
    )  # fmt: skip


def picture_of(label: str, name: str) -> Any:
    """One picture, enlarged."""
    return gr.Image(
        label=label, elem_classes="picture", elem_id=name, format="png", height=320, interactive=False,
        buttons=["fullscreen"], alt_text=label,
    )  # fmt: skip
