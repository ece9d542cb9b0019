"""The training configuration: every setting in one dataclass, which is complete and valid once it is built.

Imports no torch. The defaults below give way to the architecture's recipe, the recipe to a configuration file, and the
file to settings that are passed directly.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ganzoo.errors import ConfigError, did_you_mean
from ganzoo.files import read_json
from ganzoo.zoo.plugins import registry
from ganzoo.zoo.spelling import TrackerSpec

DOTTED = {
    "generator": "generator",
    "discriminator": "discriminator",
    "loss": "loss_options",
    "objective": "objective_options",
    "augment": "augment_options",
    "data": "data_options",
    "schedules": "schedules",
}
"""The setting that a dotted key such as `loss.clip` belongs to, by the part before the dot."""

SCHEDULED = ("lr", "d_lr", "beta1", "beta2", "ema_decay", "ema_halflife", "augment_p")
"""Numbers that `schedules` can change during training, besides the weights of penalties."""

AUTO = "auto"
"""The augmentation, in a list by itself, that is chosen by the number of images."""

MACHINE = frozenset({"accumulate", "compile", "data", "data_dir", "device", "inputs", "out", "track"})
"""Settings of where and how a run computes and is recorded, not of what it learns: a resumed run may change them. Data
may have moved, and its fingerprint says whether it is the same."""


@dataclass(frozen=True)
class PenaltySpec:
    """A penalty as `NAME[=WEIGHT[@EVERY]]` spells it, such as `gp`, `r1=0.5` or `r1=1@4`."""

    name: str
    weight: float | None
    every: int

    @classmethod
    def parse(cls, text: str) -> "PenaltySpec":
        """The specification in `text`. Whether the penalty exists is not checked.

        Raises:
            ConfigError: `text` is not of that form.
        """
        name, equals, rest = text.partition("=")
        weight, at, every = rest.partition("@")
        if not equals and "@" in name:
            name, at, every = name.partition("@")
        try:
            spec = cls(name, float(weight) if weight else None, int(every) if at else 1)
        except ValueError:
            spec = None
        if (
            spec is None
            or not name
            or (equals and not weight)
            or spec.every < 1
            or not 0 <= (spec.weight or 0) < math.inf
        ):
            raise ConfigError(f"penalty {text!r} is not of the form NAME[=WEIGHT[@EVERY]], such as gp=10 or r1=1@4")
        return spec


def _at_least(least: float, default: Any) -> Any:
    return field(default=default, metadata={"least": least})


def _above(bound: float, default: Any) -> Any:
    return field(default=default, metadata={"above": bound})


@dataclass(frozen=True, init=False)
class TrainConfig:
    """All settings of a training run.

    `TrainConfig("dcgan", steps=1000, generator={"width": 32})` merges the defaults, the recipe and these settings
    (dictionaries key by key) and checks the result, so every configuration is complete and valid. `image_size` and
    `channels` stay None if the data decides them.

    Raises:
        ConfigError: a setting is unknown (the message names the nearest one), has the wrong type or is out of range.
        UnknownNameError: the architecture, loss or a penalty is not registered.
    """

    architecture: str
    recipe: str = "default"
    # data
    data: str = "digits"  # a registered name, a folder or zip of images or of .wav files, or hf:ORG/NAME
    data_dir: str = "data"  # the folder of named data sets, also for downloads
    data_options: dict[str, Any] = field(default_factory=dict)  # keywords for the loader of the data
    inputs: str | None = None  # what a translation starts from: edges, grey, masked, smaller=4, left, A, a folder, ...
    image_size: int | None = _at_least(1, None)  # pixels; None: the data's own
    channels: int | None = _at_least(1, None)  # None: the data's own
    flip: bool = False  # mirror each image with probability 1/2 whenever it is drawn
    conditional: bool = False  # condition both networks on the data's labels
    # networks and objective
    generator: dict[str, Any] = field(default_factory=dict)
    discriminator: dict[str, Any] = field(default_factory=dict)
    loss: str = ""  # empty: the architecture's own
    loss_options: dict[str, Any] = field(default_factory=dict)
    penalties: list[str] = field(default_factory=list)  # each NAME[=WEIGHT[@EVERY]]
    pack: int = _at_least(1, 1)  # samples that D judges at once
    augment: list[str] = field(default_factory=list)  # of D's inputs: color, translation, cutout, ada; or auto
    augment_options: dict[str, Any] = field(default_factory=dict)  # of ada: p, target, images
    objective_options: dict[str, Any] = field(default_factory=dict)
    start: str | None = None  # a SOURCE of weights to fine-tune; None: random weights
    # optimisation
    steps: int = _at_least(1, 2000)  # generator updates
    batch_size: int = _at_least(1, 64)
    n_critic: int = _at_least(1, 1)  # discriminator updates per generator update
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    lr: float = _above(0, 2e-4)
    d_lr: float | None = _above(0, None)  # None: same as lr
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"  # the last two fall to zero at the last step
    betas: list[float] = field(default_factory=lambda: [0.5, 0.999])  # of Adam; the first is the momentum of SGD
    eps: float = _above(0, 1e-8)  # of Adam and RMSprop: added to the root of the mean squared gradient
    ema_decay: float = _at_least(0, 0.999)  # of the averaged generator, reached by ramp-up; 0: no averaging
    ema_halflife: float | None = _at_least(0, None)  # instead: the images after which a weight counts half
    schedules: dict[str, Any] = field(default_factory=dict)  # final values of numbers that change during training
    schedule_steps: int | None = _at_least(1, None)  # steps to the final values, along half a cosine; None: all steps
    # running
    seed: int = _at_least(0, 0)
    device: str = "auto"
    accumulate: int = _at_least(1, 1)  # parts that each process splits its share of a batch into, to save memory
    compile: bool = False  # torch.compile both networks
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    auto_precision: Literal["fp32", "bf16"] = "fp32"  # the meaning of "auto" where the hardware computes it natively
    log_every: int = _at_least(1, 50)
    eval_every: int | None = _at_least(1, None)  # steps between measurements of FID; None: no measurements
    eval_samples: int | None = _at_least(2, None)  # samples for each measurement; None: as for `ganzoo eval`
    eval_features: str | None = None  # as for `ganzoo eval --features`; None: auto
    sample_every: int = _at_least(1, 500)
    checkpoint_every: int = _at_least(1, 500)
    out: str | None = None  # the run folder; None: the next free number under runs/
    track: list[str] = field(default_factory=list)  # trackers, each NAME[:KEY=VALUE,...]

    def __init__(self, architecture: str, recipe: str = "default", **settings: Any) -> None:
        known = registry().architecture(architecture)
        recipes = {"default": {}, **(known.recipes or {})}
        if not isinstance(recipe, str):
            raise ConfigError(f"a recipe is a name, such as default, not {recipe!r}")
        if recipe not in recipes:
            raise ConfigError(f"{architecture} has no recipe {recipe!r}: {did_you_mean(recipe, recipes)}")
        values: dict[str, Any] = {"architecture": architecture, "recipe": recipe, "loss": known.loss}
        merge(values, recipes[recipe], f"the recipe {recipe!r} of {architecture}")
        merge(values, settings, "TrainConfig")
        self._assign(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The configuration that `to_dict` returned. Everything is checked, and no default or recipe is merged in.

        Raises:
            ConfigError: a setting is missing, unknown or not valid.
        """
        config = cls.__new__(cls)
        _refuse_unknown(values, "the stored configuration")
        config._assign(values)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Every setting, as a dictionary that can be written as JSON."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> "TrainConfig":
        """A copy with some settings changed. It is checked again."""
        return self.from_dict({**self.to_dict(), **changes})

    @property
    def penalty_specs(self) -> list[PenaltySpec]:
        return [PenaltySpec.parse(text) for text in self.penalties]

    @property
    def tracker_specs(self) -> list[TrackerSpec]:
        return [TrackerSpec.parse(text) for text in self.track]

    def _assign(self, values: Mapping[str, Any]) -> None:
        hints = typing.get_type_hints(type(self))
        for f in dataclasses.fields(self):
            if f.name in values:
                value = _checked(f.name, values[f.name], hints[f.name], f.metadata)
            elif f.default_factory is not dataclasses.MISSING:
                value = f.default_factory()
            elif f.default is not dataclasses.MISSING:
                value = f.default
            else:
                raise ConfigError(f"the configuration lacks {f.name!r}")
            object.__setattr__(self, f.name, value)
        registry().loss(self.loss)
        for spec in self.penalty_specs:
            registry().penalty(spec.name)
        self._check_trackers()
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas must be two numbers that are at least 0 and below 1, not {self.betas}")
        if not self.ema_decay < 1:
            raise ConfigError(f"ema_decay must be below 1, not {self.ema_decay}")
        self._check_schedules()

    def _check_trackers(self) -> None:
        names = [spec.name for spec in self.tracker_specs]
        for name in names:
            registry().tracker(name)
            if names.count(name) > 1:
                raise ConfigError(f"track names {name!r} twice: name each tracker once, with all its options")

    def _check_schedules(self) -> None:
        names = {*SCHEDULED, *(spec.name for spec in self.penalty_specs)}
        for name, final in self.schedules.items():
            if name not in names:
                unused = f"there is no such penalty in use, add --penalty {name}"
                hint = unused if name in registry().penalties else did_you_mean(name, names)
                raise ConfigError(f"schedules cannot change {name!r}: {hint}")
            number = isinstance(final, int | float) and not isinstance(final, bool)
            if not number or not math.isfinite(final) or final < 0:
                raise ConfigError(f"schedules.{name} must be a number that is at least 0, not {final!r}")
            if name == "augment_p" and final > 1:
                raise ConfigError(f"schedules.augment_p must be at most 1, not {final}")
            if name in ("beta1", "beta2", "ema_decay") and final >= 1:
                raise ConfigError(f"schedules.{name} must be below 1, not {final}")
        if "ema_halflife" in self.schedules and self.ema_halflife is None:
            raise ConfigError("schedules.ema_halflife needs an initial value: set ema_halflife too (0 is no averaging)")
        if self.lr_schedule != "constant" and {"lr", "d_lr"} & self.schedules.keys():
            raise ConfigError(f"lr_schedule={self.lr_schedule} and schedules both change the learning rate: keep one")


def merge(values: dict[str, Any], settings: Mapping[str, Any], source: str) -> None:
    """Update `values` with `settings`. Dictionaries are updated key by key, and `generator.width` counts as a key of
    `generator`.

    Raises:
        ConfigError: there is no such setting.
    """
    settings = expand(settings)
    _refuse_unknown(settings, source)
    if "loss" in values and settings.get("loss", values["loss"]) != values["loss"]:
        values.pop("loss_options", None)  # they belong to another loss
    for key, value in settings.items():
        before = values.get(key, {})
        values[key] = {**before, **value} if isinstance(value, Mapping) and isinstance(before, Mapping) else value


def expand(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with dotted keys as nested dictionaries: `{"generator": {"width": 64}}` for `generator.width`."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        prefix, dot, rest = key.partition(".")
        if dot:
            if prefix not in DOTTED:
                raise ConfigError(f"no setting {key!r}: the part before the dot must be one of {', '.join(DOTTED)}")
            nested[DOTTED[prefix]] = {**nested.get(DOTTED[prefix], {}), rest: value}
        elif isinstance(value, Mapping):
            nested[key] = {**nested.get(key, {}), **value}
        else:
            nested[key] = value
    return nested


def read_file(path: Path) -> dict[str, Any]:
    """The settings in a JSON configuration file.

    Raises:
        ConfigError: the file cannot be read or does not hold a JSON object.
    """
    try:
        settings = read_json(path, pipe=True)
    except OSError as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"the configuration file {path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"the configuration file {path} must hold a JSON object, not a {type(settings).__name__}")
    return settings


def _refuse_unknown(settings: Mapping[str, Any], source: str) -> None:
    names = {f.name for f in dataclasses.fields(TrainConfig)}
    for key in settings:
        if key not in names:
            raise ConfigError(f"{source} has no setting {key!r}: {did_you_mean(key, names)}")


def _checked(name: str, value: Any, hint: Any, limits: Mapping[str, float]) -> Any:
    """`value` as the type of the setting; a ConfigError if it has another type or is out of range."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and types.NoneType in options:
        return None
    kind = options[0]
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        return value
    kind = typing.get_origin(kind) or kind
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ConfigError(f"{name} is a number with more than 64 bits: choose a smaller one")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is list and isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{name} must be {_type_name(kind)}, not {value!r}")
    if kind is list:
        (inner,) = typing.get_args(options[0])
        return [_checked(f"each of {name}", item, inner, {}) for item in value]
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, not {value}")
    if "least" in limits and value < limits["least"]:
        raise ConfigError(f"{name} must be at least {limits['least']}, not {value}")
    if "above" in limits and value <= limits["above"]:
        raise ConfigError(f"{name} must be above {limits['above']}, not {value}")
    return dict(value) if kind is dict else value


def _type_name(kind: type) -> str:
    return {
        int: "a whole number",
        float: "a number",
        str: "a string",
        bool: "true or false",
        list: "a list",
        dict: "an object",
    }[kind]
