"""The architecture under test: its networks, its objective and batches of data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ganzoo.data.dataset import Batches, Data
from ganzoo.errors import CheckError, did_you_mean
from ganzoo.rng import Rng, seed_torch
from ganzoo.sampling.draw import draw_latent
from ganzoo.sampling.options import takes_inputs
from ganzoo.testing.report import explaining, require
from ganzoo.training.build import build_players, load_data
from ganzoo.training.objective import Batch
from ganzoo.zoo.config import TrainConfig
from ganzoo.zoo.networks import create
from ganzoo.zoo.plugins import records, registry

CPU = torch.device("cpu")
ITEMS = 8
"""Items in the batches of the checks."""
SHARED = ("image_size", "channels", "input_size", "input_channels")
"""Settings that both networks get from the data."""
Role = Literal["generator", "discriminator"]
ROLES: tuple[Role, ...] = get_args(Role)


def configure(name: str, data: str | None, inputs: str | None, settings: Mapping[str, Any], out: Path) -> TrainConfig:
    """A configuration for two steps of the default recipe with small batches.

    Args:
        name: the architecture.
        data: the data spec; None: the recipe's.
        inputs: the spec of the inputs.
        settings: settings as for `ganzoo.create`; each network gets those that it takes.
        out: the run folder.

    Raises:
        CheckError: the architecture is not registered, or cannot be built.
    """
    skipped = "".join(f"; the plugin {r.label} is skipped: {r.error}" for r in records() if r.error)
    known = registry().architectures
    require(name in known, f"no architecture is called {name!r}: {did_you_mean(name, known)}{skipped}")
    with explaining(f"{name} cannot be built"):
        modules = create(name, **settings)
    with explaining(f"the recipe 'default' of {name} is not valid"):
        config = TrainConfig(name, inputs=inputs, **({} if data is None else {"data": data}))
    networks: dict[str, dict[str, Any]] = {}
    for role, module in zip(ROLES, modules, strict=True):
        own = {key: value for key, value in settings.items() if key in module.config and key not in SHARED}
        networks[role] = {**getattr(config, role), **own, **settings.get(role, {})}
    return config.replace(
        **networks,
        **{key: settings[key] for key in ("image_size", "channels") if key in settings},
        device="cpu", compile=False, steps=2, batch_size=ITEMS * config.pack, log_every=1, eval_every=None,
        out=str(out),
    )  # fmt: skip


class Subject:
    """The architecture under test: its networks, its objective and batches of data."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.name, self.batch_size = config, config.architecture, config.batch_size
        self.data: Data = load_data(config)
        self.g, self.d, self.objective = self.build()
        self.networks: dict[Role, Any] = {"generator": self.g, "discriminator": self.d}

    def build(self) -> tuple[Any, Any, Any]:
        """Both networks in training mode, and their objective. The weights are always the same."""
        seed_torch(0, CPU)
        classes = " and labels, which networks with num_classes must take" if self.config.conditional else ""
        with explaining(f"{self.name} cannot be built for items of shape {tuple(self.data.items.shape[1:])}{classes}"):
            players = build_players(self.config, self.data)
        return players.g.train(), players.d.train(), players.objective

    def batch(self, phase: str = "d0") -> Batch:
        """The first batch of the data, as the trainer passes it to a phase."""
        batches = Batches(self.data, self.batch_size, 0, CPU)
        real, labels, inputs = batches.get(0)
        fake_labels = labels if self.config.conditional else None
        return Batch(real, self.latent(), 0, Rng(0, 0, phase), labels=labels, fake_labels=fake_labels, inputs=inputs)

    def latent(self, seed: int = 0) -> Tensor:
        """A batch of latents."""
        with explaining(f"the generator of {self.name} fails to draw latents"):
            return draw_latent(self.g, self.batch_size, Rng(seed, 0, "z0"))

    def arguments(self, module: nn.Module, x: Tensor, first: int = 0) -> tuple[Tensor, ...]:
        """The positional arguments of a network: `x`, and for a conditional one also the classes in turn, from `first`
        on."""
        settings: dict[str, Any] = module.config  # type: ignore[assignment]  # set by the zoo
        if not self.config.conditional:
            return (x,)
        return x, (torch.arange(len(x)) + first) % settings["num_classes"]

    def call(self, module: nn.Module, x: Tensor, first: int = 0, inputs: Tensor | None = None) -> Tensor:
        """A forward pass on `x`, with the classes in turn from `first` on, and the inputs of the first batch or these,
        if the network takes any."""
        named = {}
        if takes_inputs(module):
            given = self.inputs() if inputs is None else inputs
            named["inputs"] = given[torch.arange(len(x)) % len(given)]
        output: Tensor = module(*self.arguments(module, x, first), **named)
        return output

    def inputs(self) -> Tensor:
        """A batch of inputs of a translation, which building the networks has checked to be there."""
        given = self.batch().inputs
        require(given is not None, f"{self.name} takes inputs, and the data has none: pass inputs='edges' to the check")
        return given  # type: ignore[return-value]

    def run(self, role: Role, module: nn.Module, x: Tensor, first: int = 0, inputs: Tensor | None = None) -> Tensor:
        """A forward pass without a graph, always from the same state of torch's own generator."""
        seed_torch(0, CPU)
        with torch.no_grad(), explaining(f"the forward pass of {self.name}'s {role} fails on {tuple(x.shape)}"):
            output: object = self.call(module, x, first, inputs)
        if not isinstance(output, Tensor):
            raise CheckError(f"the {role} of {self.name} returns a {type(output).__name__}: return one tensor")
        return output

    def networks_with_inputs(self) -> tuple[tuple[Role, Any, Tensor], ...]:
        """The role and the module of each network, and a batch of its inputs."""
        return ("generator", self.g, self.latent()), ("discriminator", self.d, self.packed(self.batch().real))

    def packed(self, x: Tensor) -> Tensor:
        """Items as inputs of D, which are packed if the recipe packs."""
        pack = self.config.pack
        return x if pack == 1 else x.reshape(-1, pack * x.shape[1], *x.shape[2:])
