"""The averaged generator's decay, and the other numbers that change while training goes on."""

import math
from collections.abc import Mapping, Sequence

from ganzoo.training.augment import Augmentation
from ganzoo.training.objective import Penalty
from ganzoo.training.optimizers import Optimizer
from ganzoo.zoo.config import TrainConfig


def ema_decay(step: int, decay: float) -> float:
    """min(decay, (1 + step) / (10 + step)): the ramp-up keeps early averages from remembering the initial weights."""
    return min(decay, (1 + step) / (10 + step))


def halflife_decay(images: float, batch_size: int) -> float:
    """The decay of one step for which a weight counts half in the average after so many images, as in the code of
    Karras et al. 2018 (Progressive Growing of GANs, arXiv:1710.10196); 0 for 0 images, which is no averaging."""
    return 0.5 ** (batch_size / images) if images > 0 else 0.0


def lr_factor(kind: str, progress: float) -> float:
    """The factor of the learning rate after this fraction of the steps."""
    return {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[kind]


class Schedules:
    """The numbers that change from step to step: rates, betas, the weights of penalties, the average's decay.

    Each number in `config.schedules` goes from its own setting to its final value along half a cosine, over
    `config.schedule_steps` steps, and then stays there. The other numbers are constant, except that the learning rates
    follow `config.lr_schedule`.

    Args:
        config: the run's settings.
        penalties: the penalties of D, whose weights are set at each step.
        augmentation: the augmentation of D's inputs, whose probability is set at each step.
    """

    def __init__(self, config: TrainConfig, penalties: Sequence[Penalty], augmentation: Augmentation) -> None:
        self.config, self.augmentation = config, augmentation
        self.penalties = {penalty.name: penalty for penalty in penalties if penalty.name in config.schedules}
        self.start = {name: penalty.weight for name, penalty in self.penalties.items()}
        self.start |= {"lr": config.lr, "d_lr": config.d_lr or config.lr}
        self.start |= {"beta1": config.betas[0], "beta2": config.betas[1]}
        self.start |= {"augment_p": config.augment_options.get("p", 0.0)}
        self.start |= {"ema_decay": config.ema_decay, "ema_halflife": config.ema_halflife or 0.0}

    def value(self, name: str, step: int) -> float:
        """One number at a step."""
        final: float | None = self.config.schedules.get(name)
        if final is None:
            return self.start[name]
        progress = min(1.0, step / (self.config.schedule_steps or self.config.steps))
        return final + (self.start[name] - final) * (1 + math.cos(math.pi * progress)) / 2

    def decay(self, step: int) -> float:
        """The decay of the averaged generator."""
        if self.config.ema_halflife is not None:
            return halflife_decay(self.value("ema_halflife", step), self.config.batch_size)
        return ema_decay(step, self.value("ema_decay", step))

    def apply(self, step: int, optimizers: Mapping[str, Optimizer]) -> None:
        """Set the numbers of this step in the penalties and in the optimizers, "g" and "d"."""
        factor = lr_factor(self.config.lr_schedule, step / self.config.steps)
        shared = "lr" in self.config.schedules and self.config.d_lr is None
        rates = {"g": self.value("lr", step), "d": self.value("lr" if shared else "d_lr", step)}
        for name, optimizer in optimizers.items():
            optimizer.lr = rates[name] * factor
            optimizer.betas = self.value("beta1", step), self.value("beta2", step)
        for name, penalty in self.penalties.items():
            penalty.weight = self.value(name, step)
        if "augment_p" in self.config.schedules:
            self.augmentation.p.fill_(self.value("augment_p", step))
