"""Loading training data from a `--data` spec, and the inputs of a translation from an `--inputs` spec.

A `--data` spec is a registered name (`digits`, `mnist`, ...), a folder or zip of images or of sounds, or `hf:ORG/NAME`.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganzoo.data.cache import load_images
from ganzoo.data.dataset import Composed, Data
from ganzoo.data.decode import Pixels
from ganzoo.data.folders import has_split, holds_sounds, open_path
from ganzoo.data.hub_dataset import open_hub
from ganzoo.data.inputs import KINDS, Made, is_made, luminance
from ganzoo.data.pairs import pair
from ganzoo.data.sound import read_sounds
from ganzoo.data.source import Source
from ganzoo.errors import ConfigError, DataError, UnknownNameError, did_you_mean
from ganzoo.sampling.classes import name_fault
from ganzoo.zoo.networks import build, resolve
from ganzoo.zoo.plugins import registry

logger = logging.getLogger("ganzoo")

INPUT_OPTIONS = ("paired", "input_size", "input_channels")
"""Options of `load` that are about inputs."""
SIDES = {"A": "B", "B": "A"}
HALVES = {"left": "right", "right": "left"}
"""The inputs that lie beside the items in the same folder, or in the same pictures, and the place of the items."""


def load(
    spec: str,
    data_dir: str = "data",
    *,
    image_size: int | None = None,
    channels: int | None = None,
    inputs: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Data:
    """Load the data that a spec names, as images of one size or sounds of one length, and the inputs of a translation.

    Args:
        spec: a registered name, a folder or zip of images or of sounds, or `hf:` and a data set of the Hub or a folder
            with one.
        data_dir: the folder of named data sets, also for downloads.
        image_size: height and width in pixels; None: the data's own, which for a folder is its images' common size, but
            at most 64, or 64 without one. Sounds have none.
        channels: 1 or 3; None: the data's own. Sounds keep theirs.
        inputs: what the images are translated from; None: nothing, unless named data brings inputs. `edges`, `grey`,
            `masked` or `smaller=K`: made from the images (see `ganzoo.data.inputs`). `left` or `right`: that half of
            each picture, and the images are the other half. `A` or `B`: the images in the folder of that name, or in
            trainA, testB and the like, and the images are in the other one. `column=NAME`: another column of a Hub data
            set. Else a spec as the first one: images of the same names.
        options: keywords for the loader of named data, or else for `open_path`, `read_sounds` or `open_hub`, such as
            `{"split": "test"}`. With inputs also `paired` (False: inputs and images do not belong together),
            `input_size` (height and width of inputs in pixels, by default those of the images) and `input_channels`.

    Raises:
        DataError: the data is missing, more than 1 % of the images or sounds cannot be read, or inputs and images have
            no names in common.
        ConfigError: an option is unknown, or the images cannot have these channels.
        UnknownNameError: the spec is neither a registered name nor a path that exists.
    """
    options = dict(options or {})
    own = {name: options.pop(name) for name in INPUT_OPTIONS if name in options}
    if inputs is None or is_made(inputs):
        data = _load_items(spec, data_dir, image_size, channels, options)
        if inputs is not None:
            if own.keys() - {"paired"}:
                raise ConfigError(f"inputs made from the images ({inputs}) have their size and channels from these")
            data = replace(data, inputs=Made(data.items, inputs), paired=own.get("paired") is not False)
        elif own and data.inputs is None:
            raise ConfigError(f"data.{min(own)} is about inputs, and there are none: add {ADD_INPUTS}")
        elif own.get("paired") is False:
            data = replace(data, paired=False)
        return data
    if not _lies_beside(inputs):
        if not inputs.startswith("hf:"):
            _check_exists(inputs, [*KINDS, *SIDES, *HALVES])
        if registry().data.keys() & {spec, inputs}:
            return _load_unpaired(spec, data_dir, image_size, channels, inputs, options, own)
    return _load_sources(_open_both(spec, inputs, options), image_size, channels, own)


ADD_INPUTS = "--inputs edges, grey, masked, smaller=4, left, right, A, B, column=NAME or a folder or zip"
"""What `--inputs` takes."""


def _lies_beside(inputs: str) -> bool:
    """Whether these inputs are in the same folder or data set as the images, or in the same pictures."""
    return inputs in SIDES or inputs in HALVES or inputs.startswith("column=")


def _load_items(
    spec: str, data_dir: str, image_size: int | None, channels: int | None, options: Mapping[str, Any]
) -> Data:
    if spec in registry().data:
        offered = {"data_dir": data_dir, "image_size": image_size, "channels": channels}
        data, _ = build(registry().data[spec].loader, offered, options, f"the data {spec!r}")
        if not isinstance(data, Data):
            raise DataError(f"the loader of {spec!r} returns a {type(data).__name__}: it must return a ganzoo.Data")
        return _fit(data, image_size, channels)
    if not spec.startswith("hf:") and holds_sounds(_path(spec)):
        sounds, _ = build(partial(read_sounds, _path(spec)), {}, options, f"the data {spec!r}")
        classes = _usable(sounds.classes, spec)
        return Data(torch.from_numpy(sounds.items), sounds.labels, classes=classes, rate=sounds.rate)
    source = _open(spec, options)
    items, skipped = load_images(source, image_size, channels)
    return _data(source, items, skipped)


def _open(spec: str, options: Mapping[str, Any], **fixed: str) -> Source:
    """The encoded images that a spec names, which is not that of named data."""
    opener = partial(open_hub, spec[3:]) if spec.startswith("hf:") else partial(open_path, _path(spec), **fixed)
    source: Source
    source, _ = build(opener, {}, options, f"the data {spec!r}")
    return source


def _data(source: Source, items: Pixels, skipped: list[int]) -> Data:
    """The data of decoded images, whose labels and classes are the source's."""
    labels, classes = source.labels, _usable(source.classes, source.what)
    if labels is not None and skipped:
        labels = np.delete(labels, skipped)
    return Data(torch.from_numpy(items), None if labels is None else torch.from_numpy(labels), classes=classes)


def _usable(classes: list[str] | None, what: str) -> list[str] | None:
    """The names of the classes, or None with a warning where they cannot be used."""
    if classes is not None and (fault := name_fault(classes)):
        logger.warning("the classes of %s have numbers only, no names: %s", what, fault)
        return None
    return classes


def _open_both(spec: str, inputs: str, options: Mapping[str, Any]) -> tuple[Source, Source]:
    """The encoded images and inputs."""
    if _lies_beside(inputs):
        column = inputs.partition("=")[2]
        if bool(column) != spec.startswith("hf:") or spec in registry().data:
            kind = "is a column of a Hub data set, hf:ORG/NAME" if column else "is for folders and zips"
            hint = " (for this one take --inputs column=NAME)" if spec.startswith("hf:") else ""
            raise ConfigError(f"--inputs {inputs} {kind}, which {spec} is not{hint}")
        if column:
            return _open(spec, options), _open(spec, {**options, "column": column, "label": None})
        if inputs in SIDES:
            return _open(spec, options, side=SIDES[inputs]), _open(spec, options, side=inputs)
        return _open(spec, options, half=HALVES[inputs]), _open(spec, options, half=inputs)
    split = {"split": options["split"]} if "split" in options else {}
    return _open(spec, options), _open(inputs, split)


def _load_sources(
    sources: tuple[Source, Source], image_size: int | None, channels: int | None, own: Mapping[str, Any]
) -> Data:
    """Decode images and inputs, and leave out pairs of which one cannot be read."""
    paired = own.get("paired") is not False
    targets, given = pair(*sources) if paired else sources
    items, skipped = load_images(targets, image_size, channels)
    inputs, without = load_images(given, own.get("input_size") or items.shape[2], own.get("input_channels"))
    if paired and set(skipped) != set(without):
        number = len(targets.names)
        rest = [[i for i in range(number) if i not in own] for own in (set(skipped), set(without))]
        items, inputs = (
            np.delete(rows, [i for i, index in enumerate(kept) if index in other], 0)
            for rows, kept, other in ((items, rest[0], set(without)), (inputs, rest[1], set(skipped)))
        )
        skipped = sorted({*skipped, *without})
    return replace(_data(targets, items, skipped), inputs=torch.from_numpy(inputs), paired=paired)


def _load_unpaired(
    spec: str,
    data_dir: str,
    image_size: int | None,
    channels: int | None,
    inputs: str,
    options: Mapping[str, Any],
    own: Mapping[str, Any],
) -> Data:
    """Named data, whose images have no names by which they could be paired."""
    if own.get("paired") is not False:
        raise ConfigError(
            f"images of {spec} and {inputs} have no names to be paired by: take folders or zips, or "
            "--set data.paired=false for an architecture that learns from unpaired images"
        )
    data = _load_items(spec, data_dir, image_size, channels, options)
    split = {"split": options["split"]} if "split" in options else {}
    size = own.get("input_size") or (data.items.shape[2] if data.is_image else None)
    other = _load_items(inputs, data_dir, size, own.get("input_channels"), split)
    return replace(data, inputs=other.items, paired=False)


def has_test_split(spec: str, inputs: str | None = None) -> bool:
    """Whether `load` with the options `{"split": "test"}` gives images that are not in the training data."""
    if inputs is not None and not _lies_beside(inputs) and not is_made(inputs):
        return has_test_split(spec) and has_test_split(inputs)
    if spec in registry().data:
        return "split" in signature(resolve(registry().data[spec].loader)).parameters
    return not spec.startswith("hf:") and has_split(_path(spec), "test", SIDES.get(inputs or "", ""))


def _path(spec: str) -> Path:
    _check_exists(spec)
    return Path(spec).expanduser()


def _check_exists(spec: str, others: Sequence[str] = ()) -> None:
    """Raise an error if a spec is neither the name of data nor a path, with a hint at these names and `others`."""
    if not spec.strip():
        raise ConfigError(
            "--data is empty: name data, or a folder or zip of images" if not others else "--inputs is empty"
        )
    path = Path(spec).expanduser()
    if spec in registry().data or path.exists():
        return
    if os.sep in spec or spec.startswith(".") or path.suffix:
        raise DataError(f"there is no folder or zip {spec}")
    hint = did_you_mean(spec, [*others, *registry().data])
    raise UnknownNameError(
        f"no {'inputs are' if others else 'data is'} called {spec!r} (nor is there such a folder): {hint}"
    )


def _fit(data: Data, image_size: int | None, channels: int | None) -> Data:
    """Crop images to squares and resize them with antialiasing, and repeat or mix their channels."""
    if not data.is_image:
        return data
    items = data.items
    if isinstance(items, Composed):
        if channels not in (None, items.shape[1]):
            raise ConfigError(f"images composed of {items.shape[1]} channels cannot have {channels}")
        source = _fit(Data(items.source), image_size, None).items
        return replace(data, items=Composed(source, items.table))  # type: ignore[arg-type]
    if channels not in (None, items.shape[1]):
        if channels == 1 and items.shape[1] == 3:
            items = torch.cat([luminance(part).round().byte() for part in torch.split(items, 1024)])
        elif (items.shape[1], channels) != (1, 3):
            raise ConfigError(f"images of {items.shape[1]} channels cannot be converted to {channels}: choose 1 or 3")
    if image_size is not None and (image_size, image_size) != tuple(items.shape[2:]):
        side = min(items.shape[2:])
        top, left = (items.shape[2] - side) // 2, (items.shape[3] - side) // 2
        items = items[:, :, top : top + side, left : left + side]
        shape = (image_size, image_size)
        resized = (
            torch.nn.functional.interpolate(part.float(), shape, mode="bicubic", antialias=True, align_corners=False)
            for part in torch.split(items, 1024)
        )
        items = torch.cat([part.round().clamp(0, 255).byte() for part in resized])
    if channels is not None:  # last, as one channel is resized faster than three alike
        items = items.expand(-1, channels, -1, -1)
    return replace(data, items=items.contiguous())
