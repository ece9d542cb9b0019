"""Pickles in the form of NVIDIA's StyleGAN2 checkpoints, of ganzoo's own networks.

The published ones were written by `torch_utils.persistence`: each module is a call of `_reconstruct_persistent_obj`
with the text of its class's source, its name and its state.
"""

import pickle
import sys
import types
from collections import OrderedDict

import torch

FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0])
FILTER = FILTER[:, None] * FILTER / 64


def _reconstruct_persistent_obj(meta):
    raise AssertionError("this was executed")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict):
    __module__ = "dnnlib.util"


class Persistent:
    """A module: the name of its class, its constructor's keywords, its tensors and its submodules."""

    def __init__(self, kind, settings, tensors=None, modules=None, source="raise SystemExit"):
        self.kind, self.settings, self.source = kind, settings, source
        self.tensors, self.modules = tensors or {}, modules or {}

    def __reduce__(self):
        state = {
            "training": False,
            "_parameters": OrderedDict(
                (k, torch.nn.Parameter(v, False) if torch.is_tensor(v) else v) for k, v in self.tensors.items()
            ),
            "_buffers": OrderedDict(),
            "_non_persistent_buffers_set": set(),
            "_forward_hooks": OrderedDict(),
            "_modules": OrderedDict(self.modules),
            "_init_args": (),
            "_init_kwargs": EasyDict(self.settings),
        }
        meta = EasyDict(type="class", version=6, module_src=self.source, class_name=self.kind, state=state)
        return _reconstruct_persistent_obj, (meta,)


def dump(content, path, protocol=4):
    """Write a pickle whose names are those of NVIDIA's modules, which need not be installed."""
    fake = {
        "torch_utils": types.ModuleType("torch_utils"),
        "torch_utils.persistence": types.ModuleType("torch_utils.persistence"),
        "dnnlib": types.ModuleType("dnnlib"),
        "dnnlib.util": types.ModuleType("dnnlib.util"),
    }
    fake["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    fake["dnnlib.util"].EasyDict = EasyDict
    before = {name: sys.modules.get(name) for name in fake}
    sys.modules.update(fake)
    try:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
    return path


def _layer(kind, own, renamed, settings, *, affine=False):
    tensors = {new: getattr(own, old) for old, new in renamed.items()}
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items() if tensor is not None}
    modules = {}
    if affine:
        tensors["weight"] = own.conv.weight.detach().clone()
        modules["affine"] = _dense(own.conv.affine, {"bias_init": 1})
    return Persistent(kind, settings, {**tensors, "resample_filter": FILTER.clone()}, modules)


def _dense(own, settings):
    tensors = {"weight": own.weight.detach().clone(), "bias": own.bias.detach().clone()}
    return Persistent("FullyConnectedLayer", settings, tensors)


def _mapping(own, w_mean=None):
    modules = {} if own.embed is None else {"embed": _dense(own.embed, {})}
    modules |= {
        f"fc{i}": _dense(layer, {"activation": "lrelu", "lr_multiplier": 0.01}) for i, layer in enumerate(own.layers)
    }
    return Persistent("MappingNetwork", {}, {} if w_mean is None else {"w_avg": w_mean.clone()}, modules)


def generator(g):
    """NVIDIA's record of one of our generators."""
    clamp = g.config["conv_clamp"]
    blocks = {}
    for block in g.blocks:
        size = block.same.size
        modules, tensors = {}, {"resample_filter": FILTER.clone()}
        if block.const is not None:
            tensors["const"] = block.const.detach().clone()
        for name, own in (("conv0", block.up), ("conv1", block.same)):
            if own is not None:
                names = {n: n for n in ("bias", "noise_const", "noise_strength")}
                modules[name] = _layer("SynthesisLayer", own, names, {"conv_clamp": clamp}, affine=True)
        if block.draw is not None:
            modules["torgb"] = _layer("ToRGBLayer", block.draw, {"bias": "bias"}, {"conv_clamp": clamp}, affine=True)
        if block.shortcut is not None:
            modules["skip"] = _layer("Conv2dLayer", block.shortcut, {"weight": "weight"}, {"kernel_size": 1})
        blocks[f"b{size}"] = Persistent("SynthesisBlock", {"resolution": size}, tensors, modules)
    parts = {"synthesis": Persistent("SynthesisNetwork", {}, {}, blocks), "mapping": _mapping(g.mapping, g.w_mean)}
    return Persistent("Generator", {"z_dim": g.config["z_dim"]}, {}, parts)


def discriminator(d, source="raise SystemExit"):
    """NVIDIA's record of one of our discriminators."""
    clamp, size = d.config["conv_clamp"], d.config["image_size"]
    parts = {}

    def convs(own, names):
        settings = {"conv_clamp": clamp}
        return {
            new: _layer("Conv2dLayer", layer, {"weight": "weight", "bias": "bias"}, settings if new != "skip" else {})
            for old, new in names.items()
            if (layer := getattr(own, old)) is not None
        }

    for block in d.blocks:
        names = {"read": "fromrgb", "same": "conv0", "down": "conv1", "shortcut": "skip"}
        parts[f"b{size}"] = Persistent(
            "DiscriminatorBlock", {}, {"resample_filter": FILTER.clone()}, convs(block, names)
        )
        size //= 2
    end = convs(d, {"read": "fromrgb", "conv": "conv"}) | {"fc": _dense(d.dense, {}), "out": _dense(d.score, {})}
    end["mbstd"] = Persistent("MinibatchStdLayer", {"group_size": d.group, "num_channels": 1})
    parts[f"b{size}"] = Persistent("DiscriminatorEpilogue", {}, {}, end)
    if d.mapping is not None:
        parts["mapping"] = _mapping(d.mapping)
    return Persistent("Discriminator", {}, {}, parts, source)
