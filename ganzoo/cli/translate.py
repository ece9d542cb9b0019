"""`ganzoo sample --inputs`: translating pictures."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import SampleError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from ganzoo.sampling.examples import Examples

AT_MOST = 10_000
"""The most outputs in one file."""
AT_ONCE = 64
"""Pictures that are read before they are translated."""
IMPORTED = 8
"""Pictures that an imported generator is shown on."""


def first_inputs(g: "nn.Module", path: Path) -> "Examples":
    """The first pictures of a file, folder or zip as inputs, in the size that the generator was trained on.

    Raises:
        SampleError: the generator translates nothing.
        DataError: the pictures cannot be read.
    """
    import torch

    from ganzoo.data.photos import Photos
    from ganzoo.sampling.draw import require_inputs
    from ganzoo.sampling.examples import Examples
    from ganzoo.sampling.options import input_channels

    require_inputs(g)
    config: dict[str, Any] = g.config  # type: ignore[assignment]
    size = config.get("input_size") or config["image_size"]
    photos = Photos(path, input_channels(g, {}) or 3, square=size)
    return Examples(torch.stack([pixels for _, pixels in islice(photos, IMPORTED)]))


@dataclass(frozen=True)
class Translation:
    """What to translate, as the command line says it.

    Attributes:
        path: a picture, a folder or a zip.
        make: a spec of `ganzoo.data.inputs` by which inputs are made from the pictures; None: they are inputs.
        resize: pixels of each picture's shorter side; None: for a folder its own, for a grid as in training.
        n: outputs for each picture.
        seed: of the latents.
        class_: the class of all outputs.
        options: of the generator.
    """

    path: Path
    make: str | None
    resize: int | None
    n: int
    seed: int
    class_: str | None
    options: dict[str, Any]

    def outputs(self, g: "nn.Module") -> "tuple[Tensor, Tensor]":
        """The pictures as squares of one size, uint8 (N, C, H, W), and their outputs, those of each one after another.

        Raises:
            SampleError, DataError, ConfigError: the pictures cannot be read or translated.
        """
        import torch

        photos = self._photos(g, square=self.resize or self._trained_size(g))
        if len(photos) * self.n > AT_MOST:
            raise SampleError(f"{len(photos)} pictures are too many for one file: write a folder/")
        pictures = torch.stack([pixels for _, pixels in photos])
        return pictures, self._translate(g, pictures, 0)

    def sheet(self, g: "nn.Module") -> "Image":
        """One picture with the input and the outputs of each, and the picture itself if the input was made from it.

        Raises:
            SampleError, DataError, ConfigError: as `outputs`.
        """
        from ganzoo.sampling.examples import as_pixels, side_by_side

        pictures, outputs = self.outputs(g)
        columns = [self._inputs(pictures), *(outputs[i :: self.n] for i in range(self.n))]
        return side_by_side([as_pixels(column) for column in [*columns, *([pictures] if self.make else [])]])

    def write_folder(self, g: "nn.Module", out: Path) -> None:
        """Write the outputs of each picture, in its own size, under its name.

        Raises:
            SampleError, DataError, ConfigError: as `outputs`.
        """
        import torch
        from PIL.Image import fromarray

        from ganzoo.progress import counting
        from ganzoo.sampling.draw import PIECE
        from ganzoo.sampling.pictures import save, to_uint8
        from ganzoo.sampling.translate import by_shape

        photos = self._photos(g)
        reader, done = iter(photos), 0
        with counting(len(photos), "pictures") as advance:
            while some := list(islice(reader, AT_ONCE)):
                for group in by_shape([pixels for _, pixels in some], PIECE * 16):
                    outputs = to_uint8(self._translate(g, torch.stack([some[i][1] for i in group]), done + group[0]))
                    for position, image in enumerate(outputs):
                        name = some[group[position // self.n]][0] + (f"-{position % self.n}" if self.n > 1 else "")
                        path = out / f"{name}.png"
                        path.parent.mkdir(parents=True, exist_ok=True)
                        save(fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image), path)
                    advance(len(group))
                done += len(some)

    def _photos(self, g: "nn.Module", square: int | None = None) -> Any:
        from ganzoo.data.photos import Photos
        from ganzoo.sampling.options import input_channels

        # Edges and grey values come from all colours of a picture.
        channels = 3 if self.make in ("edges", "grey") else input_channels(g, self.options) or 3
        return Photos(self.path, channels, shorter=self.resize, square=square)

    def _trained_size(self, g: "nn.Module") -> int:
        config: dict[str, Any] = g.config  # type: ignore[assignment]
        size: int = config["image_size"] if self.make else config.get("input_size") or config["image_size"]
        return size

    def _inputs(self, pictures: "Tensor") -> "Tensor":
        from ganzoo.data.inputs import make_inputs

        return pictures if self.make is None else make_inputs(pictures, self.make)

    def _translate(self, g: "nn.Module", pictures: "Tensor", first: int) -> "Tensor":
        from ganzoo.cli.latent import parse_class
        from ganzoo.sampling.translate import translate

        label = parse_class(g, self.class_)
        return translate(g, self._inputs(pictures), self.n, self.seed + first, label, **self.options).cpu()
