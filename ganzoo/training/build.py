"""Building the data, the networks and their objective from a configuration."""

import contextlib
import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ganzoo.data.dataset import Batches, Data
from ganzoo.data.loading import ADD_INPUTS, load
from ganzoo.errors import ConfigError, GanzooError
from ganzoo.rng import Rng, preserve_torch
from ganzoo.sampling.classes import name_classes
from ganzoo.sampling.draw import class_count, draw_latent, generate
from ganzoo.sampling.options import takes_inputs
from ganzoo.sampling.sound import set_rate
from ganzoo.sampling.values import from_uint8
from ganzoo.training.augment import ADA, Augmentation
from ganzoo.training.objective import Batch, Loss, Objective, Penalty
from ganzoo.zoo.config import AUTO, TrainConfig
from ganzoo.zoo.networks import REFUSALS, build, network, resolve
from ganzoo.zoo.plugins import registry

FEW = 5000
"""Images below which the default is augmentation: D remembers so few within the steps of a recipe."""
FIXED = 0.2
"""The probability of ADA's operations under losses by which it cannot be steered."""


@dataclass(frozen=True)
class Players:
    """Both networks, with random weights and on the CPU, and their objective.

    Attributes:
        g: the generator, with the names of its classes and the rate of its sounds if the data has them.
        d: the discriminator.
        loss: the adversarial loss.
        penalties: the penalties of D.
        augmentation: the augmentation of D's inputs.
        objective: the objective that the trainer minimises, built from the other parts.
    """

    g: nn.Module
    d: nn.Module
    loss: Loss
    penalties: list[Penalty]
    augmentation: Augmentation
    objective: Any


def load_data(config: TrainConfig) -> Data:
    """The data to train on.

    Raises:
        ConfigError: there are sounds, and an image_size or another number of channels.
        DataError, ConfigError, UnknownNameError: as `ganzoo.data.load`.
    """
    data = load(
        config.data,
        config.data_dir,
        image_size=config.image_size,
        channels=config.channels,
        inputs=config.inputs,
        options=config.data_options,
    )
    if data.is_sound and (config.image_size is not None or config.channels not in (None, data.items.shape[1])):
        own = f"no image_size, and {data.items.shape[1]} as channels"
        raise ConfigError(f"the data {config.data!r} holds sounds, which have {own}: leave both out")
    return data


def build_players(config: TrainConfig, data: Data) -> Players:
    """Both networks, sized by the data, and the objective that trains them.

    Raises:
        ConfigError: settings that the networks or the objective refuse, networks that the objective refuses, or a
            generator whose items differ from the data's in shape.
    """
    config = choose_augmentation(config, data)
    g, d = _build_networks(config, data)
    penalties = [_build_penalty(spec.name, spec.weight, spec.every) for spec in config.penalty_specs]
    target = registry().loss(config.loss).target
    loss, _ = build(target, {"penalized": bool(penalties)}, config.loss_options, f"the loss {config.loss}")
    augmentation = _build_augmentation(config, data, loss)
    objective = _build_objective(config, loss, penalties, augmentation)
    getattr(objective, "check_networks", lambda g, d: None)(g, d)  # a class of its own may have none
    _try_one(config, data, copy.deepcopy(g), d)
    name_classes(g, None if class_count(g) is None or data.classes is None else data.classes[: class_count(g)])
    set_rate(g, data.rate)
    if config.batch_size // config.accumulate == config.pack:
        _try_single(config, data, *copy.deepcopy((g, d, objective)))
    return Players(g, d, loss, penalties, augmentation, objective)


@torch.no_grad()
def _try_one(config: TrainConfig, data: Data, g: nn.Module, d: nn.Module) -> None:
    """Generate one item and judge one, in evaluation mode. D does not judge if it has a `prepare`.

    Raises:
        ConfigError: a network cannot do it, or the generator's item differs from the data's in shape.
    """
    given = from_uint8(data.inputs[:1]) if takes_inputs(g) and data.inputs is not None else None
    rng = Rng(config.seed, 0, "shape")
    z = draw_latent(g, 1, rng)
    advice = ": choose other settings, as by --set {}.NAME=VALUE"
    failure = f"the generator of {config.architecture} cannot compute an item with the settings {g.config}"
    with _trying(failure, advice.format("generator")):
        item = generate(g.eval(), z, inputs=given)
    shape = tuple(item.shape[1:])
    if shape != tuple(data.items.shape[1:]):
        size, setting = ("length", "data.length") if data.is_sound else ("image_size", "image_size and channels")
        fit = f"set {setting}" if size in g.config else f"it takes no {size}, so take another architecture"  # type: ignore[operator]
        raise ConfigError(
            f"the generator of {config.architecture} makes items of shape {shape}, the data has "
            f"{tuple(data.items.shape[1:])}: {fit}, or take other data"
        )
    if hasattr(d, "prepare"):  # it would load, or even fetch, what only a training needs
        return
    known = torch.zeros(1, dtype=torch.int64) if config.conditional else None
    judge = Batch(item, z, 0, rng, fake_labels=known, inputs=given).judge(d.eval())
    failure = f"the discriminator of {config.architecture} cannot judge items of shape {shape} with {d.config}"
    with _trying(failure, advice.format("discriminator")):
        judge(item.repeat(1, config.pack, *[1] * (len(shape) - 1)))
    d.train()


@contextlib.contextmanager
def _trying(failure: str, advice: str = "") -> Iterator[None]:
    """Whatever code raises in the block that does not expect its arguments becomes a ConfigError."""
    try:
        yield
    except REFUSALS as error:
        if isinstance(error, GanzooError):
            raise
        raise ConfigError(f"{failure}: {error}{advice}") from error


def _try_single(config: TrainConfig, data: Data, g: nn.Module, d: nn.Module, objective: Any) -> None:
    """Compute the losses of parts of a batch from which D gets one input. BatchNorm refuses a single number of each
    channel, which has no variance.

    Raises:
        ConfigError: the networks cannot be trained on so few items.
    """
    cpu = torch.device("cpu")
    real, labels, inputs = Batches(data, config.batch_size, config.seed, cpu).get(0, 0, config.accumulate)
    rng = Rng(config.seed, 0, "single")
    z, known = draw_latent(g, len(real), rng), labels if config.conditional else None
    batch = Batch(real, z, 0, rng, labels=labels, fake_labels=known, inputs=inputs)
    parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
    fewer = "".join(f", or a smaller --{name}" for name in ("accumulate", "pack") if getattr(config, name) > 1)
    failure = f"{config.architecture} cannot be trained on batches of {config.batch_size}{parts}"
    with _trying(failure, f": give a larger --batch-size{fewer}"), preserve_torch(cpu):
        objective.discriminator_loss(g, d, batch)
        objective.generator_loss(g, d, batch)


def choose_augmentation(config: TrainConfig, data: Data) -> TrainConfig:
    """The configuration with "auto" replaced: ADA if there are few images and the objective takes an augmentation."""
    if config.augment != [AUTO]:
        return config
    few = data.is_image and len(data.items) < FEW and data.items.shape[1] in (1, 3) and data.inputs is None
    return config.replace(augment=[ADA] if few and takes_augmentation(config) else [])


def takes_augmentation(config: TrainConfig) -> bool:
    """Whether the architecture's objective takes an augmentation."""
    return "augment" in inspect.signature(resolve(_objective(config))).parameters


def _objective(config: TrainConfig) -> Any:
    return registry().architecture(config.architecture).objective or Objective


def _build_augmentation(config: TrainConfig, data: Data, loss: Loss) -> Augmentation:
    if config.augment and not data.is_image:
        raise ConfigError("augment changes images, and this data has none")
    if ADA in config.augment and data.items.shape[1] not in (1, 3):
        raise ConfigError(f"ADA changes grey and colour images, and these have {data.items.shape[1]} channels")
    if config.augment_options and ADA not in config.augment:
        raise ConfigError(f"augment.{next(iter(config.augment_options))} is an option of ADA: add --augment ada")
    scheduled = 0.0 if "augment_p" in config.schedules else None
    offered = {"policies": config.augment, "p": FIXED if scheduled is None and loss.boundary is None else scheduled}
    augmentation: Augmentation
    augmentation, _ = build(Augmentation, offered, config.augment_options, "the augmentation")
    return augmentation


def _build_networks(config: TrainConfig, data: Data) -> tuple[nn.Module, nn.Module]:
    shared: dict[str, Any] = {}
    if data.is_image:
        _, channels, height, width = data.items.shape
        if height != width:
            raise ConfigError(f"the data's images are {height}x{width}: choose a square with --image-size")
        shared = {"image_size": height, "channels": channels}
    elif data.is_sound:
        shared = {"channels": data.items.shape[1], "length": data.items.shape[2]}
    if data.inputs is not None and data.inputs.dtype == torch.uint8:
        shared |= {"input_channels": data.inputs.shape[1], "input_size": data.inputs.shape[2]}
    classes = _count_classes(config, data)
    if classes is not None:
        shared["num_classes"] = classes
    g = network(config.architecture, "generator", shared, config.generator)
    packed = {**shared, "channels": shared["channels"] * config.pack} if "channels" in shared else shared
    d = network(config.architecture, "discriminator", packed, config.discriminator)
    if config.pack > 1 and d.config.get("channels") != packed.get("channels", 0):
        raise ConfigError("packing needs images or sounds, and a discriminator that takes channels: leave --pack out")
    for role, module in (("generator", g), ("discriminator", d)):
        own = module.config.get("num_classes")
        if own == classes:
            continue
        what = f"the {role} of {config.architecture}"
        if classes is None:
            raise ConfigError(f"{what} has num_classes={own}: to generate by class, say --conditional")
        if "num_classes" not in module.config:
            raise ConfigError(f"{what} cannot be class-conditional (it takes no num_classes): leave --conditional out")
        raise ConfigError(f"{what} has num_classes={own}, the data {classes} classes: leave num_classes out")
    _check_inputs(config, data, g, d)
    return g, d


def _check_inputs(config: TrainConfig, data: Data, g: nn.Module, d: nn.Module) -> None:
    """Check that there are inputs where a network takes them, and none elsewhere."""
    name, judges = config.architecture, takes_inputs(d)
    if not takes_inputs(g) and not judges:
        if config.inputs is not None:
            raise ConfigError(f"{name} takes no inputs: leave --inputs out, or choose an architecture that translates")
        return
    if data.inputs is None:
        raise ConfigError(f"{name} translates inputs into images, and there are none: add {ADD_INPUTS}")
    if not data.paired and getattr(resolve(_objective(config)), "needs_pairs", False):
        raise ConfigError(f"{name} compares images with those of their inputs: leave data.paired=false out")
    if not judges:
        return
    if not data.paired:
        raise ConfigError(f"the discriminator of {name} judges pairs: leave data.paired=false out")
    if config.pack > 1:
        raise ConfigError("a pack would hold items of several inputs: leave --pack out")
    if config.augment not in ([], [AUTO]):
        raise ConfigError(
            f"augmentation would move items away from the inputs that the discriminator of {name} compares them with: "
            "leave --augment out"
        )


def _count_classes(config: TrainConfig, data: Data) -> int | None:
    """The number of classes that the networks are conditioned on; None: they are unconditional."""
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


def _build_penalty(name: str, weight: float | None, every: int) -> Penalty:
    offered = {} if weight is None else {"weight": weight}
    penalty: Penalty
    penalty, _ = build(registry().penalty(name).target, {}, offered, f"the penalty {name}")
    penalty.name, penalty.every = name, every
    return penalty


def _build_objective(config: TrainConfig, loss: Loss, penalties: list[Penalty], augmentation: Augmentation) -> Any:
    parts = {"loss": loss, "penalties": penalties, "pack": config.pack, "augment": augmentation}
    what = f"the objective of {config.architecture}"
    objective, options = build(_objective(config), parts, config.objective_options, what)
    for name, used in (("penalties", penalties), ("pack", config.pack > 1), ("augment", config.augment)):
        if used and name not in options:
            raise ConfigError(f"{what} takes no {name}: leave it out")
    return objective
