"""The page of a run, or of several side by side: one HTML file that needs no network and runs nothing of the run's."""

import base64
import io
import json
import logging
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, Template
from PIL import Image

from ganzoo.errors import GanzooError
from ganzoo.files import replacing
from ganzoo.report.commands import commands
from ganzoo.report.record import Record, read_record

logger = logging.getLogger("ganzoo")

REPORT = "report.html"
"""The name of a run's page in its folder."""
SHOWN = 40
"""The most steps whose pictures are on a page."""
PICTURES = 8 << 20
"""Bytes of all pictures together, as the page holds them."""
SHARE = 0.01
"""The most that a page may take of the time of training."""
QUALITIES = (90, 75, 50)
"""Qualities of WebP that a picture is tried in if it is too large as a PNG, before it is halved."""

GROUPS = {
    "Losses": ("d_loss", "g_loss"),
    "Discriminator": ("accuracy", "r_t", "augment_p"),
    "Diversity": ("diversity",),
    "FID": ("fid",),
    "Images a second": ("images_per_second",),
}
"""The charts, and the values that each shows. Values that are in none of them are in one of their own."""
OTHERS = "Penalties and other terms"
UNSHOWN = ("seconds", "fid_multiple")
LABELS = {
    "d_loss": "discriminator",
    "g_loss": "generator",
    "accuracy": "pairs told apart",
    "r_t": "r_t (sign of real logits)",
    "augment_p": "p of ADA",
    "images_per_second": "images a second",
    "diversity": "diversity (1: as the data)",
    "fid": "FID",
}


class RunPage:
    """The page of a run that goes on, written again and again. Pictures that were encoded once are kept.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._encoded: dict[Path, str] = {}
        self._due = 0.0

    @property
    def path(self) -> Path:
        return self.folder / REPORT

    def write(self, *, force: bool = False) -> None:
        """Write report.html, whole or not at all, unless that would take more than `SHARE` of the time since the last
        one. A page is never worth a run: if it fails, a warning says why.

        Args:
            force: write it in any case.
        """
        began = time.perf_counter()
        if began < self._due and not force:
            return
        try:
            _write(self.path, render([read_record(self.folder)], self._encoded))
        except (GanzooError, OSError, ValueError) as error:
            logger.warning("%s cannot be written: %s", self.path, error)
        ended = time.perf_counter()
        self._due = ended + (ended - began) / SHARE


def write_page(folders: Sequence[Path], path: Path) -> None:
    """Write the page of runs side by side.

    Raises:
        CheckpointError: one of the folders is no run folder.
        OSError: the page cannot be written.
    """
    _write(path, render([read_record(folder) for folder in folders], {}))


def _write(path: Path, text: str) -> None:
    with replacing(path, shared=True) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")  # names of files may hold any bytes


def render(records: Sequence[Record], encoded: dict[Path, str]) -> str:
    """The page of these runs.

    Args:
        records: the runs.
        encoded: the data URLs of pictures, to which new ones are added; those that are not shown are removed.
    """
    names = _names(records)
    pictures = [_pictures(record, SHOWN // len(records), PICTURES // len(records), encoded) for record in records]
    shown = {path for record, own in zip(records, pictures, strict=True) for path in _paths(record, own)}
    for path in encoded.keys() - shown:
        del encoded[path]
    assets = Path(__file__).parent / "assets"
    return _template().render(
        title=" and ".join(names),
        runs=[
            {
                "name": name,
                "progress": _progress(record),
                "pictures": own,
                "facts": _facts(record),
                "warnings": record.warnings,
                "commands": commands(record),
            }
            for name, record, own in zip(names, records, pictures, strict=True)
        ],
        settings=_settings(records),
        charts=_charts(names, records),
        library=(assets / "uplot.js").read_text(encoding="utf-8"),
        library_style=(assets / "uplot.css").read_text(encoding="utf-8"),
    )


@cache
def _template() -> Template:
    environment = Environment(loader=PackageLoader("ganzoo.report", "assets"), autoescape=True, trim_blocks=True)
    environment.filters["script"] = _script
    return environment.get_template("page.html")


def _script(value: Any) -> str:
    """A value as JSON that cannot end the script it stands in."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _names(records: Sequence[Record]) -> list[str]:
    """The names of the folders, or their paths where two have the same."""
    short = [record.folder.resolve().name for record in records]
    return short if len(set(short)) == len(short) else [str(record.folder) for record in records]


def _progress(record: Record) -> dict[str, Any]:
    steps = record.config.get("steps")
    done, seconds = record.last.get("step"), record.last.get("seconds")
    total = steps if isinstance(steps, int) and not isinstance(steps, bool) else None
    return {
        "done": None if done is None else int(done),
        "total": total,
        "minutes": None if seconds is None else seconds / 60,
        "finished": done is not None and total is not None and done >= total,
    }


def _pictures(record: Record, most: int, budget: int, encoded: dict[Path, str]) -> list[dict[str, Any]]:
    """The steps and data URLs of at most so many pictures, spread over the run, with the last one."""
    count = len(record.pictures)
    if count > most:
        chosen = [record.pictures[round(i * (count - 1) / (most - 1))] for i in range(most)] if most > 1 else []
        chosen = chosen or record.pictures[-1:]
    else:
        chosen = record.pictures
    shown = []
    for step, path in chosen:
        if path not in encoded:
            try:
                encoded[path] = _encode(path, budget // most)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # of a damaged picture
                continue
        shown.append({"step": step, "url": encoded[path]})
    return shown


def _paths(record: Record, shown: Sequence[dict[str, Any]]) -> list[Path]:
    steps = {picture["step"] for picture in shown}
    return [path for step, path in record.pictures if step in steps]


def _encode(path: Path, limit: int) -> str:
    """A picture as a data URL of at most so many bytes, decoded first, so that only pixels come onto the page."""
    with Image.open(path, formats=("PNG",)) as opened:
        image = opened.convert("L" if opened.mode in ("1", "L", "I", "I;16") else "RGB")
    limit = limit * 3 // 4  # of base64
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    while buffer.tell() > limit:
        for quality in QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=quality, method=0)
            if buffer.tell() <= limit:
                return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _facts(record: Record) -> list[tuple[str, str]]:
    """The machine and the versions."""
    facts = [("machine", record.facts.get("hardware")), ("precision", record.config.get("precision"))]
    versions = record.facts.get("versions")
    if isinstance(versions, dict):
        facts += [(str(name), value) for name, value in versions.items()]
    facts += [("data's SHA-256", record.facts.get("fingerprint"))]
    return [(name, str(value)[:200]) for name, value in facts if value is not None]


def _settings(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each setting: its values, whether it differs from the recipe or between runs, those first."""
    flat = [_flat(record.config) for record in records]
    recipes = [_flat(record.recipe) for record in records]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    rows = []
    for name in names:
        values = [settings.get(name) for settings in flat]
        own = any(r and r.get(name) != value for r, value in zip(recipes, values, strict=True))
        differs = len(records) > 1 and any(value != values[0] for value in values)
        rows.append({"name": name, "values": [_shown(value) for value in values], "own": own, "differs": differs})
    return sorted(rows, key=lambda row: not (row["differs"] or (row["own"] and len(records) == 1)))


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with dotted names, such as `generator.width`."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= {f"{key}.{inner}": each for inner, each in value.items()}
        else:
            flat[str(key)] = value
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:50])) or "none"
    return "" if value in (None, {}, "") else str(value)[:500]


def _charts(names: Sequence[str], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The charts: of one run, values of one kind together; of several, a chart for each value with a curve a run."""
    logged = list(dict.fromkeys(name for record in records for name in record.curves))
    grouped = {title: [name for name in own if name in logged] for title, own in GROUPS.items()}
    known = {*UNSHOWN, *(name for own in grouped.values() for name in own)}
    grouped[OTHERS] = [name for name in logged if name not in known]
    charts = []
    for title, own in grouped.items():
        if len(records) == 1 and own:
            record = records[0]
            curves = [{"label": LABELS.get(name, name), "x": record.steps, "y": record.curves[name]} for name in own]
            charts.append({"title": title, "curves": curves, "summary": _summary(curves)})
        elif len(records) > 1:
            for name in own:
                curves = [
                    {"label": run, "x": record.steps, "y": record.curves[name]}
                    for run, record in zip(names, records, strict=True)
                    if name in record.curves
                ]
                own_title = f"{title}: {LABELS.get(name, name)}" if len(own) > 1 else LABELS.get(name, name)
                charts.append({"title": own_title, "curves": curves, "summary": _summary(curves)})
    return charts


def _summary(curves: Sequence[dict[str, Any]]) -> str:
    """What a chart shows, for those who do not see it."""
    texts = []
    for curve in curves:
        values = [value for value in curve["y"] if value is not None]
        if values:
            texts.append(
                f"{curve['label']} goes from {values[0]:.3g} to {values[-1]:.3g}, between {min(values):.3g} and "
                f"{max(values):.3g}"
            )
    return "; ".join(texts)
