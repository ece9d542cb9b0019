"""NVIDIA's and rosinality's StyleGAN2 checkpoints: they give the same images here, and nothing in them runs."""

import argparse
import math
from collections import OrderedDict

import pytest
import torch

import ganzoo
import nvidia
from ganzoo import WeightsError
from ganzoo.exchange.checkpoints import read_checkpoint
from ganzoo.exchange.foreign import convert

SMALL = {"channel_base": 224, "channel_max": 24}


def networks(image_size=16, num_classes=None, conv_clamp=None, g_architecture="skip", d_architecture="resnet", **d):
    torch.manual_seed(0)
    generator = {"z_dim": 8, "w_dim": 12, "mapping": 3, "architecture": g_architecture}
    discriminator = {"architecture": d_architecture, "strided": True, "mapping": 3, **d}
    shared = {**SMALL, "image_size": image_size, "channels": 3, "num_classes": num_classes, "conv_clamp": conv_clamp}
    g, d = ganzoo.create("stylegan2", generator=generator, discriminator=discriminator, **shared)
    with torch.no_grad():
        g.w_mean.normal_()
        for name, p in [*g.named_parameters(), *d.named_parameters()]:
            if name.endswith(("bias", "noise_strength")):
                p.normal_()
    return g.eval(), d.eval()


def same_networks(path, g, d, **settings):
    z = torch.randn(5, 8)
    labels = [] if g.config["num_classes"] is None else [torch.tensor([0, 1, 2, 0, 1])]
    ours = convert("stylegan2", read_checkpoint(path))
    theirs = convert("stylegan2", read_checkpoint(path, role="discriminator"))
    with torch.no_grad():
        images = g(z, *labels, truncation=0.7)
        assert torch.equal(ours(z, *labels, truncation=0.7), images)
        assert torch.equal(theirs(images, *labels), d(images, *labels))
    for module, own in ((ours, g), (theirs, d)):
        assert {**module.config, **settings} == {**own.config, **settings}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_classes": 3},
        {"conv_clamp": 256.0},
        {"image_size": 14, "g_architecture": "resnet", "d_architecture": "skip"},
        {"g_architecture": "orig", "d_architecture": "orig", "group": 2},
    ],
    ids=["plain", "by class", "clamped", "resnet and skip", "orig"],
)
def test_nvidias_pickles(tmp_path, settings, protocol):
    g, d = networks(**settings)
    content = {"G": nvidia.generator(networks()[0]), "D": nvidia.discriminator(d), "G_ema": nvidia.generator(g)}
    path = nvidia.dump(content | {"training_set_kwargs": nvidia.EasyDict(path="x")}, tmp_path / "n.pkl", protocol)
    # Without classes the layers of their embedding are not there, so their number is not known.
    same_networks(path, g, d, **({} if "num_classes" in settings else {"mapping": 3}))


def test_keys_of_a_pickle(tmp_path):
    g, d = networks()
    other, _ = networks(image_size=32)
    content = {"G": nvidia.generator(other), "D": nvidia.discriminator(d), "G_ema": nvidia.generator(g)}
    path = nvidia.dump(content, tmp_path / "n.pkl")
    assert convert("stylegan2", read_checkpoint(path)).config["image_size"] == 16
    assert convert("stylegan2", read_checkpoint(path, "G")).config["image_size"] == 32
    alone = nvidia.dump(nvidia.generator(g), tmp_path / "alone.pkl")
    assert convert("stylegan2", read_checkpoint(alone)).config["image_size"] == 16


def record(g, **changes):
    """A generator's record, in which some settings of every layer of one class are changed."""
    whole = nvidia.generator(g)
    stack = [whole]
    while stack:
        module = stack.pop()
        module.settings = {**module.settings, **changes.get(module.kind, {})}
        stack += module.modules.values()
    return whole


def broken(g, name):
    whole = record(g)
    synthesis, mapping = whole.modules["synthesis"], whole.modules["mapping"]
    conv1 = synthesis.modules["b4"].modules["conv1"]
    if name == "NaN":
        conv1.tensors["weight"][0, 0, 0, 0] = math.nan
    elif name == "shape":
        conv1.tensors["weight"] = conv1.tensors["weight"][:, :5].clone()
    elif name == "missing":
        del conv1.tensors["bias"]
    elif name == "extra":
        conv1.tensors["more"] = torch.ones(3)
    elif name == "filter":
        conv1.tensors["resample_filter"] = torch.ones(4, 4) / 16
    elif name == "scalar":
        mapping.modules["fc0"].tensors["weight"] = torch.tensor(1.0)
    elif name == "no state":
        synthesis.modules["b4"] = nvidia.EasyDict()
    elif name == "widths":
        conv1.tensors["bias"] = torch.zeros(7)
    return whole


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NaN", "NaN or infinite"),
        ("shape", "has shape"),
        ("missing", "there is no synthesis.b4.conv1.bias"),
        ("extra", "no place for 'synthesis.b4.conv1.more'"),
        ("filter", r"not the filter \[1, 3, 3, 1\]"),
        ("scalar", "has shape|cannot read"),
        ("no state", "record .* cannot be read"),
        ("widths", "no channel_base gives these channels"),
    ],
)
def test_broken_records(tmp_path, name, message):
    path = nvidia.dump({"G_ema": broken(networks()[0], name)}, tmp_path / "n.pkl")
    with pytest.raises(WeightsError, match=message) as caught:
        convert("stylegan2", read_checkpoint(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FullyConnectedLayer": {"lr_multiplier": 0.1}}, "lr_multiplier=0.1, which is not supported"),
        ({"SynthesisLayer": {"activation": "relu"}}, "activation='relu', which is not supported"),
        ({"SynthesisLayer": {"use_noise": False}}, "use_noise=False, which is not supported"),
        ({"SynthesisLayer": {"conv_clamp": "x"}}, "conv_clamp"),
    ],
)
def test_settings_that_are_not_supported(tmp_path, changes, message):
    path = nvidia.dump({"G_ema": record(networks()[0], **changes)}, tmp_path / "n.pkl")
    with pytest.raises(WeightsError, match=message):
        convert("stylegan2", read_checkpoint(path))


def test_stylegan3_and_tensorflow_are_named(tmp_path):
    g, _ = networks()
    whole = nvidia.generator(g)
    whole.modules["synthesis"].modules["input"] = nvidia.Persistent("SynthesisInput", {}, {"freqs": torch.ones(2)})
    with pytest.raises(WeightsError, match="it is a StyleGAN3"):
        convert("stylegan2", read_checkpoint(nvidia.dump({"G_ema": whole}, tmp_path / "sg3.pkl")))
    (tmp_path / "tf.pkl").write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00)\x81q\x01.")
    with pytest.raises(WeightsError, match="TensorFlow"):
        read_checkpoint(tmp_path / "tf.pkl")


def rosinality(g, d):
    """Our networks under the names of stylegan2-pytorch."""
    generator = OrderedDict()
    for i, layer in enumerate(g.mapping.layers):
        generator |= {f"style.{i + 1}.weight": layer.weight, f"style.{i + 1}.bias": layer.bias}
    generator["input.input"] = g.blocks[0].const[None]
    layers = {"conv1": g.blocks[0].same}
    for i, block in enumerate(g.blocks[1:]):
        layers |= {f"convs.{2 * i}": block.up, f"convs.{2 * i + 1}": block.same}
    images = {"to_rgb1": g.blocks[0].draw} | {f"to_rgbs.{i}": block.draw for i, block in enumerate(g.blocks[1:])}
    for i, (name, layer) in enumerate(layers.items()):
        generator[f"{name}.noise.weight"] = layer.noise_strength.reshape(1)
        generator[f"{name}.activate.bias"] = layer.bias
        generator[f"noises.noise_{i}"] = layer.noise_const[None, None]
        if layer.conv.filter:
            generator[f"{name}.conv.blur.kernel"] = 4 * nvidia.FILTER
    for name, layer in images.items():
        generator[f"{name}.bias"] = layer.bias[None, :, None, None]
        if name != "to_rgb1":
            generator[f"{name}.upsample.kernel"] = 4 * nvidia.FILTER
    for name, layer in {**layers, **images}.items():
        generator[f"{name}.conv.weight"] = layer.conv.weight[None]
        for part in ("weight", "bias"):
            generator[f"{name}.conv.modulation.{part}"] = getattr(layer.conv.affine, part)
    first, *_ = d.blocks
    judge = OrderedDict({"convs.0.0.weight": first.read.weight, "convs.0.1.bias": first.read.bias})
    for i, block in enumerate(d.blocks, 1):
        judge |= {f"convs.{i}.conv1.0.weight": block.same.weight, f"convs.{i}.conv1.1.bias": block.same.bias}
        judge |= {f"convs.{i}.conv2.1.weight": block.down.weight, f"convs.{i}.conv2.2.bias": block.down.bias}
        judge |= {f"convs.{i}.skip.1.weight": block.shortcut.weight}
        judge |= {f"convs.{i}.{part}.0.kernel": nvidia.FILTER for part in ("conv2", "skip")}
    judge |= {"final_conv.0.weight": d.conv.weight, "final_conv.1.bias": d.conv.bias}
    for i, layer in enumerate((d.dense, d.score)):
        judge |= {f"final_linear.{i}.weight": layer.weight, f"final_linear.{i}.bias": layer.bias}
    return generator, judge


@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "legacy"])
def test_rosinalitys_checkpoints(tmp_path, zipped):
    torch.manual_seed(0)
    shared = {**SMALL, "image_size": 16, "channels": 3}
    g, d = ganzoo.create(
        "stylegan2", generator={"z_dim": 12, "w_dim": 12, "mapping": 3}, discriminator={"strided": True}, **shared
    )
    with torch.no_grad():
        g.w_mean.normal_()
        g.blocks[1].up.noise_strength.fill_(0.5)
    generator, judge = rosinality(g.eval(), d.eval())
    path = tmp_path / "550000.pt"
    content = {"g": generator, "d": judge, "g_ema": generator, "latent_avg": g.w_mean, "args": argparse.Namespace(lr=1)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    z = torch.randn(4, 12)
    ours = convert("stylegan2", read_checkpoint(path))
    with torch.no_grad():
        images = g(z, truncation=0.5)
        assert torch.equal(ours(z, truncation=0.5), images)
        assert torch.equal(convert("stylegan2", read_checkpoint(path, role="discriminator"))(images), d(images))
    assert ours.config == g.config

    torch.save({"g_ema": generator}, path)
    estimated = convert("stylegan2", read_checkpoint(path))
    with torch.no_grad():
        expected = g.style(torch.randn(10_000, 12))[:, 0]
    assert (estimated.w_mean - expected.mean(0)).abs().max() < 0.1 * expected.std()
