"""The command that draws samples."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.cli.latent import (
    Chosen,
    LatentsFile,
    Seeds,
    Set,
    mixing_sheet,
    parse_options,
    refuse_existing,
    short_name,
)
from ganzoo.cli.output import Device, Source, writing
from ganzoo.cli.sounds import refuse_for, write_sounds
from ganzoo.cli.translate import Translation
from ganzoo.errors import SampleError
from ganzoo.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

GRID_LIMIT = 10_000
"""The most images in one picture."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")

Draw = Callable[[Any], "Image"]
"""Pixels (N, H, W, C) to one picture."""


def sample(
    source: Source,
    n: Annotated[
        int | None,
        typer.Option("-n", min=1, help="Number of images, or with --inputs of each. \\[default: 64, or 1 of each]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the latents.")] = 0,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CLASS,...",
            help="Classes to generate, by name or number: cat, or cat,dog,7 with a row for each. \\[default: all]",
        ),
    ] = None,
    walk: Annotated[bool, typer.Option("--walk", help="Write a GIF of a closed loop through latent space.")] = False,
    frames: Annotated[int, typer.Option(min=1, help="Frames of the walk.")] = 60,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="grid.png, walk.gif, images.npy, or folder/ for single PNGs; of sounds also all.wav, and folder/ for "
            "single WAVs; - is standard output. \\[default: named after SOURCE]",
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Pictures to translate: a file, folder or zip. -o out/ writes a PNG for each."
        ),
    ] = None,
    make: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="Make the inputs from these pictures first: edges, grey, masked or smaller=4."
        ),
    ] = None,
    resize: Annotated[
        int | None, typer.Option(min=1, help="Pixels of each picture's shorter side before it is translated.")
    ] = None,
    seeds: Seeds = None,
    latents: LatentsFile = None,
    direction: Annotated[
        str | None,
        typer.Option(metavar="FILE:K", help="Move the latents along direction K of a file of `ganzoo directions`."),
    ] = None,
    strength: Annotated[float, typer.Option(help="How far, in standard deviations; may be negative.")] = 1.0,
    mix: Annotated[
        str | None, typer.Option(metavar="RxC", help="A sheet of style mixing with that many rows and columns.")
    ] = None,
    set_: Set = None,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the output.")] = False,
) -> None:
    """Draw images from a trained generator, or translate pictures, and print the path of the output."""
    n = n or (64 if inputs is None else 1)
    suffix = ".gif" if walk else ".png"
    target = f"{short_name(source)}-seed{seed}{'-walk' * walk}{suffix}" if out is None else out
    kind = suffix if target == "-" else _kind(target, n, walk)
    refuse_existing(Path(target), force)
    chosen = Chosen(seeds, latents, direction, strength)
    if (walk or mix) and (direction or latents or (walk and (seeds or mix))):
        raise SampleError("--walk and --mix take no chosen latents: `ganzoo walk` leads from one to the next")
    if inputs is None and (make or resize):
        raise SampleError("--make and --resize are about pictures to translate: add --inputs PATH")
    if inputs is not None and (walk or mix or seeds or latents or direction):
        raise SampleError("--inputs go with -n, --seed, --class and --set: leave chosen latents out")
    if mix and kind not in PICTURES:
        raise SampleError(f"{target}: a sheet of --mix is one picture, such as -o mix.png")

    from ganzoo.devices import choose_device
    from ganzoo.sampling.draw import blocks, require_inputs
    from ganzoo.sampling.draw import walk as walk_frames
    from ganzoo.sampling.options import check_options
    from ganzoo.sampling.pictures import grid, save
    from ganzoo.sampling.sound import rate_of
    from ganzoo.store.source import from_pretrained

    options = parse_options(set_)
    g = from_pretrained(source).to(choose_device(device))
    check_options(g, options)
    refuse_for(rate_of(g), target, moving=walk or mix is not None)
    if inputs is not None:
        require_inputs(g)
    with writing(target, suffix) as path:
        if inputs is not None:
            translation = Translation(inputs, make, resize, n, seed, class_, options)
            if kind == "folder":
                translation.write_folder(g, path)
            elif kind == ".npy":
                _, outputs = translation.outputs(g)
                _write_array(path, len(outputs), [outputs])
            else:
                save(translation.sheet(g), path)
        elif mix is not None:
            save(mixing_sheet(g, mix, seeds, seed, class_, options), path)
        elif chosen.seeds or chosen.latents:
            items, labels = chosen.images(g, class_, options)
            _write(g, items, path, kind, sum(map(len, items)), labels, grid)
        else:
            labels, draw = _labels(g, class_, n, table=rate_of(g) is None and kind not in ("folder", ".npy"))
            n = n if labels is None else len(labels)
            if walk:
                _write_walk(path, walk_frames(g, n, frames, seed, labels, **options), draw)
            else:
                moved = direction and chosen.moved(g, n, seed, labels, options)
                _write(g, moved or blocks(g, n, seed, labels, **options), path, kind, n, labels, draw)


def _kind(target: str, n: int, walk: bool) -> str:
    """The kind of output: "folder", or the suffix of a file.

    Raises:
        SampleError: samples cannot be written to such a file, or there are too many images for one picture.
    """
    kind = "folder" if target.endswith(("/", os.sep)) or not Path(target).suffix else Path(target).suffix.lower()
    if walk != (kind == ".gif"):
        raise SampleError("a walk is written to a .gif: use --walk with -o walk.gif, or neither")
    if kind not in ("folder", ".npy", ".gif", ".wav", *PICTURES):
        raise SampleError(
            f"{target}: images are written to a .png, .jpg or .webp grid, a .npy, a .gif walk or a folder/, and sounds "
            "to a .wav too"
        )
    if kind not in ("folder", ".npy", ".wav") and n > GRID_LIMIT:
        raise SampleError(f"{n} images are too many for one picture (at most {GRID_LIMIT}): write a .npy or a folder/")
    return kind


def _labels(g: "nn.Module", class_: str | None, n: int, *, table: bool) -> tuple[list[int] | None, Draw]:
    """The class of each sample of a conditional generator, and what draws pixels as a grid: where it can be a table,
    with a row for each class."""
    from ganzoo.sampling.classes import class_names, parse_classes
    from ganzoo.sampling.draw import class_count, require_classes
    from ganzoo.sampling.pictures import GRID, by_class, grid, row_names

    if class_ is None and class_count(g) is None:
        return None, grid
    count = require_classes(g)
    classes = list(range(count)) if class_ is None else parse_classes(class_, class_names(g), count)
    if table and 1 < len(classes) <= GRID:
        labels, columns = by_class(n, classes)
        return labels, partial(grid, columns=columns, names=row_names(g, classes))
    return [classes[i % len(classes)] for i in range(n)], grid


def _write_walk(path: Path, frames: "Iterator[Tensor]", draw: Draw) -> None:
    from ganzoo.sampling.pictures import save, to_uint8

    first, *others = [draw(to_uint8(images)) for images in frames]
    save(first, path, save_all=True, append_images=others, duration=50, loop=0)


def _write(
    g: "nn.Module", items: "Iterable[Tensor]", path: Path, kind: str, n: int, labels: list[int] | None, draw: Draw
) -> None:
    """Write n samples as a picture, a folder of pictures or sounds, or an array; the last two block by block, to save
    memory."""
    import numpy as np
    from PIL import Image

    from ganzoo.sampling.pictures import save, to_uint8
    from ganzoo.sampling.sound import rate_of

    if kind == ".npy":
        _write_array(path, n, items)
    elif (rate := rate_of(g)) is not None:
        write_sounds(g, rate, items, path, kind, n, labels)
    elif kind == "folder":
        path.mkdir(exist_ok=True)
        for i, image in enumerate(image for block in items for image in to_uint8(block)):
            name = f"{i:06d}.png" if labels is None else f"{i:06d}-class{labels[i]}.png"
            save(Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image), path / name)
    else:
        save(draw(np.concatenate([to_uint8(block) for block in items])), path)


def _write_array(path: Path, n: int, items: "Iterable[Tensor]") -> None:
    """Write images as uint8 (n, H, W, C), and other items as float32 (n, ...).

    They are written one after another, since a full disk is an error then: writing to a mapped file ends the process.
    """
    import numpy as np

    from ganzoo.sampling.pictures import is_image, to_uint8

    arrays = (to_uint8(block) if is_image(block) else block.cpu().numpy() for block in items)
    first = next(arrays)
    with replacing(path, shared=True) as temporary:
        shape = (n, *first.shape[1:])
        header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in (first, *arrays):
                file.write(np.ascontiguousarray(block).data)
