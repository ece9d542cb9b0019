"""Signs that a training goes wrong, each reported once with advice."""

import logging
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ganzoo.data.dataset import Data
from ganzoo.training.augment import ADA
from ganzoo.training.build import FEW, Players, takes_augmentation
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.plugins import registry

logger = logging.getLogger("ganzoo")

ALIKE = 0.2
"""Diversity below which samples are nearly alike."""
SAME = 0.02
"""Diversity below which they are the same: a collapse even at the start, or while it rises."""
OVERPOWERED = 0.01
"""Loss of D, in nats or margins, below which G gets hardly any gradient."""
READINGS = 5
"""Log lines whose median counts, so that neither one bad line nor one good line decides."""
SPACING = 50
"""Steps from one of these lines to the next at least: the lines of a run that logs more often are passed over, as five
of them would cover no more than the start, at which samples may be alike for a moment."""
EARLIER = 3
"""Log lines before these, with which they are compared."""
RISING = 1.1
"""The factor between the medians of those lines and of these above which samples still become varied. Some trainings
need hundreds of steps for it."""
VERY_FEW = 1000
"""Images below which D may remember them in any case."""

LEARNED = (
    "generator", "discriminator", "loss", "penalties", "pack", "batch_size", "n_critic", "optimizer", "lr", "d_lr",
    "betas", "eps", "objective_options",
)  # fmt: skip
"""Settings that decide whether a training is stable."""

MESSAGES = {
    "collapse": "the samples are nearly alike (diversity {diversity:.2f} of the data's): mode collapse",
    "overpowered": "the discriminator separates all items (loss {d_loss:.4f}) and teaches the generator little",
}


@torch.no_grad()
def diversity(fake: Tensor, real: Tensor) -> Tensor:
    """The root mean squared distance between two generated items, divided by that between two real ones.

    At 1, the samples vary as much as the data; at 0, the generator has collapsed to one item.
    """
    spread = [x.flatten(1).float().var(0).sum() for x in (fake, real)]
    return (spread[0] / spread[1].clamp_min(1e-12)).sqrt()


class TrainingWarnings:
    """Watches log lines of a run.

    Args:
        config: the run's settings, which decide the advice.
        data: the training data.
    """

    def __init__(self, config: TrainConfig, data: Data) -> None:
        self.config, self.data = config, data
        self.lines: deque[Mapping[str, Any]] = deque(maxlen=EARLIER + READINGS)
        self.reported: set[str] = set()

    def check(self, entry: Mapping[str, Any]) -> list[str]:
        """Warn of the signs in the last lines, once each.

        Returns:
            The new warnings.
        """
        texts: list[str] = []
        if entry["step"] - (self.lines[-1]["step"] if self.lines else 0) < SPACING:
            return texts
        self.lines.append(entry)
        if len(self.lines) < READINGS:
            return texts
        for name in MESSAGES:
            if name not in self.reported and getattr(self, f"_{name}")():
                self.reported.add(name)
                texts.append(f"{MESSAGES[name].format(**entry)}. Try {', or '.join(self._advice())}")
                logger.warning("step %d: %s", entry["step"], texts[-1])
        return texts

    def _collapse(self) -> bool:
        values: list[float] = [line["diversity"] for line in self.lines if "diversity" in line]
        if len(values) < READINGS:
            return False
        earlier, now = values[:-READINGS], median(values[-READINGS:])
        may_rise = len(earlier) < EARLIER or now > RISING * median(earlier)
        return now < (SAME if may_rise else ALIKE)

    def _overpowered(self) -> bool:
        # A critic's loss is a distance and no such sign: it is below 0.
        recent = list(self.lines)[-READINGS:]
        lines = [line for line in recent if line.get("accuracy", 0.0) > 0.99 and line.get("d_loss", -1.0) >= 0]
        return 2 * len(lines) > READINGS and median(line["d_loss"] for line in lines) < OVERPOWERED

    def _advice(self) -> list[str]:
        """What helps, of what the run does not have already; the surest first."""
        config, advice = self.config, []
        recipe = TrainConfig(config.architecture).to_dict()
        own = [key for key in LEARNED if getattr(config, key) != recipe[key]]
        if own:
            advice.append(f"the default recipe, which differs in {', '.join(own)}")
        if self.data.is_image and len(self.data.items) < FEW and not config.augment and takes_augmentation(config):
            advice.append("--augment ada")
        rates = f"--lr {config.lr / 4:g}" + (f" --set d_lr={config.d_lr / 4:g}" if config.d_lr else "")
        return [*advice, rates]


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
    elif data.is_image and count < VERY_FEW and not augmentation and takes_augmentation(config):
        logger.info("%d images are few, D may remember them, and nothing is augmented: --augment ada helps", count)
    if ADA in augmentation and not augmentation.steered and "augment_p" not in config.schedules:
        reason = "" if players.loss.boundary is not None else f", because {config.loss} does not tell when D remembers"
        logger.info("ADA has the fixed probability %g%s (--set augment.p)", augmentation.p.item(), reason)
