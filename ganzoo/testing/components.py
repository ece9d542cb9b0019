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

Logits = tuple[Tensor, Tensor]
"""Real and fake logits."""


def check_loss(loss: str | Callable[..., Any], **options: Any) -> None:
    """Check that a loss keeps the contract: shapes, finite values, gradients, and the direction of both players.

    Args:
        loss: a registered name, or the class itself.
        **options: the options that it is built with.

    Raises:
        CheckError: a check fails; the message says what is wrong and how to fix it.
    """
    what, instance = build_component("loss", loss, {"penalized": False}, options)
    if not isinstance(instance, Loss):
        raise CheckError(f"{what} is a {type(instance).__name__}: subclass ganzoo.Loss")
    with preserve_torch(CPU):
        noise = torch.Generator().manual_seed(0)
        for shape in ((ITEMS,), (4, 3, 3)):
            # With real items scored low and fake ones high, D can gain; with the opposite, G can.
            wrong = torch.randn(shape, generator=noise) * 0.1 - 1, torch.randn(shape, generator=noise) * 0.1 + 2
            right = wrong[1], wrong[0]
            for scale in (1.0, 25.0):
                for side, logits in zip(ROLES, (right, wrong), strict=True):
                    real, fake = (x * scale for x in logits)
                    _check_values(what, instance, side, real.requires_grad_(), fake.requires_grad_())
            _check_directions(what, instance, wrong, right)
        _check_discriminator_step(what, instance)


def _call_loss(what: str, loss: Loss, side: Role, real: Tensor, fake: Tensor) -> Tensor:
    """The mean of a loss, as the trainer calls it."""
    if side == "discriminator":
        arguments: tuple[Any, ...] = (real, fake)
    else:
        arguments = (fake, real.detach() if loss.needs_real else None)
    hint = "" if loss.needs_real or side == "discriminator" else " (set needs_real = True to get real logits)"
    with explaining(f"{what}: {side}(…) fails{hint}"):
        value = getattr(loss, side)(*arguments)
    if not isinstance(value, Tensor):
        raise CheckError(f"{what}: {side}(…) returns a {type(value).__name__}: return a tensor")
    if value.shape not in ((), fake.shape):
        shapes = f"{tuple(value.shape)} for logits of shape {tuple(fake.shape)}"
        raise CheckError(f"{what}: {side}(…) returns {shapes}: return one value for each element, or their mean")
    return value.mean()


def _check_values(what: str, loss: Loss, side: Role, real: Tensor, fake: Tensor) -> None:
    """The value and its gradients are finite, and it does not grow with the number of logits."""
    value = _call_loss(what, loss, side, real, fake)
    if not value.isfinite():
        raise CheckError(
            f"{what}: {side}(…) is {value.item()} at logits of about {real.abs().max().item():.0f}: compute it "
            "stably, as softplus(x) instead of log(1 + exp(x)) or log(sigmoid(x))"
        )
    require(
        value.requires_grad,
        f"{what}: {side}(…) has no graph to its logits: remove detach, item and no_grad",
    )
    logits = {"real": real, "fake": fake} if side == "discriminator" else {"fake": fake}
    gradients = torch.autograd.grad(value, list(logits.values()), allow_unused=True)
    for kind, gradient in zip(logits, gradients, strict=True):
        if gradient is None or not gradient.isfinite().all():
            state = "no" if gradient is None else "no finite"
            raise CheckError(f"{what}: {side}(…) gives {state} gradient to the {kind} logits")
    double = _call_loss(what, loss, side, *(torch.cat([x, x]) for x in (real, fake)))
    require(
        torch.allclose(double, value, rtol=1e-4, atol=1e-6),
        f"{what}: {side}(…) changes with the number of logits: return one value for each element, or their mean, "
        "never a sum",
    )


def _check_directions(what: str, loss: Loss, wrong: Logits, right: Logits) -> None:
    """D's loss falls when it scores real items higher or fake ones lower, and G's when fake items are scored higher."""

    def run(side: Role, real: Tensor, fake: Tensor) -> float:
        return _call_loss(what, loss, side, real, fake).item()

    step = 0.1
    before = run("discriminator", *wrong)
    require(
        run("discriminator", wrong[0] + step, wrong[1]) < before,
        f"{what}: D's loss does not fall when real logits rise: change its sign",
    )
    require(
        run("discriminator", wrong[0], wrong[1] - step) < before,
        f"{what}: D's loss does not fall when fake logits fall: change its sign",
    )
    require(
        run("generator", right[0], right[1] + step) < run("generator", *right),
        f"{what}: G's loss does not fall when fake logits rise: change its sign",
    )


def _check_discriminator_step(what: str, loss: Loss) -> None:
    """`after_discriminator_step` leaves D's weights finite."""
    d = nn.Linear(3, 1)
    with explaining(f"{what}: after_discriminator_step(d) fails"):
        loss.after_discriminator_step(d)
    require(
        all(p.isfinite().all() for p in d.parameters()),
        f"{what}: after_discriminator_step(d) leaves D with weights that are not finite",
    )


def check_penalty(penalty: str | Callable[..., Any], **options: Any) -> None:
    """Check that a penalty keeps the contract: a scalar that reaches D, obeys its weight and draws from `batch.rng`.

    Args:
        penalty: a registered name, or the class itself.
        **options: the options that it is built with.

    Raises:
        CheckError: a check fails; the message says what is wrong and how to fix it.
    """
    with preserve_torch(CPU):
        what, instance = build_component("penalty", penalty, {}, options)
        if not isinstance(instance, Penalty):
            raise CheckError(f"{what} is a {type(instance).__name__}: subclass ganzoo.Penalty")
        torch.manual_seed(0)
        last = nn.Linear(16, 1)
        d = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 16), nn.Tanh(), last, nn.Flatten(0))
        with torch.no_grad():
            last.weight.mul_(20)  # so that the norm of D's gradient is above 1, where a one-sided penalty acts
        real, fake = (torch.rand(ITEMS, 3, 4, 4) * 2 - 1 for _ in range(2))
        value = _check_purity(what, instance, d, real, fake)
        gradients = torch.autograd.grad(value, list(d.parameters()), allow_unused=True) if value.requires_grad else ()
        require(
            any(gradient is not None for gradient in gradients),
            f"{what} has no graph to D's parameters: call torch.autograd.grad with create_graph=True",
        )
        others = {key: value for key, value in options.items() if key != "weight"}
        _, double = build_component("penalty", penalty, {"weight": 2 * instance.weight}, others)
        require(
            torch.allclose(_call_penalty(what, double, d, real, fake), 2 * value, rtol=1e-4),
            f"{what} does not double when its weight does: take `weight` and multiply by self.weight",
        )


def _call_penalty(what: str, penalty: Penalty, d: nn.Module, real: Tensor, fake: Tensor, seed: int = 0) -> Tensor:
    """The value of a penalty, with torch's own generator at `seed`."""
    seed_torch(seed, CPU)
    batch = Batch(real, torch.zeros(ITEMS, 1), 0, Rng(0, 0, "d0"))
    with explaining(f"{what} fails on a D of (N, 3, 4, 4) images"):
        # As the trainer calls it: d is a function, not a module.
        value = penalty(d._call_impl, real, fake, batch=batch)
    if not isinstance(value, Tensor) or value.dim():
        kind = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise CheckError(f"{what} returns {kind}: return a scalar tensor, such as the mean over the batch")
    return value


def _check_purity(what: str, penalty: Penalty, d: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The value depends on the batch alone, and computing it changes neither D nor the items. Returns the value."""
    before = {key: p.detach().clone() for key, p in d.named_parameters()}
    value = _call_penalty(what, penalty, d, real, fake)
    require(
        value.isfinite() and value >= 0,
        f"{what} is {value.item():.3g}: a penalty must be finite and at least 0",
    )
    require(
        torch.equal(value, _call_penalty(what, penalty, d, real, fake, seed=1)),
        f"{what} differs between two calls on one batch: draw only from batch.rng",
    )
    for key, p in d.named_parameters():
        require(torch.equal(p, before[key]), f"{what} changes D's parameters: it may only read them")
        require(p.grad is None, f"{what} leaves gradients in D: use torch.autograd.grad instead of backward()")
    require(
        not (real.requires_grad or fake.requires_grad),
        f"{what} leaves requires_grad on its inputs: work on x.detach().requires_grad_()",
    )
    return value


def build_component(
    kind: str, thing: str | Target, offered: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[str, Any]:
    """The name of a "loss", "penalty" or "tracker" in messages, and an instance of it."""
    if isinstance(thing, str):
        thing, what = getattr(registry(), kind)(thing).target, f"the {kind} {thing!r}"
    else:
        what = f"the {kind} {getattr(thing, '__name__', type(thing).__name__)}"
    with explaining(f"{what} cannot be built"):
        return what, build(thing, offered, options, what)[0]
