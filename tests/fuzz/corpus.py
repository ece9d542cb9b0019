"""Whole files to damage, and what is then done with them."""

import json
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from mutate import damage, odd
from PIL import Image
from torch import nn

import ganzoo
import nvidia
from ganzoo import TrainConfig
from ganzoo.files import file_hash
from ganzoo.store.manifest import CONFIG, config_text
from ganzoo.store.runs import STATE

TINY: dict[str, Any] = {"generator": {"hidden": [4]}, "discriminator": {"hidden": [4]}, "batch_size": 4, "steps": 2}

Commands = list[list[str]]


@dataclass(frozen=True)
class Kind:
    """A kind of case.

    Attributes:
        damage: damages the files in a folder, of which there is a copy for each case.
        commands: command lines that use them, of which each case carries out one.
    """

    damage: Callable[[random.Random, Path], None]
    commands: Commands


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _any_file(rng: random.Random, folder: Path) -> None:
    damage(rng, rng.choice(_files(folder)))


def _model(rng: random.Random, folder: Path) -> None:
    """Damage a model folder; in half of the cases its hashes are mended."""
    _any_file(rng, folder)
    if rng.random() < 0.5:
        _mend(folder / CONFIG, lambda content: config_text(content))


def _run(rng: random.Random, folder: Path) -> None:
    """Damage a run folder; in half of the cases the hashes of its checkpoint and of its model are mended."""
    _any_file(rng, folder)
    if rng.random() < 0.5:
        _mend(folder / "model" / CONFIG, lambda content: config_text(content))
        for path in sorted((folder / "checkpoints").glob(f"*/{STATE}")):
            _mend(path, _state_text)


def _state_text(content: dict[str, Any]) -> str:
    content.pop("digest", None)
    digest = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "digest": digest})


def _mend(path: Path, text: Callable[[dict[str, Any]], str]) -> None:
    """Correct the sizes and hashes that a file gives for those beside it, and its own digest, if it can be read."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size > 1 << 20:
        return
    try:
        content = json.loads(path.read_bytes())
        for name, facts in content["files"].items():
            other = path.parent / name
            if other.is_file() and not other.is_symlink():
                facts |= {"size": other.stat().st_size, "sha256": file_hash(other)}
        path.write_bytes(text(content).encode("utf-8", "surrogatepass"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError):
        return


def _settings(rng: random.Random, folder: Path) -> None:
    path = folder / "settings.json"
    content = json.loads(path.read_text())
    for _ in range(rng.choice((1, 1, 2))):
        content = odd(rng, content)
    path.write_bytes(json.dumps(content).encode("utf-8", "surrogatepass"))
    if rng.random() < 0.1:
        damage(rng, path)
        if path.is_fifo():  # `--config <(command)` is a pipe too, so it is waited for
            path.unlink()


def make(folder: Path) -> dict[str, Kind]:
    """Write the files of each kind into a folder of its name."""
    run = ganzoo.train(TrainConfig("vanilla", **TINY, checkpoint_every=1, sample_every=1, out=str(folder / "run")))
    shutil.copytree(run.folder / "model", folder / "model")
    _write_imports(folder / "import")
    _write_data(folder / "data")
    (folder / "settings").mkdir()
    settings = TrainConfig("dcgan", **{**TINY, "generator": {"width": 4}, "discriminator": {"width": 4}}).to_dict()
    (folder / "settings" / "settings.json").write_text(json.dumps({**settings, "out": "out", "device": "cpu"}))
    resume = ["train", "vanilla", "--resume", "--out", "./", "--steps", "3", "-q"]
    start = ["train", "vanilla", "--from", "./", "--steps", "1", "--batch-size", "2", "--out", "out", "-q"]
    on_data = ["train", "vanilla", "--steps", "1", "--batch-size", "2", "--image-size", "8", "--out", "out", "-q"]
    small = ["--set", "generator.hidden=4", "--set", "discriminator.hidden=4"]
    return {
        "model": Kind(_model, [["verify", "./"], ["sample", "./", "-n", "1", "-o", "out.png"], start]),
        "run": Kind(_run, [resume, ["sample", "./", "-n", "1", "-o", "out.png"], ["report", "./", "-o", "out.html"],
                           ["save", "./", "-o", "out"]]),
        "import": Kind(_any_file, [["import", "dcgan", "dcgan.pth", "-o", "out"],
                                   ["import", "stylegan2", "network.pkl", "-o", "out"],
                                   ["import", "vanilla", "mlp.safetensors", "-o", "out"]]),
        "data": Kind(_any_file, [[*on_data, *small, "--data", spec] for spec in ("pictures/", "pictures.zip")]),
        "settings": Kind(_settings, [["train", "dcgan", "--config", "settings.json", "--dry-run", "-q"]]),
    }  # fmt: skip


def _write_imports(folder: Path) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    sizes = [(8, 16), (16, 8), (8, 4), (4, 2), (2, 1)]
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(sizes):
        layers.append(nn.ConvTranspose2d(before, after, 4, 1 if i == 0 else 2, 0 if i == 0 else 1, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU()] if after > 1 else [nn.Tanh()]
    torch.save(
        {f"main.{name}": value for name, value in nn.Sequential(*layers).state_dict().items()}, folder / "dcgan.pth"
    )
    save_file(
        nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 64), nn.Tanh()).state_dict(), folder / "mlp.safetensors"
    )
    styles: dict[str, Any] = {
        "generator": {"z_dim": 4, "w_dim": 4},
        "channel_base": 32,
        "channel_max": 4,
        "image_size": 8,
    }
    g, _ = ganzoo.create("stylegan2", **styles)
    nvidia.dump({"G_ema": nvidia.generator(g)}, folder / "network.pkl")


def _write_data(folder: Path) -> None:
    for i, suffix in enumerate(("png", "jpg", "gif", "webp", "bmp", "tif")):
        path = folder / "pictures" / f"class{i % 2}" / f"{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9 + i, 8), (40 * i, 90, 10)).save(path)
    with zipfile.ZipFile(folder / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(folder / "pictures"):
            archive.write(path, path.relative_to(folder / "pictures"))
