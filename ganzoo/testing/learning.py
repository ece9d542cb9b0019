"""The checks of an architecture that train it: gradients, second derivatives, and what is saved after training."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.errors import CheckError
from ganzoo.rng import seed_torch
from ganzoo.sampling.draw import sample
from ganzoo.sampling.options import takes_inputs
from ganzoo.store.models import TOLERANCE, load_network, verify
from ganzoo.store.save import save_pretrained
from ganzoo.store.source import from_pretrained
from ganzoo.testing.report import explaining, require
from ganzoo.testing.subject import CPU, Subject
from ganzoo.training.loop import frozen, train
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.plugins import registry


def check_gradients(subject: Subject) -> None:
    """Both phases of the architecture's objective give every parameter that requires one a gradient."""
    d_parameters = [p for p in subject.d.parameters() if p.requires_grad]
    extra = subject.objective if isinstance(subject.objective, nn.Module) else nn.Module()
    phases: list[tuple[str, Callable[..., Any], dict[str, nn.Module]]] = [
        ("d0", subject.objective.discriminator_loss, {"discriminator": subject.d}),
        ("g", subject.objective.generator_loss, {"generator": subject.g, "objective": extra}),
    ]
    for phase, loss_function, modules in phases:
        seed_torch(0, CPU)
        method = loss_function.__name__
        with (
            frozen(d_parameters) if phase == "g" else contextlib.nullcontext(),
            explaining(f"{method} of {subject.name} fails"),
        ):
            value, logs = loss_function(subject.g, subject.d, subject.batch(phase))
            value.backward()
        for what, scalar in {method: value, **logs}.items():
            if not isinstance(scalar, Tensor) or scalar.dim() or not scalar.isfinite():
                raise CheckError(f"{method} of {subject.name}: {what} is {scalar!r}, not a finite scalar tensor")
        for role, module in modules.items():
            for key, p in module.named_parameters():
                require(
                    p.grad is not None or not p.requires_grad,
                    f"the {role} of {subject.name}: the parameter {key!r} gets no gradient: use it in forward, or "
                    "remove it",
                )
                require(
                    p.grad is None or p.grad.isfinite().all(),
                    f"the {role} of {subject.name}: the gradient of {key!r} is not finite",
                )
    for module in (subject.g, subject.d, extra):
        module.zero_grad()


def check_double_backward(subject: Subject) -> None:
    """If a recipe has penalties, D's gradient can be differentiated."""
    recipes = {"default", *(registry().architecture(subject.name).recipes or {})}
    if not any(TrainConfig(subject.name, recipe=recipe).penalties for recipe in recipes):
        return
    x = subject.packed(subject.batch().real).requires_grad_()
    seed_torch(0, CPU)
    with explaining(f"the discriminator of {subject.name} has no second derivatives, which its recipe's penalty needs"):
        logits = subject.call(subject.d, x)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        torch.autograd.backward(gradient.square().sum())
    subject.d.zero_grad()


def check_round_trip(subject: Subject, folder: Path) -> None:
    """After two steps of training, saving and loading gives the same networks."""
    with explaining(f"{subject.name} does not train"):
        run = train(subject.config)
    with explaining(f"the generator of {subject.name} cannot be saved and loaded"):
        saved = save_pretrained(run, folder / "model", discriminator=True)
        loaded = from_pretrained(str(saved))
    with explaining(f"the discriminator of {subject.name} cannot be saved and loaded"):
        d = load_network(saved, "discriminator")
    x = subject.packed(subject.batch().real)
    trained, restored = (subject.run("discriminator", module, x) for module in (run.discriminator.eval(), d))
    inputs = subject.inputs()[:4] if takes_inputs(loaded) else None
    before, after = (sample(g, 4, inputs=inputs) for g in (run.generator, loaded))
    pairs = ("generator", before, after), ("discriminator", trained, restored)
    for role, before, after in pairs:
        require(
            (before - after).abs().max() <= TOLERANCE * max(1.0, before.abs().max().item()),
            f"the {role} of {subject.name} returns other values after it was saved and loaded: keep everything that "
            "its forward pass needs in settings, parameters and registered buffers",
        )
    with explaining(f"the published files of {subject.name} fail `ganzoo verify`"):
        verify(saved)
