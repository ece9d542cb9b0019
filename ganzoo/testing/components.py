"""The checks of a loss and of a penalty."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.errors import CheckError
from ganzoo.rng import Rng, preserve_torch, seed_torch
from ganzoo.testing.report import explaining, require
from ganzoo.testing.subject import CPU, ITEMS, ROLES, Role
from ganzoo.training.objective import Batch, Loss, Penalty
from ganzoo.zoo.hookspecs import Target
from ganzoo.zoo.networks import build
from ganzoo.zoo.plugins import registry


def check_loss(loss: str | Callable[..., Any], **options: Any) -> None:
    """Check that a loss keeps the contract: shapes, finite values, gradients, and the direction of both players.

    Args:
        loss: a registered name, or the class itself.
        **options: what it is built with.

    Raises:
        CheckError: the first thing that is wrong, and what to do.
    """
    what, made = _made("loss", loss, {"penalized": False}, options)
    if not isinstance(made, Loss):
        raise CheckError(f"{what} gives a {type(made).__name__}: subclass ganzoo.Loss")

    def run(side: Role, real: Tensor, fake: Tensor) -> Tensor:
        if side == "discriminator":
            given: tuple[Any, ...] = (real, fake)
        else:
            given = (fake, real.detach() if made.needs_real else None)
        hint = "" if made.needs_real or side == "discriminator" else " (set needs_real = True to be given real logits)"
        with explaining(f"{what}: {side}(…) fails{hint}"):
            value = getattr(made, side)(*given)
        if not isinstance(value, Tensor):
            raise CheckError(f"{what}: {side}(…) gives a {type(value).__name__}: return a tensor")
        if value.shape not in ((), fake.shape):
            shapes = f"{tuple(value.shape)} for logits of shape {tuple(fake.shape)}"
            raise CheckError(f"{what}: {side}(…) gives {shapes}: return a value an element, or their mean")
        return value.mean()

    with preserve_torch(CPU):
        noise = torch.Generator().manual_seed(0)
        for shape in ((ITEMS,), (4, 3, 3)):
            # A D that errs: real items scored low, fake ones high. Then every loss has something to gain.
            wrong = torch.randn(shape, generator=noise) * 0.1 - 1, torch.randn(shape, generator=noise) * 0.1 + 2
            sure = wrong[1], wrong[0]
            for size in (1.0, 25.0):
                for side in ROLES:
                    real, fake = ((x * size).requires_grad_() for x in (wrong if side == "discriminator" else sure))
                    value = run(side, real, fake)
                    needed = {"real": real, "fake": fake} if side == "discriminator" else {"fake": fake}
                    if not value.isfinite():
                        large = real.abs().max().item()
                        raise CheckError(
                            f"{what}: {side}(…) is {value.item()} at logits of about {large:.0f}: compute it stably, "
                            "as softplus(x) instead of log(1 + exp(x)) or log(sigmoid(x))"
                        )
                    require(
                        value.requires_grad,
                        f"{what}: {side}(…) has no graph to its logits: leave out detach, item, no_grad",
                    )
                    for kind, grad in zip(
                        needed, torch.autograd.grad(value, list(needed.values()), allow_unused=True), strict=True
                    ):
                        if grad is None or not grad.isfinite().all():
                            state = "no" if grad is None else "no finite"
                            raise CheckError(f"{what}: {side}(…) gives {state} gradient to the {kind} logits")
                    twice = run(side, *(torch.cat([x, x]) for x in (real, fake)))
                    require(
                        torch.allclose(twice, value, rtol=1e-4, atol=1e-6),
                        f"{what}: {side}(…) changes with the number of logits: return a value an element, or their "
                        "mean, never a sum",
                    )
            step = 0.1
            before = run("discriminator", *wrong).item()
            require(
                run("discriminator", wrong[0] + step, wrong[1]).item() < before,
                f"{what}: D's loss does not fall when real logits rise: turn its sign around",
            )
            require(
                run("discriminator", wrong[0], wrong[1] - step).item() < before,
                f"{what}: D's loss does not fall when fake logits fall: turn its sign around",
            )
            require(
                run("generator", sure[0], sure[1] + step).item() < run("generator", *sure).item(),
                f"{what}: G's loss does not fall when fake logits rise: turn its sign around",
            )
        d = nn.Linear(3, 1)
        with explaining(f"{what}: after_discriminator_step(d) fails"):
            made.after_discriminator_step(d)
        require(
            all(p.isfinite().all() for p in d.parameters()),
            f"{what}: after_discriminator_step(d) leaves D with weights that are not finite",
        )


def check_penalty(penalty: str | Callable[..., Any], **options: Any) -> None:
    """Check that a penalty keeps the contract: a scalar that reaches D, obeys its weight and draws from `batch.rng`.

    Args:
        penalty: a registered name, or the class itself.
        **options: what it is built with.

    Raises:
        CheckError: the first thing that is wrong, and what to do.
    """
    with preserve_torch(CPU):
        what, made = _made("penalty", penalty, {}, options)
        if not isinstance(made, Penalty):
            raise CheckError(f"{what} gives a {type(made).__name__}: subclass ganzoo.Penalty")
        torch.manual_seed(0)
        last = nn.Linear(16, 1)
        d = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 16), nn.Tanh(), last, nn.Flatten(0))
        with torch.no_grad():
            last.weight.mul_(20)  # so that D's gradient is above 1, where a one-sided penalty has something to say
        real, fake = (torch.rand(ITEMS, 3, 4, 4) * 2 - 1 for _ in range(2))
        before = {key: p.detach().clone() for key, p in d.named_parameters()}

        def run(made: Penalty, seed: int) -> Tensor:
            seed_torch(seed, CPU)
            batch = Batch(real, torch.zeros(ITEMS, 1), 0, Rng(0, 0, "d0"))
            with explaining(f"{what} fails on a D of (N, 3, 4, 4) images"):
                # As the trainer calls it: d is a function, not a module.
                value = made(d._call_impl, real, fake, batch=batch)
            if not isinstance(value, Tensor) or value.dim():
                found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise CheckError(f"{what} gives {found}: return a scalar tensor, such as the mean over the batch")
            return value

        value = run(made, 0)
        require(
            value.isfinite() and value >= 0,
            f"{what} is {value.item():.3g}: a penalty is finite and never below 0",
        )
        require(
            torch.equal(value, run(made, 1)),
            f"{what} differs between two calls on one batch: draw from batch.rng alone",
        )
        for key, p in d.named_parameters():
            require(torch.equal(p, before[key]), f"{what} changes D's parameters: it may only read them")
            require(p.grad is None, f"{what} leaves gradients in D: use torch.autograd.grad instead of backward()")
        require(
            not (real.requires_grad or fake.requires_grad),
            f"{what} leaves requires_grad on its inputs: work on x.detach().requires_grad_()",
        )
        grads = torch.autograd.grad(value, list(d.parameters()), allow_unused=True) if value.requires_grad else ()
        require(
            any(grad is not None for grad in grads),
            f"{what} has no graph to D's parameters: give torch.autograd.grad create_graph=True",
        )
        others = {key: value for key, value in options.items() if key != "weight"}
        _, double = _made("penalty", penalty, {"weight": 2 * made.weight}, others)
        require(
            torch.allclose(run(double, 0), 2 * value, rtol=1e-4),
            f"{what} does not double when its weight does: take `weight` and multiply by self.weight",
        )


def _made(kind: str, thing: str | Target, offered: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, Any]:
    """A loss or penalty by name or class: what to call it in errors, and an instance."""
    if isinstance(thing, str):
        find = registry().loss if kind == "loss" else registry().penalty
        thing, what = find(thing).target, f"the {kind} {thing!r}"
    else:
        what = f"the {kind} {getattr(thing, '__name__', type(thing).__name__)}"
    with explaining(f"{what} cannot be built"):
        return what, build(thing, offered, options, what)[0]
