"""The checks of an architecture, one for each requirement of the plugin contract."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganzoo.errors import CheckError, ConfigError
from ganzoo.rng import preserve_torch, seed_torch
from ganzoo.sampling.options import takes_inputs
from ganzoo.testing.learning import check_double_backward, check_gradients, check_round_trip
from ganzoo.testing.processes import check_processes
from ganzoo.testing.report import explaining, require
from ganzoo.testing.subject import CPU, ROLES, SHARED, Subject, configure
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.networks import network
from ganzoo.zoo.plugins import registry


def check_architecture(
    name: str, *, data: str | None = None, inputs: str | None = None, processes: bool = False, **settings: Any
) -> None:
    """Check that a registered architecture keeps the plugin contract.

    If both networks take `num_classes`, it is also checked with classes.

    Args:
        name: the architecture.
        data: the data spec, as for training; None: that of the default recipe, or "digits".
        inputs: the spec of the inputs, as for training, for an architecture that translates.
        processes: also train one step on two processes, which takes some seconds. The plugin must be installed.
        **settings: settings as for `ganzoo.create`. Small networks make the checks fast: `width=8`, `image_size=32`.

    Raises:
        CheckError: a check fails; the message says what is wrong and how to fix it.
    """
    with preserve_torch(CPU), tempfile.TemporaryDirectory() as temporary:
        config = configure(name, data, inputs, settings, Path(temporary) / "run")
        _check_recipes(name, config)
        first = Subject(config)
        subjects = [first]
        roles = [role for role, module in first.networks.items() if "num_classes" in module.config]
        only = "".join(roles)
        require(len(roles) != 1, f"only the {only} of {name} takes num_classes: let both networks take it, or neither")
        if roles and first.data.labels is not None:
            subjects.append(Subject(config.replace(conditional=True)))
        for subject in subjects:
            folder = Path(temporary) / ("conditional" if subject.config.conditional else "plain")
            folder.mkdir()
            subject.config = subject.config.replace(out=str(folder / "run"))
            _check_build(subject)
            _check_forward(subject)
            _check_range(subject)
            _check_independence(subject)
            _check_logits_are_raw(subject)
            _check_inputs_matter(subject)
            _check_repeats(subject)
            check_double_backward(subject)
            check_gradients(subject)
            _check_layout_and_precision(subject)
            _check_sizes(subject)
            check_round_trip(subject, folder)
            if processes:
                check_processes(subject, folder)


def _check_recipes(name: str, config: TrainConfig) -> None:
    """Each recipe is a valid configuration, and its networks can be built on the meta device, as loading does."""
    shared = {key: value for key in SHARED if (value := getattr(config, key, None))}
    for recipe in sorted({"default", *(registry().architecture(name).recipes or {})}):
        with explaining(f"the recipe {recipe!r} of {name} is not valid"):
            settings = TrainConfig(name, recipe=recipe)
            json.dumps(settings.to_dict(), allow_nan=False)
            with torch.device("meta"):
                for role in ROLES:
                    network(name, role, shared, getattr(settings, role))


def _check_build(subject: Subject) -> None:
    """Parameters are contiguous, and the same seed gives the same weights."""
    for (role, module), other in zip(subject.networks.items(), subject.build(), strict=False):
        for key, p in module.named_parameters():
            require(
                p.is_contiguous(),
                f"the {role} of {subject.name}: the parameter {key!r} is not contiguous: add .contiguous()",
            )
        for key, value in module.state_dict().items():
            require(
                torch.equal(value, other.state_dict()[key]),
                f"the {role} of {subject.name}: {key!r} differs between two builds with one seed: "
                "draw initial weights only from torch's own generator",
            )


def _check_forward(subject: Subject) -> None:
    """Shapes. Those of the generator's items were compared with the data's when the networks were built."""
    items = subject.run("generator", subject.g, subject.latent())
    require(
        len(items) == subject.batch_size,
        f"the generator of {subject.name} makes {len(items)} items from {subject.batch_size} latents: return one for "
        "each",
    )
    real = subject.packed(subject.batch().real)
    shapes = set()
    for x in (real, subject.packed(items), real[:2]):
        logits = subject.run("discriminator", subject.d, x)
        require(
            logits.dim() and len(logits) == len(x) and logits.is_floating_point(),
            f"the discriminator of {subject.name} returns {tuple(logits.shape)} {logits.dtype} for {len(x)} items: "
            "return one logit for each item, (N,), or several, (N, …)",
        )
        shapes.add(tuple(logits.shape[1:]))
    require(
        len(shapes) == 1,
        f"the discriminator of {subject.name} returns logits of different shapes, {shapes}, for batches of different "
        "sizes: add (N,) to (N,), never to (N, 1), which makes (N, N)",
    )


def _check_range(subject: Subject) -> None:
    """Images and sounds lie in [-1, 1] for any weights, unless the generator says otherwise, and have values of both
    signs."""
    if not (subject.data.is_image or subject.data.is_sound):
        return
    what, kind = ("pixels", "images") if subject.data.is_image else ("samples", "sounds")
    unbounded: object = getattr(subject.g, "unbounded", False)
    require(
        isinstance(unbounded, bool), f"the generator of {subject.name} has unbounded={unbounded!r}: say True or False"
    )
    lowest = highest = 0.0
    for factor in (1, 10, 100):
        g = _scaled(subject.g, factor)
        fake = subject.run("generator", g, factor * z if (z := subject.latent()).is_floating_point() else z)
        values = fake[fake.isfinite()]
        require(
            factor > 1 or values.numel(),
            f"the generator of {subject.name} makes NaN or infinite {what} with its initial weights: check its layers",
        )
        lowest, highest = min(lowest, values.min().item()), max(highest, values.max().item())
    require(
        unbounded or max(-lowest, highest) <= 1,
        f"the generator of {subject.name} makes {what} from {lowest:.3g} to {highest:.3g}: {kind} lie in [-1, 1], "
        f"so end it with a Tanh, or set `unbounded = True` in its class, for {what} to be cut off",
    )
    require(
        lowest < 0 < highest,
        f"the generator of {subject.name} makes only {what} from {lowest:.3g} to {highest:.3g}: {kind} lie in "
        "[-1, 1], so end it with a Tanh (or return 2 * sigmoid - 1)",
    )


def _check_independence(subject: Subject) -> None:
    """A discriminator that says so judges each item as it would among others, but for BatchNorm."""
    d = copy.deepcopy(subject.d)
    if not getattr(d, "independent", False):
        return
    for module in d.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm):
            module.eval()
    x = subject.packed(subject.batch().real)
    logits = subject.run("discriminator", d, x)
    third = len(x) // 3
    rest = subject.inputs()[third:] if takes_inputs(d) else None
    parts = [subject.run("discriminator", d, x[:third]), subject.run("discriminator", d, x[third:], third, rest)]
    require(
        torch.allclose(logits, torch.cat(parts), rtol=1e-3, atol=1e-4),
        f"the discriminator of {subject.name} says independent = True, and its logits depend on the other items of the "
        "batch: take that out",
    )


def _check_logits_are_raw(subject: Subject) -> None:
    """For some weights, some logit lies outside [0, 1], which no output of a sigmoid does.

    Random weights give logits of either sign, and large weights give large ones, unless spectral norm undoes the scale.
    """
    real = subject.packed(subject.batch().real)
    for seed in range(8):
        seed_torch(seed, CPU)
        d = network(subject.name, "discriminator", {}, subject.d.config).train()
        for factor in (1, 10, 100):
            logits = subject.run("discriminator", _scaled(d, factor), factor * real)
            if (logits < 0).any() or (logits > 1).any():
                return
    raise CheckError(
        f"the outputs of the discriminator of {subject.name} never leave [0, 1], whatever its weights: return raw "
        "logits, without a sigmoid; the loss applies it"
    )


def _check_inputs_matter(subject: Subject) -> None:
    """Different inputs give different outputs, and so do different classes."""
    others = subject.latent(1), subject.packed(subject.batch().real).neg()
    for (role, module, x), other in zip(subject.networks_with_inputs(), others, strict=True):
        module.eval()
        translates = takes_inputs(module)
        require(
            (translates and role == "generator")  # which may be a function of its inputs alone
            or not torch.equal(subject.run(role, module, x), subject.run(role, module, other)),
            f"the {role} of {subject.name} returns the same whatever its input: its forward must use it",
        )
        require(
            not translates
            or not torch.equal(subject.run(role, module, x), subject.run(role, module, x, inputs=-subject.inputs())),
            f"the {role} of {subject.name} returns the same whatever its inputs: its forward must use `inputs`",
        )
        # With other weights, because the initial ones of a conditional BatchNorm are the same for all classes.
        perturbed = copy.deepcopy(module)
        seed_torch(0, CPU)
        with torch.no_grad():
            for p in perturbed.parameters():
                p.add_(torch.randn_like(p), alpha=0.1)
        require(
            not subject.config.conditional
            or not torch.equal(subject.run(role, perturbed, x), subject.run(role, perturbed, x, 1)),
            f"the {role} of {subject.name} returns the same whatever the class: its forward must use labels",
        )
        module.train()


def _check_repeats(subject: Subject) -> None:
    """Two passes in evaluation mode give the same bits and do not change the weights."""
    for role, module, x in subject.networks_with_inputs():
        module.eval()
        before = {key: value.clone() for key, value in module.state_dict().items()}
        require(
            torch.equal(subject.run(role, module, x), subject.run(role, module, x)),
            f"the {role} of {subject.name} in evaluation mode returns other values at the second call: keep no "
            "state, and draw only from torch's own generator",
        )
        for key, value in module.state_dict().items():
            require(
                torch.equal(value, before[key]),
                f"the {role} of {subject.name} changes {key!r} in evaluation mode: change it only in training mode",
            )
        module.train()


def _check_layout_and_precision(subject: Subject) -> None:
    """Networks work in channels_last, which the trainer uses for images, and under bf16 autocast, which it offers."""
    for role, module, x in subject.networks_with_inputs():
        module.eval()
        expected = subject.run(role, module, x)
        scale = expected.square().mean().sqrt().item()
        last = copy.deepcopy(module).to(memory_format=torch.channels_last)
        output = subject.run(role, last, x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x)
        require(
            (output - expected).square().mean().sqrt() <= 1e-3 * scale + 1e-5,
            f"the {role} of {subject.name} returns other values in channels_last: use reshape instead of view",
        )
        with torch.autocast("cpu", torch.bfloat16):
            output = subject.run(role, module, x).float()
        module.train()
        require(
            (output - expected).square().mean().sqrt() <= 0.2 * scale + 1e-2,
            f"the output of the {role} of {subject.name} under bf16 autocast is far from that in fp32: compute sums, "
            "powers and exponentials of large numbers in float32",
        )


def _check_sizes(subject: Subject) -> None:
    """Networks that take `image_size`, or for sounds `length`, and `channels` obey them, or raise a ConfigError."""
    if not (subject.data.is_image or subject.data.is_sound):
        return
    _, channels, *sides = subject.data.items.shape
    side, factor = ("image_size", 2) if subject.data.is_image else ("length", 4)
    for change in ({side: factor * sides[0]}, {"channels": 4 - channels if channels in (1, 3) else 1}):
        if not change.keys() <= subject.g.config.keys() & subject.d.config.keys():
            continue
        shared = {side: sides[0], "channels": channels, **change}
        inputs = subject.inputs() if takes_inputs(subject.g) else None
        if inputs is not None and inputs.dim() == 4:
            times = shared[side] // sides[0]
            inputs = inputs.repeat_interleave(times, 2).repeat_interleave(times, 3)
            shared |= {"input_channels": inputs.shape[1], "input_size": inputs.shape[2]}
        try:
            g, d = (
                network(subject.name, role, shared, {k: v for k, v in module.config.items() if k not in shared})
                for role, module in subject.networks.items()
            )
        except ConfigError:
            continue  # a network may refuse a size
        fake = subject.run("generator", g, subject.latent(), inputs=inputs)
        shape = (shared["channels"], *[shared[side]] * len(sides))
        require(
            tuple(fake.shape[1:]) == shape,
            f"the generator of {subject.name} makes {tuple(fake.shape[1:])} with settings for {shape}: obey "
            f"{side} and channels, or raise ganzoo.ConfigError for values that it does not support",
        )
        with explaining(f"the discriminator of {subject.name} with {change} fails on {tuple(fake.shape)}"):
            subject.call(d, fake, inputs=inputs)


def _scaled(module: nn.Module, factor: float) -> nn.Module:
    """A copy with every weight matrix and kernel multiplied by `factor`."""
    scaled = copy.deepcopy(module)
    with torch.no_grad():
        for p in scaled.parameters():
            if p.dim() > 1:
                p.mul_(factor)
    return scaled
