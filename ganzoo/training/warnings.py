"""Signs that a training goes wrong, each reported once with advice."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger("ganzoo")

COLLAPSED = 0.1
"""Diversity below which samples are nearly alike."""
OVERPOWERED = 0.01
"""Loss of D, in nats or margins, below which G gets hardly any gradient."""
LINES = 3
"""Consecutive log lines with a sign before it is reported: each sign can appear briefly early in training."""

ADVICE = {
    "collapse": "the samples are nearly alike (diversity {diversity:.3f} of the data's): mode collapse. Try "
    "--penalty r1, --loss rpgan with --penalty r1 --penalty r2, --pack 2, or a lower --lr",
    "overpowered": "the discriminator separates all items (loss {d_loss:.4f}) and teaches the generator little. Try "
    "--penalty r1, a lower --set d_lr, --augment color,translation, or more data",
}


@torch.no_grad()
def diversity(fake: Tensor, real: Tensor) -> Tensor:
    """The root mean squared distance between two generated items, divided by that between two real ones.

    At 1, the samples vary as much as the data; at 0, the generator has collapsed to one item.
    """
    spread = [x.flatten(1).float().var(0).sum() for x in (fake, real)]
    return (spread[0] / spread[1].clamp_min(1e-12)).sqrt()


class TrainingWarnings:
    """Watches the log lines of a run."""

    def __init__(self) -> None:
        self.lines = dict.fromkeys(ADVICE, 0)

    def check(self, entry: Mapping[str, Any]) -> None:
        """Warn of the signs in the lines so far, once each."""
        signs = {
            "collapse": entry.get("diversity", 1.0) < COLLAPSED,
            # A critic's loss is a distance and no such sign: it is below 0.
            "overpowered": 0 <= entry.get("d_loss", 1.0) < OVERPOWERED and entry.get("accuracy", 0.0) > 0.99,
        }
        for name, present in signs.items():
            if self.lines[name] >= LINES:
                continue  # reported already
            self.lines[name] = self.lines[name] + 1 if present else 0
            if self.lines[name] == LINES:
                logger.warning("step %d: %s", entry["step"], ADVICE[name].format(**entry))
