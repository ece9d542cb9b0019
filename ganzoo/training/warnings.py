"""Signs that a training goes wrong, each reported once with advice."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganzoo.data.dataset import Data
from ganzoo.training.augment import ADA
from ganzoo.training.build import FEW, Players
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.plugins import registry

logger = logging.getLogger("ganzoo")

COLLAPSED = 0.1
"""Diversity below which samples are nearly alike."""
OVERPOWERED = 0.01
"""Loss of D, in nats or margins, below which G gets hardly any gradient."""
VERY_FEW = 1000
"""Images below which D may remember them in any case."""
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


def announce(config: TrainConfig, data: Data, players: Players) -> None:
    """Say before training whether the data has a recipe of its own, what is done about few images, and how ADA's
    probability is chosen under a loss by which it cannot be steered."""
    own = registry().data[config.data].recipe if config.data in registry().data else ""
    if config.recipe == "default" and own in (registry().architecture(config.architecture).recipes or {}):
        logger.info("%s has a recipe of its own: --recipe %s", config.data, own)
    count, augmentation = len(data.items), players.augmentation
    if data.is_image and count < FEW and ADA in augmentation:
        logger.info(
            "%d images are few: ADA augments what D sees, so that D cannot remember them (--augment none turns it off)",
            count,
        )
    elif data.is_image and count < VERY_FEW and not augmentation:
        logger.info("%d images are few, D may remember them, and nothing is augmented: --augment ada helps", count)
    if ADA in augmentation and not augmentation.steered and "augment_p" not in config.schedules:
        reason = "" if players.loss.boundary is not None else f", because {config.loss} does not tell when D remembers"
        logger.info("ADA has the fixed probability %g%s (--set augment.p)", augmentation.p.item(), reason)
