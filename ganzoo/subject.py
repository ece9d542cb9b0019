"""An architecture under check, for `ganzoo.testing`: each method looks at one thing that the contract asks for."""

import contextlib
import copy
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganzoo import hub, parts
from ganzoo.config import TrainConfig
from ganzoo.data import Batches, Data
from ganzoo.errors import CheckError, ConfigError, did_you_mean
from ganzoo.loss import Batch
from ganzoo.plugins import records, registry
from ganzoo.rng import Rng, seed_torch
from ganzoo.sampling import draw_latent, sample
from ganzoo.training import frozen, train
from ganzoo.weights import TOLERANCE, load_network, save_pretrained, verify
from ganzoo.zoo import create, network

CPU = torch.device("cpu")
ITEMS = 8
"""Items in the batches of the checks."""
SHARED = ("image_size", "channels")
Role = Literal["generator", "discriminator"]
ROLES: tuple[Role, ...] = get_args(Role)


def must(kept: Any, otherwise: str) -> None:
    """Raise a CheckError of this message unless `kept`."""
    if not kept:
        raise CheckError(otherwise)


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Any error inside as a CheckError that begins with `what`: a stranger's code may raise anything."""
    try:
        yield
    except CheckError:
        raise
    except Exception as error:
        raise CheckError(f"{what}: {type(error).__name__}: {error}") from error


def configure(name: str, data: str, settings: Mapping[str, Any], out: Path) -> TrainConfig:
    """Two steps of the default recipe on few items, each setting given to the network that takes it."""
    skipped = "".join(f"; the plugin {r.label} is skipped: {r.error}" for r in records() if r.error)
    known = registry().architectures
    must(name in known, f"no architecture is called {name!r}: {did_you_mean(name, known)}{skipped}")
    with telling(f"{name} cannot be built"):
        made = create(name, **settings)
    with telling(f"the recipe 'default' of {name} is not valid"):
        config = TrainConfig(name, data=data)
    networks: dict[str, dict[str, Any]] = {}
    for role, module in zip(ROLES, made, strict=True):
        own = {key: value for key, value in settings.items() if key in module.config and key not in SHARED}
        networks[role] = {**getattr(config, role), **own, **settings.get(role, {})}
    return config.replace(
        **networks,
        **{key: settings[key] for key in SHARED if key in settings},
        device="cpu", compile=False, steps=2, batch_size=ITEMS * config.pack, log_every=1, eval_every=None,
        out=str(out),
    )  # fmt: skip


def check_recipes(name: str, config: TrainConfig) -> None:
    """Each recipe is a valid configuration whose networks can be built, without their memory as when loaded."""
    shared = {key: getattr(config, key) for key in SHARED if getattr(config, key)}
    for recipe in sorted({"default", *(registry().architecture(name).recipes or {})}):
        with telling(f"the recipe {recipe!r} of {name} is not valid"):
            made = TrainConfig(name, recipe=recipe)
            json.dumps(made.to_dict(), allow_nan=False)
            with torch.device("meta"):
                for role in ROLES:
                    network(name, role, shared, getattr(made, role))


class Subject:
    """An architecture under check: its networks, the objective that trains them, and a batch."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.name, self.batch_size = config, config.architecture, config.batch_size
        self.data: Data = parts.load_data(config)
        self.g, self.d, self.objective = self.build()
        self.networks: dict[Role, Any] = {"generator": self.g, "discriminator": self.d}

    def build(self) -> tuple[Any, Any, Any]:
        seed_torch(0, CPU)
        classes = " and labels, which networks that take num_classes are called with" if self.config.conditional else ""
        with telling(f"{self.name} cannot be built for items of shape {tuple(self.data.items.shape[1:])}{classes}"):
            g, d, _, objective = parts.make_networks(self.config, self.data)
        return g.train(), d.train(), objective

    def batch(self, phase: str = "d0") -> Batch:
        batches = Batches(self.data, self.batch_size, 0, CPU)
        real, labels, inputs = batches.get(0)
        asked = labels if self.config.conditional else None
        return Batch(real, self.latent(), 0, Rng(0, 0, phase), labels=labels, fake_labels=asked, inputs=inputs)

    def latent(self, seed: int = 0) -> Tensor:
        with telling(f"the generator of {self.name} draws no latent"):
            return draw_latent(self.g, self.batch_size, Rng(seed, 0, "z0"))

    def inputs(self, module: nn.Module, x: Tensor, first: int = 0) -> tuple[Tensor, ...]:
        """What a network is called with: of conditional ones, with the classes in turn too, beginning with `first`."""
        settings: dict[str, Any] = module.config  # type: ignore[assignment]  # set by the zoo
        if not self.config.conditional:
            return (x,)
        return x, (torch.arange(len(x)) + first) % settings["num_classes"]

    def run(self, role: Role, module: nn.Module, x: Tensor, first: int = 0) -> Tensor:
        """A forward pass without a graph, always from the same state of torch's own generator."""
        seed_torch(0, CPU)
        with torch.no_grad(), telling(f"the forward pass of {self.name}'s {role} fails on {tuple(x.shape)}"):
            made = module(*self.inputs(module, x, first))
        if not isinstance(made, Tensor):
            raise CheckError(f"the {role} of {self.name} gives a {type(made).__name__}: return one tensor")
        return made

    def given(self) -> tuple[tuple[Role, Any, Tensor], ...]:
        """Both networks, each with a batch of its inputs."""
        return ("generator", self.g, self.latent()), ("discriminator", self.d, self.seen(self.batch().real))

    def seen(self, x: Tensor) -> Tensor:
        """Items as D sees them: packed, where the recipe packs."""
        pack = self.config.pack
        return x if pack == 1 else x.reshape(-1, pack * x.shape[1], *x.shape[2:])

    def check_build(self) -> None:
        """Parameters are contiguous, and one seed gives one set of weights."""
        again = self.build()
        for (role, module), twin in zip(self.networks.items(), again, strict=False):
            for key, p in module.named_parameters():
                must(
                    p.is_contiguous(),
                    f"the {role} of {self.name}: the parameter {key!r} is not contiguous: add .contiguous()",
                )
            for key, value in module.state_dict().items():
                must(
                    torch.equal(value, twin.state_dict()[key]),
                    f"the {role} of {self.name}: {key!r} differs between two builds with one seed: "
                    "draw initial weights from torch's own generator alone",
                )

    def check_forward(self) -> None:
        """Shapes. `make_networks` has compared the generator's with the data's."""
        items = self.run("generator", self.g, self.latent())
        must(
            len(items) == self.batch_size,
            f"the generator of {self.name} makes {len(items)} items of {self.batch_size} latents",
        )
        real = self.seen(self.batch().real)
        shapes = set()
        for x in (real, self.seen(items), real[:2]):
            logits = self.run("discriminator", self.d, x)
            must(
                logits.dim() and len(logits) == len(x) and logits.is_floating_point(),
                f"the discriminator of {self.name} gives {tuple(logits.shape)} {logits.dtype} for {len(x)} items: "
                "return a logit an item, (N,), or several, (N, …)",
            )
            shapes.add(tuple(logits.shape[1:]))
        must(
            len(shapes) == 1,
            f"the discriminator of {self.name} gives other shapes of logits, {shapes}, for batches of other sizes: add "
            "(N,) to (N,), never to (N, 1), which makes (N, N)",
        )

    def check_range(self) -> None:
        """Images lie in [-1, 1] whatever the weights, and use both halves of it."""
        if not self.data.is_image:
            return
        lowest = highest = 0.0
        for factor in (1, 10, 100):
            g = _scaled(self.g, factor)
            made = self.run("generator", g, factor * z if (z := self.latent()).is_floating_point() else z)
            made = made[made.isfinite()]
            must(
                factor > 1 or made.numel(),
                f"the generator of {self.name} makes NaN or infinite pixels with its first weights",
            )
            lowest, highest = min(lowest, made.min().item()), max(highest, made.max().item())
        must(
            max(-lowest, highest) <= 1,
            f"the generator of {self.name} makes pixels from {lowest:.3g} to {highest:.3g}: images lie in [-1, 1], "
            "so end it in a Tanh",
        )
        must(
            lowest < 0 < highest,
            f"the generator of {self.name} makes pixels from {lowest:.3g} to {highest:.3g} alone: images lie in "
            "[-1, 1], so end it in a Tanh (or give 2 * sigmoid - 1)",
        )

    def check_logits_are_raw(self) -> None:
        """Some weights take some logit out of [0, 1]: a sigmoid's never leave it. Fresh weights give either sign, large
        ones large logits, and where spectral norm undoes the size, there is still the sign."""
        real = self.seen(self.batch().real)
        for seed in range(8):
            seed_torch(seed, CPU)
            fresh = network(self.name, "discriminator", {}, self.d.config).train()
            for factor in (1, 10, 100):
                logits = self.run("discriminator", _scaled(fresh, factor), factor * real)
                if (logits < 0).any() or (logits > 1).any():
                    return
        raise CheckError(
            f"the discriminator of {self.name} never leaves [0, 1], whatever its weights: return raw logits, "
            "without a sigmoid; the loss has its own"
        )

    def check_inputs_matter(self) -> None:
        """Other inputs give other outputs, and so do other classes."""
        others = self.latent(1), self.seen(self.batch().real).neg()
        for (role, module, x), other in zip(self.given(), others, strict=True):
            module.eval()
            must(
                not torch.equal(self.run(role, module, x), self.run(role, module, other)),
                f"the {role} of {self.name} gives the same whatever its input: its forward must use it",
            )
            # Off the first weights, which may be alike for all classes, as those of a conditional BatchNorm are.
            moved = copy.deepcopy(module)
            seed_torch(0, CPU)
            with torch.no_grad():
                for p in moved.parameters():
                    p.add_(torch.randn_like(p), alpha=0.1)
            must(
                not self.config.conditional or not torch.equal(self.run(role, moved, x), self.run(role, moved, x, 1)),
                f"the {role} of {self.name} gives the same whatever the class: its forward must use labels",
            )
            module.train()

    def check_repeats(self) -> None:
        """Two passes in evaluation mode give the same bits, and leave the weights as they are."""
        for role, module, x in self.given():
            module.eval()
            before = {key: value.clone() for key, value in module.state_dict().items()}
            must(
                torch.equal(self.run(role, module, x), self.run(role, module, x)),
                f"the {role} of {self.name} in evaluation mode gives other values at the second call: keep no "
                "state, and draw from torch's own generator alone",
            )
            for key, value in module.state_dict().items():
                must(
                    torch.equal(value, before[key]),
                    f"the {role} of {self.name} changes {key!r} in evaluation mode: do so in training",
                )
            module.train()

    def check_gradients(self) -> None:
        """Both phases of the architecture's own objective reach every parameter that asks for a gradient."""
        d_parameters = [p for p in self.d.parameters() if p.requires_grad]
        extra = self.objective if isinstance(self.objective, nn.Module) else nn.Module()
        phases: list[tuple[str, Callable[..., Any], dict[str, nn.Module]]] = [
            ("d0", self.objective.discriminator_loss, {"discriminator": self.d}),
            ("g", self.objective.generator_loss, {"generator": self.g, "objective": extra}),
        ]
        for phase, minimised, trained in phases:
            seed_torch(0, CPU)
            method = minimised.__name__
            with (
                frozen(d_parameters) if phase == "g" else contextlib.nullcontext(),
                telling(f"{method} of {self.name} fails"),
            ):
                value, logs = minimised(self.g, self.d, self.batch(phase))
                value.backward()
            for what, logged in {method: value, **logs}.items():
                if not isinstance(logged, Tensor) or logged.dim() or not logged.isfinite():
                    raise CheckError(f"{method} of {self.name}: {what} is {logged!r}, not a finite scalar tensor")
            for role, module in trained.items():
                for key, p in module.named_parameters():
                    must(
                        p.grad is not None or not p.requires_grad,
                        f"the {role} of {self.name}: the parameter {key!r} gets no gradient: use it in forward, or "
                        "leave it out",
                    )
                    must(
                        p.grad is None or p.grad.isfinite().all(),
                        f"the {role} of {self.name}: the gradient of {key!r} is not finite",
                    )
        for module in (self.g, self.d, extra):
            module.zero_grad()

    def check_double_backward(self) -> None:
        """Where a recipe has penalties: the gradient of D's gradient."""
        recipes = {"default", *(registry().architecture(self.name).recipes or {})}
        if not any(TrainConfig(self.name, recipe=recipe).penalties for recipe in recipes):
            return
        x = self.seen(self.batch().real).requires_grad_()
        seed_torch(0, CPU)
        with telling(f"the discriminator of {self.name} has no second derivatives, which its recipe's penalty needs"):
            (slope,) = torch.autograd.grad(self.d(*self.inputs(self.d, x)).sum(), x, create_graph=True)
            torch.autograd.backward(slope.square().sum())
        self.d.zero_grad()

    def check_layout_and_precision(self) -> None:
        """What the trainer does to networks: channels_last for images, bf16 autocast where a person asks for it."""
        for role, module, x in self.given():
            module.eval()
            plain = self.run(role, module, x)
            scale = plain.square().mean().sqrt().item()
            last = copy.deepcopy(module).to(memory_format=torch.channels_last)
            laid = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
            made = self.run(role, last, laid)
            must(
                (made - plain).square().mean().sqrt() <= 1e-3 * scale + 1e-5,
                f"the {role} of {self.name} gives other values in channels_last: use reshape instead of view",
            )
            with torch.autocast("cpu", torch.bfloat16):
                made = self.run(role, module, x).float()
            module.train()
            must(
                (made - plain).square().mean().sqrt() <= 0.2 * scale + 1e-2,
                f"the {role} of {self.name} under bf16 autocast is not near what it gives in fp32: compute sums, "
                "powers and exponentials of large numbers in float32",
            )

    def check_sizes(self) -> None:
        """Networks that take `image_size` and `channels` obey them, or refuse by a ConfigError."""
        if not self.data.is_image:
            return
        _, channels, size, _ = self.data.items.shape
        for change in ({"image_size": 2 * size}, {"channels": 4 - channels if channels in (1, 3) else 1}):
            if not change.keys() <= self.g.config.keys() & self.d.config.keys():
                continue
            wanted = {"image_size": size, "channels": channels, **change}
            try:
                g, d = (
                    network(self.name, role, wanted, {k: v for k, v in module.config.items() if k not in SHARED})
                    for role, module in self.networks.items()
                )
            except ConfigError:
                continue  # its right; the message is the author's
            made = self.run("generator", g, self.latent())
            shape = (wanted["channels"], wanted["image_size"], wanted["image_size"])
            must(
                tuple(made.shape[1:]) == shape,
                f"the generator of {self.name} makes {tuple(made.shape[1:])} when asked for {shape}: obey "
                "image_size and channels, or raise ganzoo.ConfigError for what you cannot serve",
            )
            with telling(f"the discriminator of {self.name} asked for {change} fails on {tuple(made.shape)}"):
                d(*self.inputs(d, made))

    def check_round_trip(self, folder: Path) -> None:
        """Two real steps of training, then the published files give the same generator back."""
        with telling(f"{self.name} does not train"):
            run = train(self.config)
        with telling(f"the generator of {self.name} cannot be saved and loaded"):
            saved = save_pretrained(run, folder / "model", discriminator=True)
            loaded = hub.from_pretrained(str(saved))
        with telling(f"the discriminator of {self.name} cannot be saved and loaded"):
            d = load_network(saved, "discriminator")
        x = self.seen(self.batch().real)
        was, now = (self.run("discriminator", module, x) for module in (run.discriminator.eval(), d))
        pairs = ("generator", sample(run.generator, 4), sample(loaded, 4)), ("discriminator", was, now)
        for role, before, after in pairs:
            must(
                (before - after).abs().max() <= TOLERANCE * max(1.0, before.abs().max().item()),
                f"the {role} of {self.name} gives other values after it was saved and loaded: keep all that its "
                "forward pass needs in settings, parameters and registered buffers",
            )
        with telling(f"the published files of {self.name} fail `ganzoo verify`"):
            verify(saved)

    def check_processes(self, folder: Path) -> None:
        """A step on two processes: both end with the same weights, and with those of one process where each item is
        judged for itself and nothing draws from torch's own generator."""
        must(
            not registry().architecture(self.name).plugin.startswith("in-process:"),
            f"{self.name} is registered in this process alone: install its package for processes=True",
        )
        once = {"steps": 1, "optimizer": "sgd", "betas": [0.0, 0.0], "lr": 0.1, "d_lr": None, "precision": "fp32"}
        config = self.config.replace(**once, accumulate=1)
        _launch(config.replace(out=str(folder / "two")), folder, self.name)
        first, second = (load_file(folder / f"rank-{rank}.safetensors") for rank in (0, 1))
        for key, value in first.items():
            must(
                torch.equal(value, second[key]),
                f"{self.name} on two processes: {key!r} differs between them after a step: let nothing in it "
                "depend on the process, its time or its own random numbers",
            )
        if not self._independent():
            return
        seed_torch(0, CPU)
        with telling(f"{self.name} does not train"):
            whole = _learned(train(config.replace(out=str(folder / "one"))))
        for key, value in first.items():
            must(
                torch.allclose(value, whole[key], rtol=1e-3, atol=1e-5),
                f"{self.name} on two processes learns another {key!r} than on one: draw a row an item from "
                "batch.rng, and take statistics of the whole batch from batch.whole_real()",
            )

    def _independent(self) -> bool:
        """Whether an item's result depends on that item alone. BatchNorm apart, which the trainer synchronises."""
        for role, module, x in self.given():
            twin = copy.deepcopy(module).train()
            for part in twin.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()
            whole, half = self.run(role, twin, x), self.run(role, twin, x[: len(x) // 2])
            with torch.no_grad():
                torch.manual_seed(1)
                other = twin(*self.inputs(twin, x))
            if not torch.allclose(whole[: len(half)], half, atol=1e-4) or not torch.equal(whole, other):
                return False
        return True


def _scaled(module: nn.Module, factor: float) -> nn.Module:
    """A copy with every weight matrix and kernel `factor` times as large."""
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for p in twin.parameters():
            if p.dim() > 1:
                p.mul_(factor)
    return twin


def _learned(run: Any) -> dict[str, Tensor]:
    """What a run has learned, by network and name."""
    return {
        f"{role}.{key}": value.detach().clone(memory_format=torch.contiguous_format)
        for role, module in (("generator", run.raw_generator), ("discriminator", run.discriminator))
        for key, value in module.state_dict().items()
    }


def _launch(config: TrainConfig, folder: Path, name: str) -> None:
    """Train on two processes over gloo, as torchrun starts them; each leaves rank-K.safetensors in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-c", "from ganzoo.subject import _worker; _worker()"]
    command += [json.dumps(config.to_dict()), str(folder)]
    logs = [folder / f"rank-{rank}.log" for rank in (0, 1)]
    started = []
    for rank, log in enumerate(logs):
        with open(log, "w") as err:
            ranked = {**environment, "WORLD_SIZE": "2", "RANK": str(rank)}
            started.append(subprocess.Popen(command, env=ranked, stdout=err, stderr=err))
    try:
        while None in (codes := [process.poll() for process in started]) and not any(codes):
            time.sleep(0.05)
    finally:
        for process in started:  # one that waits for another that is gone
            process.kill()
            process.wait()
    for code, log in zip(codes, logs, strict=True):
        if code:
            cause = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise CheckError(f"{name} does not train on two processes: {cause}")


def _worker() -> None:
    """One of those processes."""
    torch.set_num_threads(1)
    learned = _learned(train(TrainConfig.from_dict(json.loads(sys.argv[1]))))
    save_file(learned, Path(sys.argv[2]) / f"rank-{os.environ['RANK']}.safetensors")
