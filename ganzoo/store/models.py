"""The model folder, which is published and loaded.

    config.json                  architecture, settings, the package that is needed, size and hash of each file below
    model.safetensors            the averaged generator, fp32 or fp16
    discriminator.safetensors    optional, for fine-tuning
    test.safetensors             golden latents and the images they must give
    README.md samples.png training.json
    scores.json                  optional: figures that `ganzoo eval --record` measured

A folder may come from anyone. Nothing in it names code to import: the architecture is looked up in the registry, the
networks are first built without memory and compared with the file's header, and whatever does not fit is an error.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ganzoo.errors import GanzooError, WeightsError
from ganzoo.sampling.classes import name_classes
from ganzoo.sampling.draw import sample
from ganzoo.sampling.sound import set_rate
from ganzoo.store.manifest import (
    CONFIG,
    DISCRIMINATOR,
    GOLDEN,
    MODEL,
    check_file,
    config_text,
    read_config,
    read_json,
    reading,
)
from ganzoo.zoo.networks import network
from ganzoo.zoo.plugins import registry

Role = Literal["generator", "discriminator"]

MOST_GOLDEN = 64
"""Golden images that are compared at most."""
TOLERANCE = 2e-3
"""The largest difference between golden images and those that another machine computes from the same latents."""
DTYPES = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL", torch.int32: "I32", torch.uint8: "U8"}
"""The names of tensor types in safetensors."""


def load_network(folder: Path, role: Role) -> nn.Module:
    """Load one network of a model folder. Every tensor must be there, have its shape and be finite; none may be extra.

    Raises:
        WeightsError: something does not fit, or the plugin of the architecture is not installed.
    """
    config = read_config(folder)
    name = MODEL if role == "generator" else DISCRIMINATOR
    if name not in config.files:
        raise WeightsError(f"{folder} was published without its {role} ({name})")
    if config.architecture not in registry().architectures:
        package, selection = config.requires.get("package", ""), os.environ.get("GANZOO_PLUGINS")
        hint = "" if selection is None else f" (or is left out by GANZOO_PLUGINS={selection})"
        raise WeightsError(
            f"{folder} needs the architecture {config.architecture!r}, which is not installed{hint}: pip install "
            f"{package} ({config.requires.get('version') or 'any version'}), or look in `ganzoo plugins`"
        )
    check_file(folder, name, config.files[name])
    path = folder / name
    shapes = outline(config.architecture, role, getattr(config, role), CONFIG)
    expected = {key: (DTYPES.get(t.dtype, str(t.dtype)), tuple(t.shape)) for key, t in shapes.items()}
    header = _header(path)
    if "F32" not in {dtype for dtype, _ in header.values()}:  # all weights are rounded; they are loaded as fp32
        header = {key: ("F32" if dtype == "F16" else dtype, shape) for key, (dtype, shape) in header.items()}
    compare_tensors(header, expected, str(path))
    if sum(math.prod(shape) for _, shape in header.values()) > path.stat().st_size:  # each number takes a byte at least
        raise WeightsError(f"{path} is damaged: it claims more numbers than it has bytes")
    module: nn.Module = network(config.architecture, role, {}, getattr(config, role))
    with reading(path):
        tensors = load_file(path)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsError(f"{path}: {key} holds NaN or infinite values")
    module.load_state_dict(tensors)
    if role == "generator":
        name_classes(module, config.classes)
        set_rate(module, config.rate)
    return module.eval()


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, dtypes and shapes of the tensors in a safetensors file, without reading them."""
    with reading(path), safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def compare_tensors(actual: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Compare (dtype, shape) of tensors by name.

    Raises:
        WeightsError: a tensor is missing, extra or of another dtype or shape; the message names the first one.
    """
    for key in expected:
        if key not in actual:
            raise WeightsError(f"{where} lacks the tensor {key!r}")
    for key, (dtype, shape) in actual.items():
        if key not in expected:
            raise WeightsError(f"{where} has a tensor {key!r} that the network lacks")
        if (dtype, shape) != expected[key]:
            raise WeightsError(
                f"{where}: {key} is {dtype} {shape}, the network has {expected[key][0]} {expected[key][1]}"
            )


def tensor_facts(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """(dtype, shape) of tensors by name, for `compare_tensors`."""
    return {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()}


class _Unfilled(TorchFunctionMode):
    """On the meta device there is nothing to fill or to scale, but torch's functions for normal numbers and quotients
    import its compiler there, which takes a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        scaled = func is Tensor.div and args[0].is_floating_point() and isinstance(args[1], int | float)
        if scaled or func is Tensor.normal_ or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def outline(architecture: str, role: Role, settings: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors of a network with these settings as names, shapes and dtypes alone, without their memory.

    Args:
        architecture: its name.
        role: which of its networks.
        settings: of the network.
        where: the file that holds the settings, for the error.

    Raises:
        WeightsError: the settings are refused.
    """
    try:
        with torch.device("meta"), _Unfilled():
            module: nn.Module = network(architecture, role, {}, settings)
    except GanzooError as error:
        raise WeightsError(f"the {role}'s settings in {where} do not fit: {error}") from error
    return module.state_dict()


def verify(folder: Path) -> dict[str, Any]:
    """Check a model folder: every hash, every tensor and the golden images.

    Returns:
        `files`, the number of files that match their hash, and `difference`, the largest between the golden images
        and those that this machine computes from the same latents.

    Raises:
        WeightsError: something does not fit; the message names the first such thing.
    """
    config = read_config(folder)
    content = read_json(folder / CONFIG)
    if (folder / CONFIG).read_bytes() != config_text(content).encode():
        raise WeightsError(f"{folder / CONFIG} differs from its own digest: it was damaged or edited")
    for name, facts in config.files.items():
        check_file(folder, name, facts)
    g = load_network(folder, "generator")
    if DISCRIMINATOR in config.files:
        load_network(folder, "discriminator")
    if GOLDEN not in config.files:
        raise WeightsError(f"{folder} has no {GOLDEN}, so its images cannot be compared")
    with reading(folder / GOLDEN):
        tensors = load_file(folder / GOLDEN)
        golden = tensors["images"]
        if not 0 < len(golden) <= MOST_GOLDEN or not golden.numel():
            raise WeightsError(
                f"{folder / GOLDEN} holds {tuple(golden.shape)}, and golden images are 1 to {MOST_GOLDEN}"
            )
    images = sample(g, len(golden), 0, inputs=tensors.get("inputs"))
    if images.shape != golden.shape:
        raise WeightsError(f"{folder}: images are {tuple(images.shape)}, the golden ones {tuple(golden.shape)}")
    difference = (images - golden).abs().max().item()
    if not difference <= TOLERANCE:
        raise WeightsError(f"{folder}: images differ from the golden ones by {difference:.2g}, more than {TOLERANCE}")
    return {"files": len(config.files) + 1, "difference": difference}
