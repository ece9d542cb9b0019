"""The images of a Hugging Face data set, read by the `datasets` library, which runs no code of the data set."""

import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.data.source import Labels, Source, file_facts, read_file
from ganzoo.errors import DataError

logger = logging.getLogger("ganzoo")


def open_hub(
    spec: str, split: str = "train", column: str | None = None, label: str | None = "", config: str | None = None
) -> Source:
    """The images of a Hugging Face data set.

    Args:
        spec: `ORG/NAME`, `ORG/NAME@REVISION`, or a local folder, with a leading dot, slash or tilde.
        split: which part, such as "test" or "train[:1000]".
        column: the column of images; None: the only one.
        label: the column of classes; empty: the only ClassLabel, if there is one; None: no labels.
        config: which configuration, where the data set has several.

    Raises:
        DataError: `datasets` is not installed, or the data set, its split or its columns do not exist.
    """
    rows = _load(spec, split, config)
    column, label = _columns(spec, rows.features, column, label)
    if not len(rows):
        raise DataError(f"hf:{spec} has no images in {split!r}: choose another --set data.split=NAME")
    return _source(spec, split, rows, column, label)


def _load(spec: str, split: str, config: str | None) -> Any:
    """The `datasets.Dataset` of one split."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"hf:{spec} needs the datasets library: pip install 'ganzoo[datasets]' ({error})") from error
    name, revision = _name(spec)
    visible = logger.isEnabledFor(logging.INFO) and sys.stderr.isatty()
    hide = not visible and not datasets.are_progress_bars_disabled()
    if hide:
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, config, split=str(split), revision=revision, keep_in_memory=False)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError, LookupError) as error:
        cause = error.__cause__ or error
        advice = (
            "check the name, the split (--set data.split=NAME) and the configuration (--set data.config=NAME)"
            if isinstance(error, (ValueError, LookupError)) or Path(name).is_dir()
            else "check the name and the connection; a private data set needs `hf auth login` or HF_TOKEN"
        )
        message = f"{error}" if cause is error else f"{error} ({type(cause).__name__}: {cause})"
        raise DataError(f"hf:{spec} cannot be loaded: {message.strip()}: {advice}") from error
    finally:
        if hide:
            datasets.enable_progress_bars()


def _name(spec: str) -> tuple[str, str | None]:
    """The name that the library loads the data set by, and its revision."""
    if spec.startswith((".", "~", os.sep)):
        folder = Path(spec).expanduser()
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder} for hf:{spec}")
        return str(folder), None
    name, at, revision = spec.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or (at and not revision):
        raise DataError(f"hf:{spec} is not of the form hf:ORG/NAME[@REVISION] or hf:./folder")
    if Path(name).exists():  # the library would silently prefer it
        raise DataError(f"hf:{spec} is a folder here too: write hf:./{name} for it, or start elsewhere for the Hub's")
    return name, revision or None


def _columns(spec: str, features: Any, column: str | None, label: str | None) -> tuple[str, str | None]:
    """The names of the columns of images and of classes."""
    import datasets

    def of_kind(kind: type) -> list[str]:
        return [key for key, feature in features.items() if isinstance(feature, kind)]

    every = ", ".join(features)
    images, classes = of_kind(datasets.Image), of_kind(datasets.ClassLabel)
    if column is None:
        if not images:
            raise DataError(f"hf:{spec} has no column of images, only {every}")
        if len(images) > 1:
            raise DataError(
                f"hf:{spec} has {len(images)} columns of images, not one: choose it with --set data.column=NAME from "
                f"{', '.join(images)}"
            )
        column = images[0]
    elif column not in images:
        raise DataError(f"hf:{spec} has no column {column!r} of images: those are {', '.join(images) or 'none'}")
    if label == "":
        if len(classes) > 1:
            raise DataError(
                f"hf:{spec} has {len(classes)} columns of classes ({', '.join(classes)}): choose one with "
                f"--set data.label=NAME, or none with --set data.label=none"
            )
        label = classes[0] if classes else None
    elif label is not None and label not in features:
        raise DataError(f"hf:{spec} has no column {label!r}: choose from {every}")
    return column, label


def _source(spec: str, split: str, rows: Any, column: str, label: str | None) -> Source:
    import datasets

    raw = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def read(i: int) -> bytes:
        row = raw[i][column] or {"bytes": b"", "path": ""}
        content: bytes = row["bytes"] if row["bytes"] is not None else read_file(row["path"] or "")
        return content

    files = [part["filename"] for part in rows.cache_files]
    size = raw.data.nbytes
    if any(chunk.field("bytes").null_count for chunk in raw.data.column(column).chunks):  # paths instead, of a folder
        entries = (raw[i][column] for i in range(len(raw)))
        pictures = [entry["path"] or "" for entry in entries if entry and entry["bytes"] is None]
        size += sum(file_facts(pictures)[0])
        files += pictures
    identity = [str(split), column, len(raw), files, file_facts(files)]
    labels, classes = (None, None) if label is None else _classes(spec, rows, label)
    return Source(f"hf:{spec}", [f"row {i}" for i in range(len(raw))], read, size, identity, labels, classes)


def _classes(spec: str, rows: Any, label: str) -> tuple[Labels | None, list[str] | None]:
    """Class numbers and names from a column of the data set: a ClassLabel's own, else by the order of its values.

    Whole numbers name no class, because these would contradict the class numbers wherever they do not count from 0.
    """
    import datasets

    values = rows.select_columns([label]).to_dict()[label]
    if not all(isinstance(value, (str, int)) for value in values):
        raise DataError(f"the column {label!r} of hf:{spec} has other values than strings and whole numbers")
    if not isinstance(rows.features[label], datasets.ClassLabel):
        distinct, numbers = np.unique(values, return_inverse=True)
        return numbers, list(map(str, distinct)) if distinct.dtype.kind == "U" else None
    if min(values) < 0:  # how the Hub hides the labels of a test split
        logger.warning("the labels of hf:%s are hidden: going on without labels", spec)
        return None, None
    return np.array(values), list(rows.features[label].names)
