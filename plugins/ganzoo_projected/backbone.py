"""The frozen network of `projected`: a feature extractor of timm's."""

import copy
import difflib
import hashlib
import logging
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganzoo import ConfigError, HubError, WeightsError, fetch_file

SCALES = 4


def digest(net: nn.Module) -> Tensor:
    """The SHA-256 of a network's tensors, (32,) uint8."""
    sha256 = hashlib.sha256()
    for tensor in net.state_dict().values():
        sha256.update(tensor.cpu().contiguous().numpy().data)
    return torch.tensor(list(sha256.digest()), dtype=torch.uint8)


@cache  # a run builds the discriminator several times, most often on meta
def outline(name: str, resolution: int) -> tuple[list[tuple[int, int]], list[int], Any, Any]:
    """Of a timm model: channels and side of its features at the last four scales, largest first; their indices in its
    list of features; mean and standard deviation of the images it was trained on.

    Raises:
        ConfigError: an unknown model, or one without such features at that resolution.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "timm.list_models() lists them"
        raise ConfigError(f"timm has no model {name!r} for discriminator.backbone: {hint}")
    try:
        with torch.device("meta"):
            net: Any = timm.create_model(name, features_only=True).eval()
            shapes = [tuple(x.shape[1:]) for x in net(torch.empty(1, 3, resolution, resolution))]
    except Exception as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{name} gives no features for images of {resolution} pixels ({cause}): choose another "
            "discriminator.resolution, or a discriminator.backbone such as tf_efficientnet_lite0 or resnet18"
        ) from error
    last = {shape[1]: i for i, shape in enumerate(shapes)}  # of several maps of one size, the last
    scales = [i for _, i in sorted(last.items(), reverse=True)][-SCALES:]
    if len(scales) < SCALES or [shape[0] for shape in shapes] != net.feature_info.channels():
        listing = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise ConfigError(
            f"{name} at {resolution} pixels gives features of shapes {listing}, but they must be channels first and at "
            f"{SCALES} sizes: choose a convolutional discriminator.backbone such as tf_efficientnet_lite0 or resnet18"
        )
    mean, std = net.pretrained_cfg["mean"], net.pretrained_cfg["std"]
    return [shapes[i][:2] for i in scales], scales, mean, std


def load(name: str, weights: str | None) -> nn.Module:
    """The feature extractor of a timm model, frozen, in evaluation mode, on the CPU. torch's random state is unchanged.

    Raises:
        HubError: the weights cannot be fetched.
        WeightsError: they cannot be read, or are of another model.
    """
    import timm

    logger = logging.getLogger("timm")
    level = logger.level
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        if weights == "random":
            net: Any = timm.create_model(name, features_only=True)
        else:
            source = {"state_dict": _tensors(name, weights)}
            try:
                timm.create_model(name, pretrained=True, pretrained_cfg_overlay=source)  # all tensors must fit
                logger.setLevel(logging.ERROR)  # it warns about the classifier, which a feature extractor lacks
                net = timm.create_model(name, features_only=True, pretrained=True, pretrained_cfg_overlay=source)
            except (RuntimeError, KeyError) as error:
                cause = " ".join(str(error).split())[:300]
                raise WeightsError(
                    f"{weights or 'the Hub'} does not hold the weights of timm's {name}: {cause}"
                ) from error
            finally:
                logger.setLevel(level)
            net.pretrained_cfg.pop("state_dict", None)
    for module in net.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # of what is overwritten, a pass with gradients keeps a copy
    extractor: nn.Module = net.eval().requires_grad_(False)
    return extractor


def _tensors(name: str, weights: str | None) -> dict[str, Tensor]:
    """The weights of a timm model, from this file or, if it is None, from the Hub.

    Raises:
        HubError: they cannot be fetched.
        WeightsError: the file cannot be read.
    """
    import timm

    path = Path(weights or "").expanduser()
    if weights is None:
        config: Any = timm.get_pretrained_cfg(name)
        file = config.hf_hub_filename or "model.safetensors"
        local = "name a safetensors file of its weights by --set discriminator.weights=FILE"
        if not config.hf_hub_id or not file.endswith(".safetensors"):
            raise HubError(f"the Hub has no safetensors file of timm's {name}: {local}")
        try:
            path = fetch_file(config.hf_hub_id, file)
        except HubError as error:
            raise HubError(
                f"{error}, and the discriminator's backbone {name} needs its weights: {local}, or train once with a "
                "connection, which leaves them in the Hub's cache"
            ) from error
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"the weights {path} of {name} cannot be read as safetensors: {error}") from error


@torch.no_grad()
def folded(net: nn.Module, images: Tensor) -> nn.Module:
    """The network with each BatchNorm folded into the convolution before it, since in evaluation mode both together are
    a convolution. The network itself where that would give other features for `images`, as with convolutions that
    standardise their weights."""
    whole = copy.deepcopy(net).double()  # so that rounding hides no difference
    plain, images = copy.deepcopy(whole), images.double()
    for convolution, norm in _pairs(plain, images):
        scale = (norm.running_var + norm.eps).rsqrt()
        shift = -norm.running_mean * scale
        if norm.affine:
            scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        weight = convolution.weight * scale.view(-1, 1, 1, 1)
        convolution.weight, convolution.bias = (nn.Parameter(part, requires_grad=False) for part in (weight, shift))
        for parent in plain.modules():
            for name, child in parent.named_children():
                if child is norm:
                    parent._modules[name] = getattr(norm, "act", nn.Identity())  # which some of timm's layers have
    same = all(torch.allclose(mine, theirs) for mine, theirs in zip(plain(images), whole(images), strict=True))
    return plain.float() if same else net


def _pairs(net: nn.Module, images: Tensor) -> list[tuple[Any, Any]]:
    """Each convolution whose output a BatchNorm takes, with that BatchNorm."""
    outputs: list[tuple[nn.Module, Tensor]] = []  # which stay, so that no two have the same place in memory
    pairs: list[tuple[Any, Any]] = []

    def after(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs.append((layer, output))

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        pairs.extend((convolution, layer) for convolution, output in outputs if output is inputs[0])

    hooks = [m.register_forward_hook(after) for m in net.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(before) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    net(images)
    for hook in hooks:
        hook.remove()
    uses = Counter(layer for pair in pairs for layer in pair)
    return [pair for pair in pairs if all(uses[layer] == 1 for layer in pair)]
