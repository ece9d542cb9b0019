"""Figures with the protocol of their measurement: those of different protocols are never put side by side."""

import html
import json
import logging
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganzoo.errors import EvaluationError
from ganzoo.files import read_json

logger = logging.getLogger("ganzoo")

DESCRIPTIVE = ("versions.", "data", "split", "held_out.", "inputs.spec", "inputs.split", "generated.options.")
"""Parts of a protocol in which comparable results may differ: versions of libraries, whose rounding may differ, the
names of the reference and of the inputs, whose content has a hash, options of the data, the images of the floor, and
call options, which belong to the generator."""
OPTIONAL = ("generated.classes", "split", "held_out.", "versions.torchmetrics")
"""Parts that only some protocols have, such as those of conditional generators: compared where both have them."""
OF_METRICS = ("kid", "prdc", "psnr", "ssim", "neighbours")
"""Parts that decide the metric of that name alone: compared where both results have it."""
ASSUMED = {"features.precision": "fp32"}
"""What holds for protocols from before such a part was recorded."""


@dataclass(frozen=True)
class Result:
    """The figures of one generator.

    Attributes:
        source: the generator's name.
        weights: "sha256" of the generator's tensors, and its "kind": "ema", "raw", or "" if not known.
        values: the figures by name. A name that ends in `_perfect` is the expected figure of a perfect sampler.
        floor: the figures of "n" real images that are not in the reference; None if the data has no test split.
        protocol: everything that the figures depend on besides the generator.
        baseline: for a translation, the figures of a trivial answer, which the protocol names; None if there is none.

    Raises:
        EvaluationError: an attribute has the wrong type.
    """

    source: str
    weights: dict[str, str]
    values: dict[str, float]
    floor: dict[str, float] | None
    protocol: dict[str, Any]
    baseline: dict[str, float] | None = None

    def __post_init__(self) -> None:
        kinds = {
            "source": str, "weights": dict, "values": dict, "floor": dict | None, "protocol": dict,
            "baseline": dict | None,
        }  # fmt: skip
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise EvaluationError(f"the {name!r} of a result cannot be {getattr(self, name)!r}")
        for name, figures in (("values", self.values), ("floor", self.floor or {}), ("baseline", self.baseline or {})):
            for key, value in figures.items():
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise EvaluationError(f"{key!r} in the {name!r} of a result must be a number, not {value!r}")
        if self.floor is not None and "n" not in self.floor:
            raise EvaluationError("the 'floor' of a result must hold 'n', the number of real images")

    def __repr__(self) -> str:
        values = ", ".join(f"{name!r}: {value:.4g}" for name, value in self.values.items())
        facts = f"data={self.protocol.get('data')!r}, values={{{values}}}"
        text = f"Result({self.source!r}, {facts}, fid_multiple={self.fid_multiple})"
        return textwrap.fill(text, 110, subsequent_indent="    ", max_lines=3, placeholder=" ...})")

    def _repr_html_(self) -> str:
        """The figures as a table, with those of real images beside them."""
        others = {f"{self.floor_images} (floor)": self.floor, self.baseline_name: self.baseline}
        columns = {name: figures for name, figures in others.items() if figures is not None}
        head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", self.source, *columns))
        rows = []
        for name, value in self.values.items():
            figures = (value, *(column.get(name) for column in columns.values()))
            cells = "".join(f"<td>{'' if figure is None else f'{figure:.4g}'}</td>" for figure in figures)
            rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
        n, data = self.protocol.get("generated", {}).get("n"), self.protocol.get("data")
        caption = html.escape(f"{n} samples compared with {data}")
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{''.join(rows)}</table>"

    @property
    def fid_multiple(self) -> float | None:
        """FID as a multiple of its floor. At 1, the samples are as near to the reference as unseen real images are."""
        floor = (self.floor or {}).get("fid")
        return self.values["fid"] / floor if floor and "fid" in self.values else None

    @property
    def floor_images(self) -> str:
        """What the floor was measured on, such as "10,000 test images"; empty without a floor."""
        if self.floor is None:
            return ""
        split = self.protocol.get("held_out", {"split": "test"}).get("split")
        kind = {"test": "test", "train": "training"}.get(split, "held-out")
        return f"{self.floor['n']:,.0f} {kind} images"

    @property
    def baseline_name(self) -> str:
        """What the trivial answer is, such as "bicubic enlargement"; empty without one."""
        return str(self.protocol.get("inputs", {}).get("baseline", "")) if self.baseline is not None else ""

    @property
    def metrics(self) -> list[str]:
        """The metrics of these figures, as `--metrics` spells them."""
        names = {
            "fid": "fid", "kid": "kid", "is": "is", "precision": "prdc", "diversity": "diversity", "modes": "modes",
            "l1": "l1", "psnr": "psnr", "ssim": "ssim", "perceptual": "perceptual",
            "neighbour_distance": "neighbours", "neighbour_median": "neighbours",
        }  # fmt: skip
        return [metric for name, metric in names.items() if name in self.values]

    def to_dict(self) -> dict[str, Any]:
        content = {**asdict(self), "fid_multiple": self.fid_multiple}
        if self.baseline is None:  # so that earlier versions read the results of other generators
            del content["baseline"]
        return content


def but_seed(protocol: Mapping[str, Any]) -> str:
    """A protocol without the seed of the samples, as JSON: results that share it differ by chance alone."""
    return json.dumps({**protocol, "generated": {**protocol.get("generated", {}), "seed": None}})


def headline(results: Sequence[Mapping[str, Any]]) -> str:
    """The first result of a model in a few words, for listings, as the mean over all that differ from it in the seed
    alone; empty without results."""
    if not results:
        return ""
    first = results[0]
    protocols = [but_seed(result.get("protocol", {})) for result in results]
    alike = [result["values"] for result, own in zip(results, protocols, strict=True) if own == protocols[0]]
    values = {name: sum(own[name] for own in alike) / len(alike) for name in first["values"]}
    floor, parts = first.get("floor") or {}, []
    if "l1" in values:
        baseline = (first.get("baseline") or {}).get("l1")
        trivial = "" if baseline is None else f" ({first['protocol']['inputs']['baseline']} {baseline:.2g})"
        parts.append(f"l1 {values['l1']:.2g}{trivial}")
    elif "fid" in values and floor.get("fid"):
        parts.append(f"fid {values['fid'] / floor['fid']:.1f} x floor")
    elif "fid" in values:
        parts.append(f"fid {values['fid']:.3g}")
    elif "kid" in values:
        parts.append(f"kid {values['kid']:.3g}" + (f" (floor {floor['kid']:.3g})" if "kid" in floor else ""))
    if values.get("modes_perfect", 0) > 10:
        parts.append(f"{values['modes']:,.0f} modes")
    return ", ".join(parts)


def read_results(path: Path) -> list[Result]:
    """The results in a file that `ganzoo eval --json` wrote.

    Raises:
        EvaluationError: it cannot be read, holds no result, or holds anything else.
    """
    try:
        rows = read_json(path)
        if not isinstance(rows, list) or not rows:
            raise ValueError("it must hold a list of at least one result")
        return [Result(**{key: value for key, value in row.items() if key != "fid_multiple"}) for row in rows]
    except (OSError, ValueError, TypeError, AttributeError, EvaluationError) as error:
        raise EvaluationError(f"{path} does not hold results of `ganzoo eval --json`: {error}") from error


def compare(results: Sequence[Result]) -> None:
    """Refuse results whose protocols differ in what decides a figure; warn about other differences.

    Raises:
        EvaluationError: protocols that differ; names the first part that does.
    """
    for other in results[1:]:
        first_protocol, other_protocol = (ASSUMED | dict(_leaves(one.protocol)) for one in (results[0], other))
        differences = {}
        for key in {**first_protocol, **other_protocol}:
            values = first_protocol.get(key), other_protocol.get(key)
            if values[0] == values[1] or (key.startswith(OPTIONAL) and None in values):
                continue
            part = key.partition(".")[0]
            if part in OF_METRICS and not (part in results[0].metrics and part in other.metrics):
                continue
            differences[key] = f"{key} is {values[0]!r} and {values[1]!r}"
        if decisive := [key.partition(".")[0] for key in differences if not key.startswith(DESCRIPTIVE)]:
            named = ", ".join(text for key, text in differences.items() if key.partition(".")[0] == decisive[0])
            raise EvaluationError(
                f"{results[0].source} and {other.source} have different protocols: {named}. Measure them again with "
                "the same settings"
            )
        for difference in differences.values():
            logger.warning("%s and %s were measured differently: %s", results[0].source, other.source, difference)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
