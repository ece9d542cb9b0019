"""The checks of an architecture, each of one thing that the contract asks for."""

import contextlib
import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.errors import CheckError, ConfigError
from ganzoo.rng import preserve_torch, seed_torch
from ganzoo.sampling.draw import sample
from ganzoo.store.models import TOLERANCE, load_network, save_pretrained, verify
from ganzoo.store.source import from_pretrained
from ganzoo.testing.processes import check_processes
from ganzoo.testing.report import explaining, require
from ganzoo.testing.subject import CPU, ROLES, SHARED, Subject, configure
from ganzoo.training.loop import frozen, train
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.networks import network
from ganzoo.zoo.plugins import registry


def check_architecture(name: str, *, data: str = "digits", processes: bool = False, **settings: Any) -> None:
    """Check that a registered architecture keeps the contract, also by class if both networks take `num_classes`.

    Args:
        name: the architecture.
        data: what it is checked on, a SPEC as for training.
        processes: also train a step on two processes, which takes seconds. The plugin must be installed.
        **settings: as for `ganzoo.create`. Small ones make it quick: `width=8`, `image_size=32`.

    Raises:
        CheckError: the first thing that is wrong, and what to do.
    """
    with preserve_torch(CPU), tempfile.TemporaryDirectory() as temporary:
        config = configure(name, data, settings, Path(temporary) / "run")
        _check_recipes(name, config)
        first = Subject(config)
        subjects = [first]
        takers = [role for role, module in first.networks.items() if "num_classes" in module.config]
        one = "".join(takers)
        require(len(takers) != 1, f"of {name} the {one} alone takes num_classes: let both networks take it, or none")
        if takers and first.data.labels is not None:
            subjects.append(Subject(config.replace(conditional=True)))
        for subject in subjects:
            folder = Path(temporary) / ("conditional" if subject.config.conditional else "plain")
            folder.mkdir()
            subject.config = subject.config.replace(out=str(folder / "run"))
            _check_build(subject)
            _check_forward(subject)
            _check_range(subject)
            _check_logits_are_raw(subject)
            _check_inputs_matter(subject)
            _check_repeats(subject)
            _check_double_backward(subject)
            _check_gradients(subject)
            _check_layout_and_precision(subject)
            _check_sizes(subject)
            _check_round_trip(subject, folder)
            if processes:
                check_processes(subject, folder)


def _check_recipes(name: str, config: TrainConfig) -> None:
    """Each recipe is a valid configuration whose networks can be built, without their memory as when loaded."""
    shared = {key: getattr(config, key) for key in SHARED if getattr(config, key)}
    for recipe in sorted({"default", *(registry().architecture(name).recipes or {})}):
        with explaining(f"the recipe {recipe!r} of {name} is not valid"):
            made = TrainConfig(name, recipe=recipe)
            json.dumps(made.to_dict(), allow_nan=False)
            with torch.device("meta"):
                for role in ROLES:
                    network(name, role, shared, getattr(made, role))


def _check_build(subject: Subject) -> None:
    """Parameters are contiguous, and one seed gives one set of weights."""
    again = subject.build()
    for (role, module), twin in zip(subject.networks.items(), again, strict=False):
        for key, p in module.named_parameters():
            require(
                p.is_contiguous(),
                f"the {role} of {subject.name}: the parameter {key!r} is not contiguous: add .contiguous()",
            )
        for key, value in module.state_dict().items():
            require(
                torch.equal(value, twin.state_dict()[key]),
                f"the {role} of {subject.name}: {key!r} differs between two builds with one seed: "
                "draw initial weights from torch's own generator alone",
            )


def _check_forward(subject: Subject) -> None:
    """Shapes. `make_networks` has compared the generator's with the data's."""
    items = subject.run("generator", subject.g, subject.latent())
    require(
        len(items) == subject.batch_size,
        f"the generator of {subject.name} makes {len(items)} items of {subject.batch_size} latents",
    )
    real = subject.seen(subject.batch().real)
    shapes = set()
    for x in (real, subject.seen(items), real[:2]):
        logits = subject.run("discriminator", subject.d, x)
        require(
            logits.dim() and len(logits) == len(x) and logits.is_floating_point(),
            f"the discriminator of {subject.name} gives {tuple(logits.shape)} {logits.dtype} for {len(x)} items: "
            "return a logit an item, (N,), or several, (N, …)",
        )
        shapes.add(tuple(logits.shape[1:]))
    require(
        len(shapes) == 1,
        f"the discriminator of {subject.name} gives other shapes of logits, {shapes}, for batches of other sizes: add "
        "(N,) to (N,), never to (N, 1), which makes (N, N)",
    )


def _check_range(subject: Subject) -> None:
    """Images lie in [-1, 1] whatever the weights, and use both halves of it."""
    if not subject.data.is_image:
        return
    lowest = highest = 0.0
    for factor in (1, 10, 100):
        g = _scaled(subject.g, factor)
        made = subject.run("generator", g, factor * z if (z := subject.latent()).is_floating_point() else z)
        made = made[made.isfinite()]
        require(
            factor > 1 or made.numel(),
            f"the generator of {subject.name} makes NaN or infinite pixels with its first weights",
        )
        lowest, highest = min(lowest, made.min().item()), max(highest, made.max().item())
    require(
        max(-lowest, highest) <= 1,
        f"the generator of {subject.name} makes pixels from {lowest:.3g} to {highest:.3g}: images lie in [-1, 1], "
        "so end it in a Tanh",
    )
    require(
        lowest < 0 < highest,
        f"the generator of {subject.name} makes pixels from {lowest:.3g} to {highest:.3g} alone: images lie in "
        "[-1, 1], so end it in a Tanh (or give 2 * sigmoid - 1)",
    )


def _check_logits_are_raw(subject: Subject) -> None:
    """Some weights take some logit out of [0, 1]: a sigmoid's never leave it. Fresh weights give either sign, large
    ones large logits, and where spectral norm undoes the size, there is still the sign."""
    real = subject.seen(subject.batch().real)
    for seed in range(8):
        seed_torch(seed, CPU)
        fresh = network(subject.name, "discriminator", {}, subject.d.config).train()
        for factor in (1, 10, 100):
            logits = subject.run("discriminator", _scaled(fresh, factor), factor * real)
            if (logits < 0).any() or (logits > 1).any():
                return
    raise CheckError(
        f"the discriminator of {subject.name} never leaves [0, 1], whatever its weights: return raw logits, "
        "without a sigmoid; the loss has its own"
    )


def _check_inputs_matter(subject: Subject) -> None:
    """Other inputs give other outputs, and so do other classes."""
    others = subject.latent(1), subject.seen(subject.batch().real).neg()
    for (role, module, x), other in zip(subject.given(), others, strict=True):
        module.eval()
        require(
            not torch.equal(subject.run(role, module, x), subject.run(role, module, other)),
            f"the {role} of {subject.name} gives the same whatever its input: its forward must use it",
        )
        # Off the first weights, which may be alike for all classes, as those of a conditional BatchNorm are.
        moved = copy.deepcopy(module)
        seed_torch(0, CPU)
        with torch.no_grad():
            for p in moved.parameters():
                p.add_(torch.randn_like(p), alpha=0.1)
        require(
            not subject.config.conditional
            or not torch.equal(subject.run(role, moved, x), subject.run(role, moved, x, 1)),
            f"the {role} of {subject.name} gives the same whatever the class: its forward must use labels",
        )
        module.train()


def _check_repeats(subject: Subject) -> None:
    """Two passes in evaluation mode give the same bits, and leave the weights as they are."""
    for role, module, x in subject.given():
        module.eval()
        before = {key: value.clone() for key, value in module.state_dict().items()}
        require(
            torch.equal(subject.run(role, module, x), subject.run(role, module, x)),
            f"the {role} of {subject.name} in evaluation mode gives other values at the second call: keep no "
            "state, and draw from torch's own generator alone",
        )
        for key, value in module.state_dict().items():
            require(
                torch.equal(value, before[key]),
                f"the {role} of {subject.name} changes {key!r} in evaluation mode: do so in training",
            )
        module.train()


def _check_gradients(subject: Subject) -> None:
    """Both phases of the architecture's own objective reach every parameter that asks for a gradient."""
    d_parameters = [p for p in subject.d.parameters() if p.requires_grad]
    extra = subject.objective if isinstance(subject.objective, nn.Module) else nn.Module()
    phases: list[tuple[str, Callable[..., Any], dict[str, nn.Module]]] = [
        ("d0", subject.objective.discriminator_loss, {"discriminator": subject.d}),
        ("g", subject.objective.generator_loss, {"generator": subject.g, "objective": extra}),
    ]
    for phase, minimised, trained in phases:
        seed_torch(0, CPU)
        method = minimised.__name__
        with (
            frozen(d_parameters) if phase == "g" else contextlib.nullcontext(),
            explaining(f"{method} of {subject.name} fails"),
        ):
            value, logs = minimised(subject.g, subject.d, subject.batch(phase))
            value.backward()
        for what, logged in {method: value, **logs}.items():
            if not isinstance(logged, Tensor) or logged.dim() or not logged.isfinite():
                raise CheckError(f"{method} of {subject.name}: {what} is {logged!r}, not a finite scalar tensor")
        for role, module in trained.items():
            for key, p in module.named_parameters():
                require(
                    p.grad is not None or not p.requires_grad,
                    f"the {role} of {subject.name}: the parameter {key!r} gets no gradient: use it in forward, or "
                    "leave it out",
                )
                require(
                    p.grad is None or p.grad.isfinite().all(),
                    f"the {role} of {subject.name}: the gradient of {key!r} is not finite",
                )
    for module in (subject.g, subject.d, extra):
        module.zero_grad()


def _check_double_backward(subject: Subject) -> None:
    """Where a recipe has penalties: the gradient of D's gradient."""
    recipes = {"default", *(registry().architecture(subject.name).recipes or {})}
    if not any(TrainConfig(subject.name, recipe=recipe).penalties for recipe in recipes):
        return
    x = subject.seen(subject.batch().real).requires_grad_()
    seed_torch(0, CPU)
    with explaining(f"the discriminator of {subject.name} has no second derivatives, which its recipe's penalty needs"):
        (slope,) = torch.autograd.grad(subject.d(*subject.inputs(subject.d, x)).sum(), x, create_graph=True)
        torch.autograd.backward(slope.square().sum())
    subject.d.zero_grad()


def _check_layout_and_precision(subject: Subject) -> None:
    """What the trainer does to networks: channels_last for images, bf16 autocast where a person asks for it."""
    for role, module, x in subject.given():
        module.eval()
        plain = subject.run(role, module, x)
        scale = plain.square().mean().sqrt().item()
        last = copy.deepcopy(module).to(memory_format=torch.channels_last)
        laid = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        made = subject.run(role, last, laid)
        require(
            (made - plain).square().mean().sqrt() <= 1e-3 * scale + 1e-5,
            f"the {role} of {subject.name} gives other values in channels_last: use reshape instead of view",
        )
        with torch.autocast("cpu", torch.bfloat16):
            made = subject.run(role, module, x).float()
        module.train()
        require(
            (made - plain).square().mean().sqrt() <= 0.2 * scale + 1e-2,
            f"the {role} of {subject.name} under bf16 autocast is not near what it gives in fp32: compute sums, "
            "powers and exponentials of large numbers in float32",
        )


def _check_sizes(subject: Subject) -> None:
    """Networks that take `image_size` and `channels` obey them, or refuse by a ConfigError."""
    if not subject.data.is_image:
        return
    _, channels, size, _ = subject.data.items.shape
    for change in ({"image_size": 2 * size}, {"channels": 4 - channels if channels in (1, 3) else 1}):
        if not change.keys() <= subject.g.config.keys() & subject.d.config.keys():
            continue
        wanted = {"image_size": size, "channels": channels, **change}
        try:
            g, d = (
                network(subject.name, role, wanted, {k: v for k, v in module.config.items() if k not in SHARED})
                for role, module in subject.networks.items()
            )
        except ConfigError:
            continue  # its right; the message is the author's
        made = subject.run("generator", g, subject.latent())
        shape = (wanted["channels"], wanted["image_size"], wanted["image_size"])
        require(
            tuple(made.shape[1:]) == shape,
            f"the generator of {subject.name} makes {tuple(made.shape[1:])} when asked for {shape}: obey "
            "image_size and channels, or raise ganzoo.ConfigError for what you cannot serve",
        )
        with explaining(f"the discriminator of {subject.name} asked for {change} fails on {tuple(made.shape)}"):
            d(*subject.inputs(d, made))


def _check_round_trip(subject: Subject, folder: Path) -> None:
    """Two real steps of training, then the published files give the same generator back."""
    with explaining(f"{subject.name} does not train"):
        run = train(subject.config)
    with explaining(f"the generator of {subject.name} cannot be saved and loaded"):
        saved = save_pretrained(run, folder / "model", discriminator=True)
        loaded = from_pretrained(str(saved))
    with explaining(f"the discriminator of {subject.name} cannot be saved and loaded"):
        d = load_network(saved, "discriminator")
    x = subject.seen(subject.batch().real)
    was, now = (subject.run("discriminator", module, x) for module in (run.discriminator.eval(), d))
    pairs = ("generator", sample(run.generator, 4), sample(loaded, 4)), ("discriminator", was, now)
    for role, before, after in pairs:
        require(
            (before - after).abs().max() <= TOLERANCE * max(1.0, before.abs().max().item()),
            f"the {role} of {subject.name} gives other values after it was saved and loaded: keep all that its "
            "forward pass needs in settings, parameters and registered buffers",
        )
    with explaining(f"the published files of {subject.name} fail `ganzoo verify`"):
        verify(saved)


def _scaled(module: nn.Module, factor: float) -> nn.Module:
    """A copy with every weight matrix and kernel `factor` times as large."""
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for p in twin.parameters():
            if p.dim() > 1:
                p.mul_(factor)
    return twin
