"""The workshop as a Hugging Face Space: the folder that `ganzoo push --space` publishes."""

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ganzoo.errors import ConfigError, WeightsError
from ganzoo.files import reason, replacing
from ganzoo.store.card import card_license
from ganzoo.store.hub import PREFIX
from ganzoo.store.manifest import CARD, CONFIG, DISCRIMINATOR, FILES, read_config
from ganzoo.store.publish import SPACE_APP
from ganzoo.store.save import save_pretrained
from ganzoo.store.source import find, is_model

REQUIREMENTS = "requirements.txt"
OWN = "model"
"""The folder of the generator in the Space."""
PINNED = ("torch", "torchvision", "av", "huggingface-hub")
"""Packages whose versions are pinned besides ganzoo's own. The front matter pins gradio's."""
LONGEST = 60
"""Characters of a short description that the Hub takes."""

APP = '''"""The workshop of ganzoo for {name}."""

from ganzoo.ui.server import serve_space

serve_space({source!r})
'''
CARD_TEXT = """---
{metadata}
---

# {name}

The [ganzoo](https://github.com/ganzoo/ganzoo) workshop for `{name}`: draw samples, move them along directions of latent
space, walk between them, and more. On free hardware it computes on a CPU, one job at a time.

```sh
ganzoo ui {source}
```

opens the same page on your own machine.
"""


def write_space(source: str, folder: str | Path, *, requirement: str = "", title: str = "") -> Path:
    """Write the workshop for a generator as the folder of a Space, whole or not at all.

    A generator on the Hub is fetched by the Space, pinned to its present commit; any other is copied into the folder.

    Args:
        source: a SOURCE.
        folder: the folder to write. It must not exist yet, or be empty.
        requirement: how pip installs ganzoo there; by default the installed version.
        title: the title of the Space; by default the generator's name.

    Raises:
        WeightsError: the folder exists and is not empty, or cannot be written; or as `ganzoo.from_pretrained`.
        ConfigError: gradio is not installed, whose version the Space has to name.
    """
    try:
        gradio = version("gradio")
    except PackageNotFoundError as error:
        raise ConfigError("a Space names the version of gradio, which is not here: pip install 'ganzoo[ui]'") from error
    found, folder = find(source, FILES), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists already: choose another -o")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as temporary:
            temporary.mkdir()
            _fill(temporary, source, found, gradio, requirement, title)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {reason(error)}") from error
    return folder


def _fill(folder: Path, source: str, found: Path, gradio: str, requirement: str, title: str) -> None:
    from huggingface_hub import SpaceCardData

    models = None
    if source.startswith(PREFIX):
        repo_id = source.removeprefix(PREFIX).partition("@")[0]
        model, shown, models = found, f"{PREFIX}{repo_id}@{found.name}", [repo_id]
    else:
        model, shown = folder / OWN, f"./{OWN}"
        if is_model(found):
            model.mkdir()
            for name in (CONFIG, *FILES):
                if name != DISCRIMINATOR and (found / name).is_file():
                    shutil.copyfile(found / name, model / name)
        else:
            save_pretrained(found, model)
    config = read_config(model)
    name = f"{config.architecture}.{config.tag}"
    license = card_license((model / CARD).read_text(encoding="utf-8")) if (model / CARD).is_file() else ""
    metadata = SpaceCardData(
        title=title or name,
        emoji="🎨",
        colorFrom="indigo",
        colorTo="pink",
        sdk="gradio",
        sdk_version=gradio,
        python_version=".".join(platform.python_version_tuple()[:2]),
        app_file=SPACE_APP,
        license=license or None,
        models=models,
        tags=["ganzoo", "gan", config.architecture],
        short_description=f"The ganzoo workshop for {name}"[:LONGEST],
    )
    (folder / SPACE_APP).write_text(APP.format(name=name, source=shown), encoding="utf-8")
    (folder / REQUIREMENTS).write_text(_requirements(config.requires, requirement), encoding="utf-8")
    text = CARD_TEXT.format(metadata=metadata.to_yaml(), name=name, source=shown)
    (folder / CARD).write_text(text, encoding="utf-8")


def _requirements(requires: dict[str, str], requirement: str) -> str:
    """The lines of requirements.txt: torch for the CPU, the pinned packages, ganzoo, and the architecture's plugin."""
    lines = ["--extra-index-url https://download.pytorch.org/whl/cpu"]
    for package in PINNED:
        try:
            lines.append(f"{package}=={version(package).partition('+')[0]}")
        except PackageNotFoundError:  # av, which only videos need
            continue
    lines.append(requirement or f"ganzoo=={version('ganzoo')}")
    if requires.get("package", "ganzoo") != "ganzoo":
        lines.append(f"{requires['package']}=={requires['version']}")
    return "\n".join(lines) + "\n"
