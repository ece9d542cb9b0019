"""The commands that walk in latent space: animations, inversion and directions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.cli.output import Device, Source, writing
from ganzoo.errors import SampleError
from ganzoo.files import reason

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from ganzoo.latent.latents import Latents

Seeds = Annotated[str | None, typer.Option(metavar="1,5,9", help="Seeds of chosen images: the first image of each.")]
LatentsFile = Annotated[
    Path | None, typer.Option("--latents", metavar="FILE", help="Latents from `ganzoo invert`, instead of seeds.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the generator, such as truncation=0.7."),
]
OneClass = Annotated[str | None, typer.Option("--class", metavar="CLASS", help="The class, by name or number.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite the output.")]


def refuse_existing(path: Path, force: bool) -> None:
    """Raise a SampleError if there is a file already, or a folder that is not empty."""
    if path.exists() and not force and not (path.is_dir() and not any(path.iterdir())):
        raise SampleError(f"{path} exists already: choose another -o, or --force to overwrite it")


def short_name(source: str) -> str:
    """The last part of a SOURCE, after which outputs are named."""
    return source.partition("@")[0].rstrip("/").rpartition("/")[2]


def parse_options(assignments: list[str] | None) -> dict[str, Any]:
    """The options that `--set` gives."""
    from ganzoo.zoo.command import parse_assignment

    return dict(parse_assignment(text) for text in assignments or [])


def parse_seeds(text: str) -> list[int]:
    """The seeds in "1,5,9"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SampleError(f"--seeds takes whole numbers such as 1,5,9, not {text!r}") from error


def parse_class(g: "nn.Module", text: str | None) -> int | None:
    """The number of a class that is given by name or number."""
    from ganzoo.sampling.classes import class_names, find_class
    from ganzoo.sampling.draw import require_classes

    return None if text is None else find_class(text, class_names(g), require_classes(g))


@dataclass(frozen=True)
class Chosen:
    """Latents that a command line chooses, and where to move them.

    Attributes:
        seeds: as of `--seeds`.
        latents: a file of latents.
        direction: a file of directions and the number of one, as FILE:K.
        strength: how far to move, in standard deviations.
    """

    seeds: str | None = None
    latents: Path | None = None
    direction: str | None = None
    strength: float = 1.0

    def points(self, g: "nn.Module", class_: str | None, options: dict[str, Any]) -> "tuple[Latents, dict[str, Any]]":
        """The latents, moved, and those of the options that act after them."""
        from ganzoo.latent.latents import Latents, latents, split_options

        if (self.seeds is None) == (self.latents is None):
            raise SampleError("choose images by --seeds 1,5,9 or by --latents FILE")
        own, rest = split_options(g, options)
        if self.latents is None:
            points = latents(g, parse_seeds(str(self.seeds)), parse_class(g, class_), **own)
        elif own or class_ is not None:
            raise SampleError("--class and options that act on z go with --seeds: a file's latents have them already")
        else:
            points = Latents.load(self.latents)
        return self._move(points), rest

    def images(
        self, g: "nn.Module", class_: str | None, options: dict[str, Any]
    ) -> "tuple[list[Tensor], list[int] | None]":
        """The images, in one block, and their classes."""
        from ganzoo.latent.latents import render

        points, rest = self.points(g, class_, options)
        return [render(g, points, **rest)], None if points.labels is None else points.labels.tolist()

    def moved(
        self, g: "nn.Module", n: int, seed: int, labels: list[int] | None, options: dict[str, Any]
    ) -> "list[Tensor]":
        """The first n images of a seed, moved along the direction, in one block."""
        from ganzoo.latent.latents import render, sampled, split_options

        own, rest = split_options(g, options)
        return [render(g, self._move(sampled(g, n, seed, labels, **own)), **rest)]

    def _move(self, points: "Latents") -> "Latents":
        from ganzoo.latent.directions import Directions

        if self.direction is None:
            return points
        file, _, index = self.direction.rpartition(":")
        if not file or not index.isdecimal() or len(index) > 9:
            raise SampleError(f"--direction takes FILE:K, such as dirs.safetensors:2, not {self.direction!r}")
        return Directions.load(file).move(points, int(index), self.strength)


def mixing_sheet(
    g: "nn.Module", size: str, seeds: str | None, seed: int, class_: str | None, options: dict[str, Any]
) -> "Image":
    """The sheet of style mixing of `--mix 3x4`, of the chosen seeds or those from `seed` on."""
    from ganzoo.latent.mixing import mix

    rows, _, columns = size.lower().partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and 0 < int(rows) <= 64 and 0 < int(columns) <= 64):
        raise SampleError(f"--mix takes rows and columns, such as 3x4, not {size!r}")
    count = int(rows) + int(columns)
    numbers = parse_seeds(seeds) if seeds is not None else list(range(seed, seed + count))
    if len(numbers) != count:
        raise SampleError(f"--mix {size} takes {count} seeds, those of the rows first, not {len(numbers)}")
    return mix(g, numbers[: int(rows)], numbers[int(rows) :], parse_class(g, class_), **options)


def walk(
    source: Source,
    seeds: Seeds = None,
    latents: LatentsFile = None,
    class_: OneClass = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames from one image to the next.")] = 30,
    fps: Annotated[int, typer.Option(min=1, max=100, help="Frames a second.")] = 30,
    open_: Annotated[bool, typer.Option("--open", help="End at the last image instead of leading back.")] = False,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="walk.mp4 or walk.gif; - is standard output, a GIF. \\[default: SOURCE-walk.gif]"
        ),
    ] = None,
    set_: Set = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Write an animation that walks from one chosen image to the next, and print its path."""
    from ganzoo.devices import choose_device
    from ganzoo.latent.walk import check_animation, write_animation
    from ganzoo.latent.walk import walk as walk_through
    from ganzoo.progress import counting
    from ganzoo.store.source import from_pretrained

    target = f"{short_name(source)}-walk.gif" if out is None else out
    if target != "-":
        check_animation(Path(target))
    refuse_existing(Path(target), force)
    g = from_pretrained(source).to(choose_device(device))
    points, options = Chosen(seeds, latents).points(g, class_, parse_options(set_))
    count = frames * (len(points) - open_) + open_
    with writing(target, ".gif") as path, counting(count, "frames") as advance:
        images = walk_through(g, points, frames, closed=not open_, **options)

        def counted() -> Any:
            for image in images:
                yield image
                advance(1)

        write_animation(counted(), path, fps)


def invert(
    source: Source,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures; they are cropped and resized.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    class_: OneClass = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the latents.")] = 300,
    starts: Annotated[int, typer.Option(min=1, help="Starts for each picture, of which the best end is kept.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the starts.")] = 0,
    features: Annotated[
        str,
        typer.Option(
            help="Of the perceptual distance: auto\\[=FILE], timm:NAME\\[=FILE], mnist, or none (pixels alone)."
        ),
    ] = "auto",
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Find the latents whose images are nearest to pictures.

    Writes latents.safetensors, pairs.png with each picture beside its image, and distances.json.
    """
    import json

    import torch

    from ganzoo.data.decode import read_images
    from ganzoo.devices import choose_device
    from ganzoo.latent.invert import invert as find
    from ganzoo.sampling.draw import sample
    from ganzoo.sampling.pictures import grid, is_image, save, to_uint8
    from ganzoo.store.source import from_pretrained

    refuse_existing(out, force)
    g = from_pretrained(source).to(choose_device(device))
    own = sample(g, 1)
    if not is_image(own):
        raise SampleError(f"{source} makes samples of shape {tuple(own.shape[1:])}, no images to compare pictures with")
    _, channels, size, _ = own.shape
    targets = torch.from_numpy(read_images(images, size, channels)).float().div(127.5).sub(1)
    result = find(g, targets, steps=steps, starts=starts, seed=seed, labels=parse_class(g, class_), features=features)
    pairs = torch.stack([targets, result.images.cpu()], 1).flatten(0, 1)
    try:
        out.mkdir(parents=True, exist_ok=True)
        result.latents.save(out / "latents.safetensors")
        save(grid(to_uint8(pairs), 2), out / "pairs.png")
        rows = [
            {"image": str(p), "distance": round(d, 6)} for p, d in zip(images, result.distances.tolist(), strict=True)
        ]
        (out / "distances.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise SampleError(f"{out} cannot be written: {reason(error)}") from error
    print(out)


def directions(
    source: Source,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of directions.")] = 8,
    method: Annotated[
        str | None, typer.Option(help="factorise the weights, or principal components of w. \\[default: factorise]")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="0-3,5", help="Layers of w that count and are moved. \\[default: all]")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="FROM,TO", help="Instead: the direction between the means of two classes.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the image on the sheet.")] = 0,
    class_: OneClass = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .safetensors file; a sheet .png is written beside it.")
    ] = None,
    set_: Set = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Find directions in latent space along which one thing changes, and draw a sheet of them, a direction a row."""
    from ganzoo.devices import choose_device
    from ganzoo.latent.directions import class_direction, sheet
    from ganzoo.latent.directions import directions as find
    from ganzoo.sampling.classes import class_names, parse_classes
    from ganzoo.sampling.draw import require_classes
    from ganzoo.sampling.pictures import save
    from ganzoo.store.source import from_pretrained

    path = out or Path(f"{short_name(source)}-directions.safetensors")
    if path.suffix != ".safetensors":
        raise SampleError(f"{path}: directions are written to a .safetensors file")
    picture = path.with_suffix(".png")
    for each in (path, picture):
        refuse_existing(each, force)
    g = from_pretrained(source).to(choose_device(device))
    if classes is None:
        found = find(g, n, method=method, layers=parse_layers(layers))  # type: ignore[arg-type]  # it is checked there
    else:
        ends = parse_classes(classes, class_names(g), require_classes(g))
        if len(ends) != 2 or layers is not None or method is not None:
            raise SampleError("--classes takes two classes, such as cat,dog, and no --layers or --method")
        found = class_direction(g, *ends)
    points, options = Chosen(str(seed)).points(g, class_, parse_options(set_))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save(path)
        save(sheet(g, found, points, **options), picture)
    except OSError as error:
        raise SampleError(f"{path} cannot be written: {reason(error)}") from error
    print(path)
    print(picture)


def parse_layers(text: str | None) -> list[int] | None:
    """The layers in "0-3,5"."""
    if text is None:
        return None
    layers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()) or len(part) > 12:
            raise SampleError(f"--layers takes numbers and ranges such as 0-3,5, not {text!r}")
        layers += range(int(first), int(last or first) + 1)
    return layers
