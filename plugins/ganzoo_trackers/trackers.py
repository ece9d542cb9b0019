"""The trackers. Each imports its library once it is named, and all but wandb in a thread of its own."""

import csv
import json
import logging
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ganzoo import ConfigError, TrackedRun, Tracker

PROJECT = "ganzoo"
"""The project that runs belong to unless another is named."""


def require(package: str) -> None:
    """Check that a package is installed, without importing it.

    Raises:
        ConfigError: it is not.
    """
    if find_spec(package) is None:
        raise ConfigError(f"tracking with {package} needs that package: pip install 'ganzoo[{package}]'")


def settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a run with dotted names, such as `generator.width`."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class Csv(Tracker):
    """A table with a row for each log line. A column that comes later is empty in the rows before it. Warnings are the
    last column.

    Args:
        file: the table, in the run folder.
    """

    def __init__(self, file: str = "metrics.csv") -> None:
        if Path(file).name != file:
            raise ConfigError(
                f"the table of the tracker csv is a file in the run folder, such as metrics.csv, not {file!r}"
            )
        self.file = file
        self.rows: list[dict[str, Any]] = []
        self.columns = ["step"]

    def start(self, run: TrackedRun) -> None:
        self.path = run.folder / self.file
        if run.step and self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self.columns = list(reader.fieldnames or self.columns)
                before = [row for row in reader if (row["step"] or "").isdigit() and int(row["step"]) <= run.step]
            self.rows = [{key: row[key] for key in self.columns} for row in before]
        self._rewrite()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._add({"step": step, **values})

    def warn(self, step: int, text: str) -> None:
        row = self.rows[-1]
        row["warnings"] = f"{row['warnings']}; {text}" if row.get("warnings") else text
        if "warnings" not in self.columns:
            self.columns.append("warnings")
        self._rewrite()

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        new = [key for key in row if key not in self.columns]
        if new:
            self.columns += new
            self._rewrite()
        else:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    def _rewrite(self) -> None:
        temporary = self.path.with_name(f".{self.file}.new")
        temporary.unlink(missing_ok=True)
        with open(temporary, "x", newline="", encoding="utf-8") as file:  # never through a link that lies there
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.path)


class TensorBoard(Tracker):
    """Event files in the run folder. Those of a resumed run hide what was recorded after the step it goes on from."""

    def __init__(self) -> None:
        require("tensorboard")

    def start(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = run.step + 1 if run.step else None
        self.writer = SummaryWriter(str(run.folder), purge_step=purge, flush_secs=10)
        rows = "\n".join(f"| {key} | {json.dumps(value)} |" for key, value in settings(run.config))
        self.writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", run.step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, step: int, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self.writer.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def warn(self, step: int, text: str) -> None:
        self.writer.add_text("warnings", text, step)

    def finish(self, status: str) -> None:
        self.writer.close()


class Trackio(Tracker):
    """A run in trackio's store, which is on this machine unless a Space is named, here or by TRACKIO_SPACE_ID.

    Args:
        project: the project.
        space: the Space to log to, as ORG/NAME.
    """

    def __init__(self, project: str = PROJECT, space: str | None = None) -> None:
        require("trackio")
        self.project, self.space = project, space

    def start(self, run: TrackedRun) -> None:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        name = f"{run.name}-{run.id[:6]}"  # trackio knows a run again by its name
        # What is there already will come again with the same values, and trackio would keep both.
        recorded = SQLiteStorage.get_max_step_for_run(self.project, name) if run.step else None
        self.recorded = -1 if recorded is None else recorded
        self.run = trackio.init(
            self.project, name=name, space_id=self.space, config=dict(settings(run.config)), resume="allow", embed=False
        )
        self.image = trackio.Image

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step > self.recorded:
            self.run.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        if step > self.recorded:
            self.run.log({"samples": self.image(str(path))}, step=step)

    def warn(self, step: int, text: str) -> None:
        if step > self.recorded:
            self.run.alert("training", text, step=step)

    def finish(self, status: str) -> None:
        self.run.finish()  # type: ignore[no-untyped-call]


class Wandb(Tracker):
    """A run of Weights & Biases, which WANDB_MODE=offline keeps on this machine.

    Args:
        project: the project; None: WANDB_PROJECT, or else "ganzoo".
        entity: the user or team; None: WANDB_ENTITY, or else the account's own.
        group: the group of runs.
        tags: words with commas between them.
    """

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        tags: str | None = None,
    ) -> None:
        require("wandb")
        import wandb

        self.wandb = wandb
        try:
            if wandb.setup().settings.mode not in ("offline", "dryrun", "disabled"):
                wandb.login()  # which asks for a key in a terminal, before the training writes there
        except wandb.Error as error:
            raise ConfigError(f"wandb: {error} Or set WANDB_MODE=offline") from error
        self.options: dict[str, Any] = {
            "project": project or os.environ.get("WANDB_PROJECT") or PROJECT,
            "entity": entity,
            "group": group,
            "tags": tags.split(",") if tags else None,
        }

    def start(self, run: TrackedRun) -> None:
        wandb = self.wandb
        # Its capture of the standard streams would come between ganzoo and the terminal.
        own = wandb.Settings(console="off")
        own.silent = own.silent or not logging.getLogger("ganzoo").isEnabledFor(logging.INFO)
        self.run = wandb.init(id=run.id, name=run.name, config=run.config, resume="allow", settings=own, **self.options)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, dict(values))

    def picture(self, step: int, path: Path) -> None:
        self._log(step, {"samples": self.wandb.Image(str(path))})

    def warn(self, step: int, text: str) -> None:
        self._log(step, {"warnings": text})

    def finish(self, status: str) -> None:
        self.run.finish(exit_code=0 if status == "finished" else 1)

    def _log(self, step: int, values: dict[str, Any]) -> None:
        # A resumed run has some steps already, with the same values; wandb takes steps in ascending order alone.
        if step >= self.run.step:
            self.run.log(values, step=step)
