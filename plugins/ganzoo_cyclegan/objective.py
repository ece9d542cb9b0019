"""CycleGAN's objective, and the history of generated images that its discriminators get."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo import Batch, ConfigError, Loss, Objective, Rng

OLD = 0.5
"""The probability with which D gets an image from the history."""


class CycleGAN(Objective, nn.Module):
    """Adversarial losses in both directions, and differences from what should come back: with G from A to B and F from
    B to A, images a of kind A and b of kind B, and means of absolute differences,

        adversarial (L(D_B, G(a)) + L(D_A, F(b))) + cycle (|F(G(a)) - a| + |G(F(b)) - b|)
        + identity cycle (|G(b) - b| + |F(a) - a|)

    (Zhu et al. 2017, equation 3 and section 5.2). Each discriminator minimises its own loss.

    Args:
        loss: the adversarial loss L.
        adversarial: its weight in the generators. With `lsgan`, 2 gives the published (D(G(a)) - 1)^2, of which
            ganzoo's loss is the half.
        cycle: lambda, the weight of cycle consistency.
        identity: the weight of the identity terms as a share of `cycle`; 0: none. They need images of both kinds with
            as many channels.
        pool: generated images in the history of each discriminator; 0: no history. See `Pool`.

    Raises:
        ConfigError: a number is below 0.
    """

    def __init__(
        self, loss: Loss, adversarial: float = 2.0, cycle: float = 10.0, identity: float = 0.5, pool: int = 50
    ) -> None:
        nn.Module.__init__(self)
        Objective.__init__(self, loss)
        if min(adversarial, cycle, identity, pool) < 0:
            raise ConfigError("adversarial, cycle, identity and pool are at least 0")
        self.adversarial, self.cycle, self.identity = adversarial, cycle, identity
        self.pools = nn.ModuleDict({kind: Pool(pool) for kind in ("A", "B")} if pool else {})

    def check_networks(self, g: nn.Module, d: nn.Module) -> None:
        config: dict[str, Any] = g.config  # type: ignore[assignment]  # set by the zoo
        if config["directions"] != "both":
            raise ConfigError(
                "a generator of one direction alone cannot be trained, because a cycle needs both: leave "
                "generator.directions out"
            )
        before, after = config["input_channels"], config["channels"]
        if self.identity and before != after:
            raise ConfigError(
                f"the identity terms compare inputs of {before} channels with images of {after}: add --set "
                "objective.identity=0, or give both as many with --channels or --set data.input_channels"
            )

    def discriminator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both losses. The logs are means of both discriminators."""
        results = []
        for kind, there, _, judge, side in self._sides(g, d, batch):
            fakes = side.fake(there, graph=False)
            if self.pools:
                fakes = self.pools[kind](fakes, side)
            results.append(super().discriminator_loss(there, judge, dataclasses.replace(side, fakes=fakes)))
        return results[0][0] + results[1][0], _means([logs for _, logs in results])

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """As above. It logs means of both directions: `g_loss`, without its weight, and the differences `cycle` and
        `identity`."""
        total, logged = torch.zeros((), device=batch.real.device), []
        for _, there, back, judge, side in self._sides(g, d, batch):
            value, logs = super().generator_loss(there, judge, side)
            logs["cycle"] = _difference(back(side.z, inputs=side.fake(there)), side.inputs)
            total = total + self.adversarial * value + self.cycle * logs["cycle"]
            if self.identity:
                logs["identity"] = _difference(there(side.z, inputs=side.real), side.real)
                total = total + self.identity * self.cycle * logs["identity"]
            logged.append(logs)
        return total, _means(logged)

    def _sides(
        self, g: nn.Module, d: nn.Module, batch: Batch
    ) -> list[tuple[str, nn.Module, nn.Module, nn.Module, Batch]]:
        """For each direction the kind of image that it leads to, the generators there and back, the discriminator of
        that kind, and the batch, in which images of that kind are real and those of the other one are inputs."""
        back = _Way(g, "BA")
        inputs: Any = batch.inputs  # which the trainer has checked to be there
        reverse = dataclasses.replace(
            batch, real=inputs, inputs=batch.real, labels=None, whole=None, shared=False, fakes=None,
            rng=batch.rng.child("BA"),
        )  # fmt: skip
        return [("B", g, back, d, batch), ("A", back, g, _Judge(d, "A"), reverse)]


class _Way(nn.Module):
    """One direction of the generator, as `Batch.fake` calls it."""

    def __init__(self, g: nn.Module, direction: str) -> None:
        super().__init__()
        self.call = g, direction  # in a tuple, so that it is no submodule

    def forward(self, z: Tensor, *, inputs: Tensor) -> Tensor:
        g, direction = self.call
        images: Tensor = g(z, inputs=inputs, direction=direction)
        return images


class _Judge(nn.Module):
    """The discriminator of one kind of image."""

    def __init__(self, d: nn.Module, kind: str) -> None:
        super().__init__()
        self.call = d, kind

    def forward(self, images: Tensor) -> Tensor:
        d, kind = self.call
        logits: Tensor = d(images, kind=kind)
        return logits


def _difference(x: Tensor, y: Any) -> Tensor:
    """The mean absolute difference of images, of which the second have the data's type."""
    mean: Tensor = (x.to(y.dtype) - y).abs().mean()
    return mean


def _means(logs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([values[key].detach() for values in logs]).mean() for key in logs[0]}


class Pool(nn.Module):
    """A history of generated images: D gets half of its fakes from there (section 4 of the paper; Shrivastava et al.
    2017, https://arxiv.org/abs/1612.07828, section 2.3).

    The images are divided among the rows of the batch: each row has its own `size // batch size`, at least one, and the
    first ones that it generates are kept and given to D. From then on, with probability 1/2, D gets one of them, at
    random, in place of the new one, which takes its place. With a batch of one this is the authors' history. Because no
    row touches the images of another, a batch that is split over processes, or into parts, gets what a whole one does.
    All processes keep the history of all rows, so that any of them can write the checkpoint.

    Args:
        size: the number of images.
    """

    images: Tensor
    kept: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.empty(0))  # (rows, images a row, C, H, W), once the shape is known
        self.register_buffer("kept", torch.empty(0, dtype=torch.long))  # images of each row so far, (rows,)

    @torch.no_grad()
    def forward(self, fakes: Tensor, batch: Batch) -> Tensor:
        """What D gets in place of the generated images `fakes` (n, C, H, W) of this batch, or of this part of it."""
        n, rng = len(fakes), batch.rng
        rows, slots = n * rng.parts, max(1, self.size // (n * rng.parts))
        together = batch.gather(fakes.to(torch.promote_types(fakes.dtype, torch.float32)))
        together = together.reshape(-1, n, *fakes.shape[1:])  # (processes, n, C, H, W)
        if not len(self.kept):
            self.images = together.new_zeros(rows, slots, *fakes.shape[1:])
            self.kept = self.kept.new_zeros(rows)
        turns = rng.parts // len(together)  # parts that each process takes one after another

        def at_hand(x: Tensor) -> Tensor:
            """The rows of the parts that the processes take now, (processes, n, ...), of those of the whole batch."""
            return x.view(-1, turns, n, *x.shape[1:])[:, rng.part % turns]

        whole = Rng(rng.seed, rng.step, f"{rng.purpose}/pool", rng.device)
        old, place = at_hand(whole.rand(rows)) < OLD, at_hand(whole.randint(slots, rows))
        images, kept = at_hand(self.images), at_hand(self.kept)
        full = kept >= slots
        old &= full
        # A mask of one place for each row: assignment by indices is not deterministic on CUDA.
        chosen = torch.arange(slots, device=fakes.device) == torch.where(full, place, kept)[..., None]
        chosen = _widened(chosen & (old | ~full)[..., None], images)
        given = torch.where(_widened(old, together), (images * chosen).sum(2), together)
        images.copy_(torch.where(chosen, together[:, :, None], images))
        kept.add_(~full)
        return given[rng.part // turns].to(fakes.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("images", "kept"):  # whose shapes are those of the run that wrote them
            setattr(self, name, torch.empty_like(state_dict[prefix + name], device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _widened(x: Tensor, like: Tensor) -> Tensor:
    """`x` with as many dimensions as `like`, the last ones of length 1."""
    return x[(..., *[None] * (like.dim() - x.dim()))]
