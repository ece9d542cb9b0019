"""Export of generators as ONNX files, for programs without torch. Every file is compared with torch.

The exporter is torch's own (`torch.export` and onnxscript). It needs the extra `ganzoo[onnx]`, which is imported only
for an export.
"""

import contextlib
import copy
import io
import json
import logging
import textwrap
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganzoo.errors import ExportError
from ganzoo.files import reason, replacing
from ganzoo.rng import Rng, preserve_torch
from ganzoo.sampling.classes import class_names
from ganzoo.sampling.draw import class_count, draw_latent
from ganzoo.sampling.options import call_options, takes_inputs
from ganzoo.sampling.sound import rate_of

OPSET = 18
"""The opset in which torch writes its operators; older runtimes know it, and any other would need a conversion."""
BATCHES = (5, 1, 64)
"""Batch sizes at which a file is compared with torch. It is traced at the first."""
TOLERANCE = 1e-4
"""The largest difference allowed between values in [-1, 1]: an 80th of a grey level. Larger values may differ in
proportion. A softmax over scores that a module multiplies by its `sharpness` enlarges what rounding does by that."""
ALTERED = 0.75
"""What an option is multiplied by for one of the comparisons, so that an input that is not used would show."""


def export_onnx(g: nn.Module, path: Path, *, force: bool = False) -> float:
    """Write a generator as one self-contained ONNX file, and check that ONNX Runtime gives the same images as torch.

    The file maps `z` (N, z_dim) float32, for a conditional generator `labels` (N,) int64, and for one that translates
    `inputs` (N, C', H', W') float32 in [-1, 1], to `images` (N, C, H, W) float32 in [-1, 1], or beyond if `g.unbounded`
    is true, for any N and inputs of the size in its settings; a generator of sounds gives `sounds` (N, C, T). Each of
    the generator's options whose default is a number, such as `truncation`, is an input () float32 too. The metadata
    holds, as JSON, the generator's settings (`ganzoo.config`), the defaults of these options (`ganzoo.options`), the
    names of its classes, if it has any (`ganzoo.classes`), the rate of its sounds in Hz (`ganzoo.rate`), and
    `ganzoo.version`, but nothing about this machine.

    Args:
        g: a generator, from `create` or a run. A copy of it is exported, on the CPU and in evaluation mode.
        path: the file. It is written only if the check succeeds.
        force: overwrite the file.

    Returns:
        The largest difference between ONNX Runtime and torch over batches of 1, 5 and 64, as a share of the largest
        value if that is above 1.

    Raises:
        ExportError: the extra is not installed, the file exists or cannot be written, the generator cannot be
            expressed in ONNX, or its images differ from torch's (for example if it draws noise in its forward pass).
    """
    if path.exists() and not force:
        raise ExportError(f"{path} exists already: choose another -o, or --force to overwrite it")
    with _quiet(), preserve_torch(torch.device("cpu")):
        runtime = _runtime()
        try:
            network = copy.deepcopy(g).to("cpu", torch.float32).to(memory_format=torch.contiguous_format)
            network.eval().requires_grad_(False)
            expected = [_expected(network, n) for n in BATCHES]
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, shared=True) as temporary:
                temporary.write_bytes(_serialize(network, expected[0][0]))
                difference = _difference(runtime, temporary, expected)
                allowed = TOLERANCE * max(getattr(module, "sharpness", 1.0) for module in network.modules())
                if not difference <= allowed:  # NaN too
                    raise ExportError(
                        f"ONNX Runtime's images differ from torch's by {difference:.2g} (allowed: {allowed:g}), so "
                        "nothing was written: a generator that draws noise in forward cannot be exported"
                    )
        except ExportError:
            raise
        except OSError as error:
            raise ExportError(f"{path} cannot be written: {reason(error)}") from error
        except Exception as error:  # tracing runs a plugin's code through three libraries, which may raise anything
            raise ExportError(f"{type(g).__name__} cannot be exported to ONNX: {_cause(error)}") from error
    return difference


def _runtime() -> ModuleType:
    """onnxruntime; an ExportError if the extra is not installed."""
    try:
        import_module("onnxscript")
        return import_module("onnxruntime")
    except ImportError as error:
        raise ExportError(f"exporting needs the ONNX packages ({error}): pip install 'ganzoo[onnx]'") from error


def _expected(g: nn.Module, n: int) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs for n samples, by name, and the images that torch gives for them."""
    z: object = draw_latent(g, n, Rng(0, n, "export"))
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise TypeError("its latents are not one float tensor")
    inputs = {"z": z.float()}
    if count := class_count(g):
        inputs["labels"] = torch.arange(n) % count
    named = {}
    if takes_inputs(g):
        named["inputs"] = inputs["inputs"] = _inputs(g, n)
    altered = ALTERED if n == BATCHES[0] else 1.0
    options = {name: torch.tensor(value * altered) for name, value in _numbers(g).items()}
    positional = [tensor for name, tensor in inputs.items() if name not in named]
    images: object = g(*positional, **named, **options)
    if not isinstance(images, Tensor):
        raise TypeError("it does not return one tensor")
    return inputs | options, images


def _inputs(g: nn.Module, n: int) -> Tensor:
    """Noise as inputs of a translation, of the size in the generator's settings."""
    config: dict[str, Any] = g.config  # type: ignore[assignment]  # set by create
    size = config.get("input_size") or config["image_size"]
    return Rng(0, n, "inputs").rand(n, config["input_channels"], size, size) * 2 - 1


def _numbers(g: nn.Module) -> dict[str, float]:
    """The generator's options whose default is a number, with these defaults."""
    return {name: value for name, value in call_options(g).items() if isinstance(value, float)}


class _ByPosition(nn.Module):
    """A generator whose options are the last positional arguments, as the exporter wants them."""

    def __init__(self, g: nn.Module) -> None:
        super().__init__()
        self.g, self.names = g, [*(["inputs"] if takes_inputs(g) else []), *_numbers(g)]

    def forward(self, *inputs: Tensor) -> Tensor:
        count = len(inputs) - len(self.names)
        images: Tensor = self.g(*inputs[:count], **dict(zip(self.names, inputs[count:], strict=True)))
        return images


def _serialize(g: nn.Module, inputs: dict[str, Tensor]) -> bytes:
    """The bytes of an ONNX file: the graph, the weights and the metadata."""
    program = torch.onnx.export(
        _ByPosition(g),
        tuple(inputs.values()),
        input_names=list(inputs),
        output_names=["images" if rate_of(g) is None else "sounds"],
        dynamic_shapes=(tuple({0: "N"} if tensor.dim() else None for tensor in inputs.values()),),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None  # only the old exporter, dynamo=False, returns None
    model = program.model
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with source code and folders of this machine
    model.metadata_props["ganzoo.version"] = version("ganzoo")
    model.metadata_props["ganzoo.config"] = json.dumps(getattr(g, "config", {}), default=str)
    if options := _numbers(g):
        model.metadata_props["ganzoo.options"] = json.dumps(options)
    if names := class_names(g):
        model.metadata_props["ganzoo.classes"] = json.dumps(names)
    if rate := rate_of(g):
        model.metadata_props["ganzoo.rate"] = json.dumps(rate)
    serialized: bytes = program.model_proto.SerializeToString()  # an error above 2 GiB, the limit of one file
    return serialized


def _difference(runtime: ModuleType, path: Path, expected: list[tuple[dict[str, Tensor], Tensor]]) -> float:
    """The largest difference between the file's images and the expected ones, as a share of their largest value if that
    is above 1."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # failures raise errors as well
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    differences = []
    for inputs, images in expected:
        (outputs,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        if outputs.shape != images.shape:
            raise ValueError(f"its images are {outputs.shape} in ONNX Runtime and {tuple(images.shape)} in torch")
        scale = max(1.0, images.abs().max().item())
        differences.append(np.abs(outputs - images.numpy()).max() / scale)
    return float(np.max(differences))  # NaN if any of them is


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the exporter prints and logs, and its warnings: graphs, progress and deprecations."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            yield
        finally:
            logging.disable(disabled)


def _cause(error: BaseException) -> str:
    """The original error on one line: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    paragraph = str(error).strip().partition("\n\n")[0]
    return textwrap.shorten(f"{type(error).__name__}: {paragraph}", 300)
