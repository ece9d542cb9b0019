"""The settings of a run that starts, resumes, or fine-tunes pretrained weights."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.errors import ConfigError
from ganzoo.store.manifest import CONFIG, DISCRIMINATOR, MODEL, read_config
from ganzoo.store.models import load_network
from ganzoo.store.runs import Checkpoint, load_newest, open_run, read_training
from ganzoo.store.source import find, is_model
from ganzoo.zoo.config import AUTO, MACHINE, TrainConfig

logger = logging.getLogger("ganzoo")

StateDict = dict[str, Tensor] | None
"""The state dict of a network, or None where it starts from random weights."""


FROM_WEIGHTS = frozenset({"generator", "discriminator", "conditional", "image_size", "channels"})
"""Settings that the weights decide which a run starts from."""


@dataclass(frozen=True)
class Pretrained:
    """What a new run starts from; all None: random weights.

    Attributes:
        generator: the weights of the generator.
        discriminator: those of the discriminator; None where it was not published.
        classes: the names of the generator's classes.
        rate: the sampling rate of its sounds.
    """

    generator: StateDict = None
    discriminator: StateDict = None
    classes: list[str] | None = None
    rate: int | None = None


@dataclass(frozen=True)
class Plan:
    """The settings and the starting point of a run.

    Attributes:
        config: its final settings.
        recorded: the content of training.json, if the run goes on; else empty.
        checkpoint: the newest checkpoint, if the run goes on and has one.
        pretrained: what a new run starts from.
    """

    config: TrainConfig
    recorded: dict[str, Any]
    checkpoint: Checkpoint | None = None
    pretrained: Pretrained = Pretrained()


def plan(config: TrainConfig, device: torch.device, resume: bool) -> Plan:
    """Decide the settings and the starting point of a run.

    Raises:
        ConfigError: settings that contradict those of the run to resume or of the weights to start from.
        CheckpointError: the run to resume is damaged.
        HubError, WeightsError, UnknownNameError: the weights to start from cannot be loaded.
    """
    recorded: dict[str, Any] = {}
    checkpoint = None
    pretrained = Pretrained()
    if resume:
        if config.out is None:
            raise ConfigError("resume needs the run's folder: set out")
        folder = Path(config.out)
        if folder.exists() and any(folder.iterdir()):
            previous, recorded = read_training(folder)
            config = _continue(previous, config)
            checkpoint = load_newest(folder)
        else:
            logger.info("nothing to resume in %s: starting there", folder)
    config = config.replace(precision=choose_precision(config, device))
    if config.start is not None and checkpoint is None:
        config, pretrained = _start_from(config, config.start)
    return Plan(config, recorded, checkpoint, pretrained)


def check_batch_size(config: TrainConfig, processes: int = 1) -> None:
    """Check that a batch can be split among the processes, into their parts and into packs.

    Raises:
        ConfigError: it cannot.
    """
    multiple = processes * config.accumulate * config.pack
    if config.batch_size % multiple:
        split = f"{processes} processes x {config.accumulate} parts x packs of {config.pack}"
        raise ConfigError(f"a batch of {config.batch_size} does not divide into {split}: give a multiple of {multiple}")


def choose_precision(config: TrainConfig, device: torch.device) -> str:
    """Resolve "auto": the recipe's precision where the hardware computes it natively, else fp32."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if config.auto_precision == "bf16" and native else "fp32"


def _continue(previous: TrainConfig, config: TrainConfig) -> TrainConfig:
    """The configuration of a resumed run: its own, except for a larger `steps` and the settings of the machine.

    Raises:
        ConfigError: another setting differs.
    """
    old, new = previous.to_dict(), config.to_dict()
    # The weights that a run started from decided these, wherever they were left at the recipe's values.
    recipe = TrainConfig(config.architecture, recipe=config.recipe).to_dict() if config.start else {}
    for key, value in new.items():
        unset = value in (None, AUTO, [AUTO]) or (key in FROM_WEIGHTS and value == recipe.get(key))
        if key in MACHINE or unset or value == old[key] or (key == "steps" and value > old[key]):
            continue
        hint = "steps can only increase" if key == "steps" else "leave it out, or start a new run with another --out"
        raise ConfigError(f"the run in {config.out} began with {key}={old[key]!r}, not {value!r}: {hint}")
    return previous.replace(**{key: value for key, value in new.items() if key in MACHINE or key == "steps"})


def _start_from(config: TrainConfig, source: str) -> tuple[TrainConfig, Pretrained]:
    """The configuration with the settings of the weights it starts from, and these.

    Raises:
        ConfigError: weights of another architecture, or settings that contradict theirs.
        HubError, WeightsError, UnknownNameError: the weights cannot be loaded.
    """
    folder = find(source, (CONFIG, MODEL, DISCRIMINATOR))
    discriminator: StateDict = None
    model: dict[str, Any]
    if is_model(folder):
        published = read_config(folder)
        model = vars(published)
        generator = load_network(folder, "generator").state_dict()
        if DISCRIMINATOR in published.files:
            discriminator = load_network(folder, "discriminator").state_dict()
        else:
            logger.warning("%s was published without its discriminator, which starts from random weights", source)
    else:
        _, checkpoint = open_run(folder)
        model = checkpoint.state["model"]
        generator, discriminator = checkpoint.part("ema"), checkpoint.part("discriminator")
    if model["architecture"] != config.architecture:
        raise ConfigError(f"{source} is a {model['architecture']}, not a {config.architecture}")
    settings: dict[str, Any] = {}
    base = TrainConfig(config.architecture, recipe=config.recipe)
    for role in ("generator", "discriminator"):
        recipe = getattr(base, role)
        # A setting of the recipe gives way to that of the weights.
        explicit = {k: v for k, v in getattr(config, role).items() if k not in recipe or recipe[k] != v}
        for key, value in explicit.items():
            if role == "generator" and model[role].get(key) != value:
                raise ConfigError(f"{source} has {role}.{key}={model[role].get(key)!r}, not {value!r}: leave it out")
        settings[role] = {**model[role], **explicit}
    if model["generator"].get("num_classes") is not None:
        settings["conditional"] = True
    for key in ("image_size", "channels"):
        settings[key] = getattr(config, key) or model["generator"].get(key)
    return config.replace(**settings), Pretrained(generator, discriminator, model.get("classes"), model.get("rate"))
