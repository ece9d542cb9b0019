"""The contract between a plugin and the trainer: Batch, Loss, Penalty, and the standard Objective of these."""

from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.rng import Rng
from ganzoo.sampling.options import takes_inputs
from ganzoo.training.augment import Augmentation
from ganzoo.training.batchnorm import active, item_by_item, kind_by_kind

Discriminator = Callable[..., Tensor]
"""The discriminator as a penalty gets it: a function from items to raw logits."""


@dataclass
class Batch:
    """The batch of one phase of training, or the part of it that this process takes.

    Later versions may add fields, but remove none.

    Attributes:
        real: (N, ...) items of the data; images (N, C, H, W) in [-1, 1].
        z: latents (N, z_dim), unless the generator draws its own. G's phase has those of D's last update.
        step: the generator step, from 0.
        rng: the random stream of this phase.
        labels: (N,) int64 classes of the real items; None if the data has none.
        fake_labels: (N,) int64 classes that the generator is conditioned on, which are those of the real items; None in
            unconditional training.
        inputs: (N, ...) what is translated, images as floats in [-1, 1]; None if the data has none. They belong to the
            real items, unless the data is unpaired.
        whole: a function that returns the real items of all parts; None if this is the whole batch. See `whole_real`.
        across: a function that joins a tensor with those of the other processes; None: there are none. See `gather`.
        shared: whether G's phase reuses the fakes of this update of D.
        fakes: (N, ...) the generated items; None before the first call of `fake`.
        made: the former name of `fakes`.
    """

    real: Tensor
    z: Tensor
    step: int
    rng: Rng
    labels: Tensor | None = None
    fake_labels: Tensor | None = None
    inputs: Tensor | None = None
    whole: Callable[[], Tensor] | None = None
    shared: bool = False
    fakes: Tensor | None = None
    made: InitVar[Tensor | None] = None
    across: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self, made: Tensor | None) -> None:
        if made is not None:
            self.fakes = made

    def fake(self, g: nn.Module, *, graph: bool = True) -> Tensor:
        """The generated items G(z), (N, ...), of these classes and inputs. They are computed once for each batch.

        Args:
            g: the generator.
            graph: whether the result is to have a graph, as G's phase needs and D's does not.
        """
        if self.fakes is None or (graph and not self.fakes.requires_grad):
            with torch.set_grad_enabled(graph or self.shared):
                labels = [] if self.fake_labels is None else [self.fake_labels]
                self.fakes = g(self.z, *labels, **({"inputs": self.inputs} if takes_inputs(g) else {}))
        return self.fakes if graph else self.fakes.detach()

    def judge(self, d: Discriminator) -> Discriminator:
        """D as a function from items to logits, which in conditional training passes the classes too, and the inputs to
        a D that takes them.

        The function takes items (N, ...), or several such batches of the same classes and inputs in one.
        """
        labels, inputs = self.fake_labels, self.inputs if takes_inputs(d) else None
        if labels is None and inputs is None:
            return d

        def judge(x: Tensor) -> Tensor:
            arguments = [] if labels is None else [labels.repeat(len(x) // len(labels))]
            if inputs is None:
                return d(x, *arguments)
            times = len(x) // len(inputs)
            return d(x, *arguments, inputs=inputs.repeat(times, *[1] * (inputs.dim() - 1)))

        return judge

    def whole_real(self) -> Tensor:
        """The real items of the whole batch, even if this is a part of it, for statistics over all of them."""
        return self.real if self.whole is None else self.whole()

    def gather(self, x: Tensor) -> Tensor:
        """`x` (N, ...) of this part of the batch and of those that the other processes take at the same time, joined in
        the order of the processes, without a graph. All processes must call this.

        Process i takes the parts i k to i k + k - 1 of `rng.parts`, one after another, where k is the number of parts
        divided by that of processes.
        """
        return x.detach() if self.across is None else self.across(x)


def _full(x: Tensor) -> Tensor:
    """`x` as float32, or unchanged if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Loss:
    """An adversarial loss on raw logits, which are float32. Each method may return one value for each element or their
    mean: the trainer averages.
    """

    needs_real = False
    """Whether `generator` gets the real logits too, as relativistic losses need."""
    boundary: float | None = None
    """The logit above which D takes an item for real; None: logits have no such value, because only their differences
    matter to the loss, as in relativistic and Wasserstein losses."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The loss that D minimises. Both arguments have the shape of D's logits, (N,) or (N, ...)."""
        raise TypeError(f"{type(self).__name__} must define discriminator(real_logits, fake_logits)")

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """The loss that G minimises. `real_logits` is None unless `needs_real` is true."""
        raise TypeError(f"{type(self).__name__} must define generator(fake_logits, real_logits=None)")

    def after_discriminator_step(self, d: nn.Module) -> None:
        """Called after each update of D, for example to clip its weights."""


class Penalty:
    """A regulariser of D, added to its loss.

    Args:
        weight: its strength w; None: the class's own `weight`.
    """

    weight: float = 1.0
    name: str = ""
    """The registered name, under which it is logged; set by the trainer."""
    every: int = 1
    """The steps from one evaluation of the penalty to the next. Its value is multiplied by this number; set by the
    trainer."""

    def __init__(self, weight: float | None = None) -> None:
        if weight is not None:
            self.weight = weight

    def __call__(self, d: Discriminator, real: Tensor, fake: Tensor, *, batch: Batch) -> Tensor:
        """The weighted penalty, a scalar.

        Args:
            d: the discriminator as a function from items to logits. It includes the classes and the augmentation, and
                BatchNorm's statistics are constants, so that each logit depends only on its own item.
            real: real items (N, ...), float32 without a graph, before augmentation.
            fake: generated items of the same shape, likewise.
            batch: the batch of this phase; draw random numbers from its `rng`.
        """
        raise TypeError(f"{type(self).__name__} must define __call__(d, real, fake, *, batch)")


class Objective:
    """The objective that the trainer minimises in its two phases: a loss and penalties.

    An architecture may register a class of its own with the same methods, whose constructor takes those of these
    arguments that it supports. If it is an `nn.Module`, the generator's optimizer trains its parameters, and its state
    is part of the checkpoint.

    Args:
        loss: the adversarial loss.
        penalties: penalties added to D's loss, each every `penalty.every` steps.
        pack: the number of samples that D judges at once, concatenated along the channels (Lin et al. 2018, PacGAN,
            arXiv:1712.04086).
        augment: the augmentation of D's inputs; names stand for `Augmentation` with these policies.
        joint: whether D judges real and generated items in one batch, in both phases. Then its BatchNorm has the
            statistics of both together, which keep what sets one kind apart from the other: a D that normalises each
            kind by itself cannot see that the generated items are too bright, or too alike.
    """

    needs_pairs = False
    """Whether generated items are compared with the real ones that their inputs belong to. Then unpaired data is
    refused."""

    def __init__(
        self,
        loss: Loss,
        penalties: Sequence[Penalty] = (),
        pack: int = 1,
        augment: Augmentation | Sequence[str] = (),
        joint: bool = False,
    ) -> None:
        self.loss = loss
        self.penalties = penalties
        self.pack = pack
        self.augment = augment if isinstance(augment, Augmentation) else Augmentation(augment)
        self.joint = joint

    def present(self, x: Tensor, batch: Batch) -> Tensor:
        """The inputs of D for items (N, C, ...): augmented, and packed to (N / pack, pack C, ...)."""
        if self.augment:
            x = self.augment(x, batch.rng)
        return self._packed(x)

    shown = present  # the former name

    def _packed(self, x: Tensor) -> Tensor:
        return x if self.pack == 1 else x.reshape(-1, self.pack * x.shape[1], *x.shape[2:])

    def discriminator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """D's loss, a scalar with a graph, and scalars to log.

        These are `d_loss` without the penalties, each penalty under its name, and `accuracy`, the share of (real, fake)
        pairs in which D gives the real item the higher logit: 1 if D separates them, 0.5 for guesses. If the loss has
        a `boundary`, also `r_t`, the mean sign of D's logits of real items, by which ADA is steered.
        """
        fakes = batch.fake(g, graph=False)
        real, fake = self.present(batch.real, batch), self.present(fakes, batch)
        judge, joins = batch.judge(d), self.joint
        if not joins and self.joins(d, len(real)):
            judge, joins = kind_by_kind(d, judge), True
        real_logits, fake_logits = self._logits(judge, real, fake, joins)
        adversarial = self.loss.discriminator(real_logits, fake_logits).mean()
        logs = {"d_loss": adversarial, "accuracy": (real_logits > fake_logits).to(real_logits.dtype).mean()}
        if self.loss.boundary is not None:
            logs["r_t"] = (real_logits - self.loss.boundary).sign().mean()
        total = adversarial
        for penalty in self.penalties:
            if batch.step % penalty.every == 0:
                value = self._penalise(penalty, d, fakes, batch)
                logs[penalty.name or type(penalty).__name__.lower()] = value
                total = total + penalty.every * value
        return total, logs

    def _penalise(self, penalty: Penalty, d: nn.Module, fakes: Tensor, batch: Batch) -> Tensor:
        """The penalty, differentiated through the augmentation with respect to the items before it, as in the code of
        Huang et al. 2024 (R3GAN, arXiv:2501.05441).

        BatchNorm's statistics are those of the items that the penalty takes, of one kind alone. With those of a joint
        batch, R1 has little hold on a D that sets the two kinds far apart: trainings were worse or diverged
        (docs/recipes.md).
        """
        judge = batch.judge(d._call_impl)  # not the compiled call: torch.compile has no second derivatives

        def augmented(x: Tensor) -> Tensor:
            items = x.reshape(-1, x.shape[1] // self.pack, *x.shape[2:])
            return judge(self._packed(self.augment(items, batch.rng.child("augment"))))

        independent = item_by_item(d, augmented if self.augment else judge)
        real, fake = self._packed(_full(batch.real)), self._packed(_full(fakes))
        # Second derivatives lose too much in bf16.
        with torch.autocast(batch.real.device.type, enabled=False):
            return penalty(independent, real, fake, batch=batch)

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """G's loss, a scalar with a graph, and scalars to log (`g_loss`)."""
        judge = batch.judge(d)
        fake = self.present(batch.fake(g), batch)
        real_logits: Any = None
        if self.joint:
            real_logits, fake_logits = self._logits(judge, self.present(batch.real, batch), fake, joint=True)
        else:
            fake_logits = _full(judge(fake))
            if self.loss.needs_real:
                with torch.no_grad():
                    real_logits = _full(judge(self.present(batch.real, batch)))
        value = self.loss.generator(fake_logits, real_logits if self.loss.needs_real else None).mean()
        return value, {"g_loss": value}

    def check_networks(self, g: nn.Module, d: nn.Module) -> None:
        """Called before training.

        Raises:
            ConfigError: the objective cannot train these networks.
        """

    def observe(self, logs: dict[str, Tensor]) -> None:
        """Called after each update of G with what `generator_loss` has logged, as means over the whole batch: over all
        of its parts, on all processes. This is the place to keep a running statistic."""

    def joins(self, d: nn.Module, n: int) -> bool:
        """Whether D's logits of n real inputs and n generated ones are the same in one batch as in two, but for
        BatchNorm. Then it judges them in one while it is trained, because that takes less time, and BatchNorm has
        statistics of each kind of its own."""
        # A compiled network would be compiled anew for BatchNorm's other forward pass.
        fixed = getattr(d, "_compiled_call_impl", None) is not None and active(d)
        return getattr(d, "independent", False) and not fixed

    def _logits(self, judge: Discriminator, real: Tensor, fake: Tensor, joint: bool) -> tuple[Tensor, Tensor]:
        """D's logits of presented items of both kinds, which it judges in one batch if `joint` is true."""
        if not joint:
            return _full(judge(real)), _full(judge(fake))
        real_logits, fake_logits = _full(judge(torch.cat([real, fake]))).chunk(2)
        return real_logits, fake_logits
