"""Sets of pictures as unlike as a newcomer's may be, for the search for recipes and for the table of results.

MNIST and Fashion-MNIST lie in one folder as torchvision keeps them, beside `nouns.zip`, `cifar10.zip` and `emoji.zip`
with pictures in train/ and test/: heads in pixels (the parts of the Nouns project put together at random), CIFAR-10,
and Noto Emoji on white. `nouns-300` is a flat folder of 300 heads.
"""

import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

FEW = 300
"""Pictures of `nouns-300`, a flat folder."""


@dataclass(frozen=True)
class Pictures:
    """One set of pictures.

    Attributes:
        data: the data spec to train on.
        data_dir: the folder of named data sets.
        against: keywords of `ganzoo.Evaluator` that measure a generator of this set.
    """

    data: str
    data_dir: str
    against: Mapping[str, Any] = field(default_factory=dict)

    def measured_against(self, *metrics: str, **settings: Any) -> dict[str, Any]:
        """The keywords of the evaluator, with these metrics and settings."""
        return {"data": self.data, "data_dir": self.data_dir, "metrics": metrics, **self.against, **settings}


def pictures(data_dir: Path, work: Path) -> dict[str, Pictures]:
    """The seven sets by name.

    Args:
        data_dir: the folder with all of them.
        work: a folder for the 300 pictures, which are copied out of `nouns.zip`.
    """
    named = {name: Pictures(name, str(data_dir)) for name in ("mnist", "fashion_mnist")}
    zips = {name: Pictures(str(data_dir / f"{name}.zip"), str(data_dir)) for name in ("nouns", "cifar10", "emoji")}
    few = Pictures(
        str(_few(data_dir / "nouns.zip", work / f"nouns-{FEW}")),
        str(data_dir),
        {"data": zips["nouns"].data, "split": "test"},
    )
    digits = Pictures("digits", str(data_dir), {"data": "mnist"})
    return {"digits": digits, **named, **zips, f"nouns-{FEW}": few}


def _few(archive: Path, folder: Path) -> Path:
    """A flat folder of some of the training pictures, which appears whole: several processes may write it at once."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside, zipfile.ZipFile(archive) as file:
            names = sorted(name for name in file.namelist() if "train/" in name and name.endswith(".png"))
            order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))[:FEW].tolist()
            whole = Path(beside) / folder.name
            whole.mkdir()
            for i in order:
                name = Path(names[i])
                (whole / f"{name.parent.name}-{name.name}").write_bytes(file.read(names[i]))
            try:
                whole.rename(folder)
            except OSError:
                if not folder.exists():  # else another process was first
                    raise
    return folder
