"""The protocol of a measurement: everything that its figures depend on besides the generator."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from ganzoo.evaluation.features import Extractor
from ganzoo.evaluation.real import Real
from ganzoo.evaluation.scores import AT_MOST, KID_SUBSETS, NEAREST_AT_MOST, NEIGHBOURS
from ganzoo.files import weights_hash


def describe_protocol(
    reference: Real,
    held_out: Real | None,
    extractor: Extractor,
    data_options: Mapping[str, Any],
    *,
    precision: str,
    n: int,
    seed: int,
    kid: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The protocol of generators that translate nothing, as a JSON value. The arguments are those of `Evaluator`, and
    `kid` is the number of images in each subset of KID's."""
    protocol = {
        **reference.protocol(),
        **({"data_options": dict(data_options)} if data_options else {}),
        "reference": {"n": len(reference.data.items), "shape": list(reference.shape), "sha256": reference.sha256},
        "features": {
            "name": extractor.name,
            "sha256": weights_hash(extractor),
            "resize": extractor.resize,
            "precision": precision,
        },
        "generated": {"n": n, "seed": seed, **({"options": dict(options)} if options else {})},
        "kid": {"subsets": KID_SUBSETS, "subset_size": kid, "reference_at_most": AT_MOST},
        "prdc": {"k": NEIGHBOURS, "reference_at_most": AT_MOST, "generated_at_most": AT_MOST},
        "neighbours": {"reference_at_most": NEAREST_AT_MOST, "held_out": held_out and held_out.sha256},
        "versions": {
            "torch": torch.__version__.partition("+")[0],
            "torch-fidelity": version("torch-fidelity"),
            "ganzoo": version("ganzoo"),
        },
    }
    if held_out is not None:
        facts = {"n": len(held_out.data.items), "sha256": held_out.sha256}
        protocol["held_out"] = {**held_out.protocol(), **facts}
    return protocol
