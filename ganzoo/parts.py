"""What a configuration is made into: data, device, precision, networks, objective and optimizers."""

import copy
import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo import hub
from ganzoo.augment import check as check_augment
from ganzoo.checkpoint import open_run
from ganzoo.config import TrainConfig
from ganzoo.data import Data, load
from ganzoo.errors import ConfigError
from ganzoo.loss import Loss, Objective
from ganzoo.plugins import registry
from ganzoo.registry import build
from ganzoo.rng import Rng
from ganzoo.sampling import draw_latent, generate
from ganzoo.weights import CONFIG, DISCRIMINATOR, MODEL, load_network, read_config
from ganzoo.zoo import network

logger = logging.getLogger("ganzoo")


def load_data(config: TrainConfig) -> Data:
    """The data to train on.

    Raises:
        DataError, ConfigError, UnknownNameError: as `ganzoo.data.load`.
    """
    return load(
        config.data,
        config.data_dir,
        image_size=config.image_size,
        channels=config.channels,
        options=config.data_options,
    )


def start_from(config: TrainConfig) -> tuple[TrainConfig, list[dict[str, Tensor] | None]]:
    """The configuration with the settings of the weights that it starts from, and both networks' weights.

    The discriminator's are None where it was not published: it then starts from random ones.

    Raises:
        ConfigError: weights of another architecture, or settings that contradict theirs.
        HubError, WeightsError, UnknownNameError: the weights cannot be had.
    """
    folder = hub.find(str(config.start), (CONFIG, MODEL, DISCRIMINATOR))
    states: list[dict[str, Tensor] | None] = []
    if hub.is_model(folder):
        model = read_config(folder)
        found: dict[str, Any] = vars(model)
        states.append(load_network(folder, "generator").state_dict())
        there = DISCRIMINATOR in model.files
        states.append(load_network(folder, "discriminator").state_dict() if there else None)
    else:
        _, checkpoint = open_run(folder)
        found = checkpoint.state["model"]
        states += [checkpoint.part("ema"), checkpoint.part("discriminator")]
    if states[1] is None:
        logger.warning("%s was published without its discriminator, which starts from random weights", config.start)
    if found["architecture"] != config.architecture:
        raise ConfigError(f"{config.start} is a {found['architecture']}, not a {config.architecture}")
    settings: dict[str, Any] = {}
    base = TrainConfig(config.architecture, recipe=config.recipe)
    for role in ("generator", "discriminator"):
        given, own = getattr(config, role), getattr(base, role)
        # A recipe's own setting gives way to the weights'.
        asked = {key: value for key, value in given.items() if key not in own or own[key] != value}
        for key, value in asked.items():
            if role == "generator" and found[role].get(key) != value:
                raise ConfigError(
                    f"{config.start} has {role}.{key}={found[role].get(key)!r}, not {value!r}: leave it out"
                )
        settings[role] = {**found[role], **asked}
    if found["generator"].get("num_classes") is not None:
        settings["conditional"] = True
    for key in ("image_size", "channels"):
        settings[key] = getattr(config, key) or found["generator"].get(key)
    return config.replace(**settings), states


def make_networks(config: TrainConfig, data: Data) -> tuple[nn.Module, nn.Module, Loss, Any]:
    """Both networks, sized by the data, the adversarial loss, and the objective that trains with it.

    Raises:
        ConfigError: settings the networks refuse, or a generator whose items differ from the data's in shape.
    """
    zoo = registry()
    architecture = zoo.architecture(config.architecture)
    shared: dict[str, Any] = {}
    if data.is_image:
        _, channels, height, width = data.items.shape
        if height != width:
            raise ConfigError(f"the data's images are {height}x{width}: choose a square with --image-size")
        shared = {"image_size": height, "channels": channels}
    classes = _classes(config, data)
    if classes is not None:
        shared["num_classes"] = classes
    g = network(config.architecture, "generator", shared, config.generator)
    packed = {**shared, "channels": shared["channels"] * config.pack} if data.is_image else shared
    d = network(config.architecture, "discriminator", packed, config.discriminator)
    if config.pack > 1 and d.config.get("channels") != packed.get("channels", 0):
        raise ConfigError("packing needs images, and a discriminator that takes channels: leave --pack out")
    for role, module in (("generator", g), ("discriminator", d)):
        if (found := module.config.get("num_classes")) == classes:
            continue
        told = f"the {role} of {config.architecture}"
        if classes is None:
            raise ConfigError(f"{told} has num_classes={found}: to generate by class, say --conditional")
        if "num_classes" not in module.config:
            raise ConfigError(f"{told} cannot be class-conditional (it takes no num_classes): leave --conditional out")
        raise ConfigError(f"{told} has num_classes={found}, the data {classes} classes: leave num_classes out")
    if config.augment and not data.is_image:
        raise ConfigError("augment changes images, and this data has none")
    check_augment(config.augment)
    penalties = []
    for spec in config.penalty_specs:
        offered = {} if spec.weight is None else {"weight": spec.weight}
        penalty, _ = build(zoo.penalty(spec.name).target, {}, offered, f"the penalty {spec.name}")
        penalty.name, penalty.every = spec.name, spec.every
        penalties.append(penalty)
    loss, _ = build(
        zoo.loss(config.loss).target, {"penalized": bool(penalties)}, config.loss_options, f"the loss {config.loss}"
    )
    parts = {"loss": loss, "penalties": penalties, "pack": config.pack, "augment": config.augment}
    what = f"the objective of {config.architecture}"
    objective, taken = build(architecture.objective or Objective, parts, config.objective_options, what)
    for name, wanted in (("penalties", penalties), ("pack", config.pack > 1), ("augment", config.augment)):
        if wanted and name not in taken:
            raise ConfigError(f"{what} takes no {name}: leave it out")
    with torch.no_grad():
        made = tuple(generate(copy.deepcopy(g).eval(), draw_latent(g, 1, Rng(config.seed, 0, "shape"))).shape[1:])
    if made != tuple(data.items.shape[1:]):
        given = tuple(data.items.shape[1:])
        raise ConfigError(f"the generator of {config.architecture} makes items of shape {made}, the data has {given}")
    return g, d, loss, objective


def _classes(config: TrainConfig, data: Data) -> int | None:
    """How many classes the networks are conditioned on; None: they are not."""
    if not config.conditional:
        return None
    if data.labels is None:
        raise ConfigError(
            f"the data {config.data!r} has no labels to generate by: leave --conditional out, or sort the images "
            "into a folder for each class"
        )
    if data.labels.min() < 0:
        raise ConfigError(f"some items of {config.data!r} have no class (a label below 0): leave --conditional out")
    if config.pack > 1:
        raise ConfigError("a pack would hold items of several classes: leave --pack or --conditional out")
    return int(data.labels.max()) + 1


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: no such device on this machine.
    """
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in usable.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device must be auto, cpu, cuda, cuda:N or mps, not {name!r}") from error
    if not usable.get(device.type, False):
        there = ", ".join(kind for kind, usable_here in usable.items() if usable_here)
        raise ConfigError(f"--device {name} is not usable on this machine, which has: {there}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device


def choose_precision(config: TrainConfig, device: torch.device) -> str:
    """ "auto" as what the recipe names where the hardware computes it natively, else fp32."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if config.auto_precision == "bf16" and native else "fp32"


def make_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The configured optimizer, fused where torch has that."""
    beta1, beta2 = config.betas
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr, (beta1, beta2), config.eps, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, momentum=beta1, fused=True)
    return torch.optim.RMSprop(parameters, lr, eps=config.eps, foreach=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors, "parameter number.name"."""
    state = optimizer.state_dict()["state"]
    return {
        f"{i}.{key}": torch.as_tensor(value)
        for i, entries in state.items()
        for key, value in entries.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        i, _, key = name.partition(".")
        p = parameters[int(i)]
        # Fused kernels walk memory in order: moments must lie as their parameter does (channels_last).
        same = value.dim() > 0 and value.shape == p.shape
        state.setdefault(int(i), {})[key] = torch.empty_like(p).copy_(value) if same else value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
