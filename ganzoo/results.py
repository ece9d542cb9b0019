"""What was measured, with its protocol: figures of unlike protocols are never put side by side."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganzoo.errors import EvaluationError


@dataclass(frozen=True)
class Result:
    """What was measured of one generator.

    Attributes:
        source: what was measured.
        weights: "sha256" of the generator's tensors, and its "kind": "ema", "raw", or "" if not known.
        values: the figures by name. A name that ends in `_perfect` is what a perfect sampler of as many samples gets.
        floor: the same figures of "n" real images that the reference does not hold; None if the data has no test split.
        protocol: all that the figures depend on beside the generator.
    """

    source: str
    weights: dict[str, str]
    values: dict[str, float]
    floor: dict[str, float] | None
    protocol: dict[str, Any]

    def __post_init__(self) -> None:
        kinds = {"source": str, "weights": dict, "values": dict, "floor": dict | None, "protocol": dict}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise EvaluationError(f"the {name!r} of a result cannot be {getattr(self, name)!r}")

    @property
    def fid_multiple(self) -> float | None:
        """FID as a multiple of its floor: 1 is as near the training images as unseen real images are."""
        return self.values["fid"] / self.floor["fid"] if self.floor and "fid" in self.values else None

    @property
    def metrics(self) -> list[str]:
        """The metrics that were asked for, as `--metrics` spells them."""
        told = {"fid": "fid", "kid": "kid", "is": "is", "precision": "prdc", "modes": "modes"}
        return [metric for name, metric in told.items() if name in self.values]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "fid_multiple": self.fid_multiple}


def headline(results: Sequence[Mapping[str, Any]]) -> str:
    """The first of the results of a model in a few words, for listings; empty without any."""
    if not results:
        return ""
    first = results[0]
    values, told = first["values"], []
    if first.get("fid_multiple"):
        told.append(f"fid {first['fid_multiple']:.1f} x floor")
    elif "fid" in values:
        told.append(f"fid {values['fid']:.3g}")
    if values.get("modes_perfect", 0) > 10:
        told.append(f"{values['modes']:,.0f} modes")
    return ", ".join(told)


def read_results(path: Path) -> list[Result]:
    """The results in a file that `ganzoo eval --json` wrote.

    Raises:
        EvaluationError: it cannot be read, or holds anything else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [Result(**{key: value for key, value in row.items() if key != "fid_multiple"}) for row in found]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{path} does not hold results of `ganzoo eval --json`: {error}") from error


def compare(results: Sequence[Result]) -> None:
    """Refuse results that were not measured alike.

    Raises:
        EvaluationError: protocols that differ; names the first difference.
    """
    for other in results[1:]:
        ours, theirs = dict(_leaves(results[0].protocol)), dict(_leaves(other.protocol))
        for key in [*ours, *theirs]:
            if ours.get(key) != theirs.get(key):
                raise EvaluationError(
                    f"{results[0].source} and {other.source} were not measured alike: {key} is {ours.get(key)!r} and "
                    f"{theirs.get(key)!r}; measure them anew, alike"
                )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
