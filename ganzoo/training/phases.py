"""The batches of the two phases: real items, latents and random streams, as functions of the step alone."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import nn

from ganzoo.data.dataset import Batches
from ganzoo.rng import Rng, seed_torch, stream_seed
from ganzoo.sampling.draw import draw_latent
from ganzoo.training.distributed import World
from ganzoo.training.objective import Batch
from ganzoo.zoo.config import TrainConfig


class Phases:
    """Draws the batches of each phase, in the parts that this process takes one after another.

    Args:
        config: the run's settings.
        batches: the training data.
        g: the generator, which may draw its own latents.
        device: where training runs.
        world: the processes that train together; each takes its own parts.
    """

    def __init__(self, config: TrainConfig, batches: Batches, g: nn.Module, device: torch.device, world: World) -> None:
        self.config, self.batches, self.g, self.device, self.world = config, batches, g, device, world
        self.parts = world.size * config.accumulate
        self._last: Batch | None = None

    def discriminator(self, step: int, update: int) -> Iterator[Batch]:
        """The batch of D's update 0 to n_critic - 1 in this step."""
        # G's phase reuses the fakes of D's last update if that update has one part.
        last = update == self.config.n_critic - 1 and self.config.accumulate == 1
        for part in self._own_parts():
            self._last = self._draw(step, update, f"d{update}", part, shared=last)
            yield self._last

    def generator(self, step: int) -> Iterator[Batch]:
        """The batch of G's update: the real items and latents of D's last update."""
        for part in self._own_parts():
            if self._last is not None and self._last.shared:
                self._seed(step, "g", part)
                batch = dataclasses.replace(self._last, rng=self._stream(step, "g", part))
            else:
                batch = self._draw(step, self.config.n_critic - 1, "g", part)
            self._last = None
            yield batch

    def _own_parts(self) -> range:
        first = self.world.rank * self.config.accumulate
        return range(first, first + self.config.accumulate)

    def _draw(self, step: int, update: int, phase: str, part: int, *, shared: bool = False) -> Batch:
        self._seed(step, phase, part)
        k = step * self.config.n_critic + update
        real, labels, inputs = self.batches.get(k, part, self.parts)
        return Batch(
            real,
            draw_latent(self.g, len(real), self._stream(step, f"z{update}", part)),
            step,
            self._stream(step, phase, part),
            labels=labels,
            fake_labels=labels if self.config.conditional else None,
            inputs=inputs,
            whole=None if self.parts == 1 else lambda: self.batches.get(k)[0],
            across=self.world.gather,
            shared=shared,
        )

    def _stream(self, step: int, purpose: str, part: int) -> Rng:
        return Rng(self.config.seed, step, purpose, self.device, part, self.parts)

    def _seed(self, step: int, phase: str, part: int) -> None:
        """Seed torch's own generators, so that Dropout and other layers that use them resume exactly too."""
        suffix = f"/{part}" if self.parts > 1 else ""
        seed_torch(stream_seed(self.config.seed, step, f"{phase}/torch{suffix}"), self.device)
