"""Networks of mimicry and StudioGAN: those of their layouts give the same images and logits here."""

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm

import ganzoo
from ganzoo import WeightsError
from ganzoo.exchange.checkpoints import read_checkpoint
from ganzoo.exchange.foreign import convert
from ganzoo.testing import check_architecture
from residual import (
    DeepConv,
    Mimicry,
    MimicryDiscriminator,
    StudioDiscriminator,
    StudioGAN,
    StudioNorm,
    trained,
)

GENERATORS = {
    "mimicry, 32 pixels": (lambda: Mimicry([8, 8, 8, 8]), {"image_size": 32, "upsample": "bilinear"}),
    "mimicry, 48 pixels": (lambda: Mimicry([16, 8, 4, 2], side=6), {"image_size": 48}),
    "mimicry, 128 pixels": (lambda: Mimicry([16, 16, 8, 4, 2, 1]), {"image_size": 128}),
    "mimicry by class": (lambda: Mimicry([8, 8, 8, 8], num_classes=3), {"num_classes": 3}),
    "StudioGAN, 32 pixels": (lambda: StudioGAN([8, 8, 8, 8]), {"image_size": 32, "upsample": "nearest"}),
    "StudioGAN, 64 pixels": (lambda: StudioGAN([16, 8, 4, 2, 1]), {"image_size": 64}),
    "StudioGAN by class, at first": (lambda: StudioGAN([8, 8, 8, 8], 3), {"num_classes": 3}),
    "StudioGAN by class, later": (lambda: StudioGAN([16, 8, 4, 2, 1], 5, linear=True), {"num_classes": 5}),
    "StudioGAN, deep_conv": (lambda: DeepConv([16, 8, 4, 3]), {"image_size": 32, "width": 4, "fine": 3}),
}


def save(name, module, path="net.pth"):
    """A checkpoint as the two programs write it. Its keys do not say whose network it is."""
    beside = {"optimizer": {"state": {}}, "seed": 0, "run_name": "x", "best_fid": 5.5, "ada_p": None}
    content = {"state_dict": module.state_dict(), "step": 100000, **beside}
    if name.startswith("mimicry"):
        content = {"model_state_dict": module.state_dict(), "global_step": 5, "optimizer_state_dict": {"state": {}}}
    torch.save(content, path)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_same_images(workplace, name):
    build, settings = GENERATORS[name]
    foreign = trained(build()).eval()
    save(name, foreign)
    g = convert("dcgan" if "deep_conv" in name else "sngan", read_checkpoint(workplace / "net.pth"))
    labels = [] if g.config["num_classes"] is None else [torch.tensor([1, 0, 2])]
    z = torch.randn(3, 6, dtype=torch.float64)
    with torch.no_grad():
        images = foreign.double()(z, *labels)
        assert images.std() > 0.01
        assert (g.double()(z, *labels) - images).abs().max() < 1e-5
    assert g.config["image_size"] == images.shape[2]
    assert settings.items() <= g.config.items()


DISCRIMINATORS = {
    "mimicry, 32 pixels": (lambda: MimicryDiscriminator([8] * 4, 2, 5), {"image_size": 32, "flat": 2}),
    "mimicry, 48 pixels": (lambda: MimicryDiscriminator([2, 4, 8, 16, 32], 1, 5), {"image_size": 48, "flat": 1}),
    "mimicry, 64 pixels": (lambda: MimicryDiscriminator([2, 4, 8, 16, 32], 0, 6), {"image_size": 64, "flat": 0}),
    "mimicry, 128 pixels": (lambda: MimicryDiscriminator([1, 2, 4, 8, 16, 16], 1, 7), {"image_size": 128}),
    "mimicry by class": (lambda: MimicryDiscriminator([8] * 4, 2, 5, num_classes=3), {"num_classes": 3}),
    "StudioGAN, 32 pixels": (lambda: StudioDiscriminator([8] * 4, 2), {"image_size": 32, "flat": 2}),
    "StudioGAN, 64 pixels": (lambda: StudioDiscriminator([2, 4, 8, 16, 16], 1), {"image_size": 64, "flat": 1}),
    "StudioGAN, 128 pixels": (lambda: StudioDiscriminator([1, 2, 4, 8, 16, 16], 1), {"image_size": 128}),
    "StudioGAN by class": (lambda: StudioDiscriminator([1, 2, 4, 8, 16], 1, 3), {"num_classes": 3, "inner": "outputs"}),
}


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_the_same_logits(workplace, name):
    build, settings = DISCRIMINATORS[name]
    foreign = trained(build())
    size = settings.get("image_size", 32 if "mimicry" in name else 64)
    images = torch.randn(3, 3, size, size).tanh()
    labels = [torch.tensor([1, 0, 2])] if "class" in name else []
    with torch.no_grad():
        for _ in range(3):  # singular vectors on their way, of which evaluation takes those that there are
            foreign.train()(images.clone(), *labels)
        foreign.eval()
        save(name, foreign)
        d = convert("sngan", read_checkpoint(workplace / "net.pth", role="discriminator")).double()
        images = images.double()
        logits = foreign.double()(images.clone(), *labels).flatten()
        assert logits.std() > 1e-3
        assert (d(images, *labels) - logits).abs().max() < 1e-5
    assert {**settings, "rectified": True}.items() <= d.config.items()


def test_both_networks_from_two_files(workplace, ganzoo_cli):
    torch.manual_seed(0)
    save("mimicry", Mimicry([16, 8, 4, 2], side=6), "netG.pth")
    save("mimicry", MimicryDiscriminator([2, 4, 8, 16, 32], 1, 5), "netD.pth")
    command = ("import", "sngan", "netG.pth", "-o", "mine")
    code, _, err = ganzoo_cli(*command, "--discriminator")
    assert (code, err.count("\n")) == (1, 1)
    assert "netG.pth holds one network alone: name the discriminator's by --discriminator-file" in err
    code, _, err = ganzoo_cli(*command, "--discriminator-file", "netD.pth")
    assert code == 0, err
    assert ganzoo_cli("verify", "./mine")[0] == 0
    assert '"file": "netD.pth"' in (workplace / "mine" / "training.json").read_text()
    code, _, err = ganzoo_cli(
        "train", "sngan", "--from", "./mine", "--image-size", "48", "--channels", "3", "--dry-run"
    )
    assert code == 0, err
    save("mimicry", MimicryDiscriminator([2, 4, 8, 16, 32], 0, 6), "netD.pth")
    code, _, err = ganzoo_cli("import", "sngan", "netG.pth", "--discriminator-file", "netD.pth", "-o", "other")
    assert (code, err.count("\n")) == (1, 1)
    assert "has image_size=64 according to its weights, not 48" in err
    assert not (workplace / "other").exists()


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


def refused(architecture, tensors, role="generator"):
    torch.save(tensors, "net.pth")
    with pytest.raises(WeightsError) as caught:
        convert(architecture, read_checkpoint("net.pth", role=role))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_generators_are_refused():
    tensors = Mimicry([8, 8, 8, 8]).state_dict()
    assert "there is no c5.weight" in refused("sngan", without(tensors, "c5.weight"))
    assert "no place for 'block3.more'" in refused("sngan", {**tensors, "block3.more": torch.ones(1)})
    assert "nothing fills" in refused("sngan", without(tensors, "block3.c2.bias"))
    assert "there is no l1.weight" in refused("sngan", {"0.weight": torch.ones(2, 2)})
    assert "they should be" in refused("sngan", Mimicry([8, 8, 4, 4]).state_dict())
    studio, deep = StudioGAN([8, 8, 8, 8]).state_dict(), DeepConv([16, 8, 4, 3]).state_dict()
    attention = {"blocks.2.0.conv1x1_theta.weight": torch.ones(1, 8, 1, 1)}
    assert "self-attention" in refused("sngan", studio | attention)
    assert "self-attention" in refused("dcgan", deep | attention)
    assert "it is StudioGAN's deep_conv: import it as dcgan" in refused("sngan", deep)
    assert "it is StudioGAN's resnet: import it as sngan" in refused("dcgan", studio)
    normed = DeepConv([16, 8, 4, 3])
    spectral_norm(normed.linear0)
    assert "spectral normalisation" in refused("dcgan", normed.state_dict())
    by_class = DeepConv([16, 8, 4, 3], lambda channels: StudioNorm(channels, 3, linear=True))
    assert "BatchNorms depend on the class" in refused("dcgan", by_class.state_dict())
    assert "there is no conv4.weight" in refused("dcgan", without(deep, "conv4.weight"))
    assert "there is no blocks.0.0.deconv0" in refused(
        "dcgan", {"linear0.weight": torch.ones(2, 2), **{name: deep[name] for name in ("linear0.bias", "conv4.weight")}}
    )
    assert "nothing fills 'layers.10.bias'" in refused("dcgan", without(deep, "conv4.bias"))
    assert "no place for 'blocks.0.0.more'" in refused("dcgan", {**deep, "blocks.0.0.more": torch.ones(1)})


def test_other_discriminators_are_refused():
    mimicry = MimicryDiscriminator([8] * 4, 2, 5).state_dict()
    studio = StudioDiscriminator([2, 4, 8, 16, 16], 1).state_dict()
    role = "discriminator"
    plain = {name.replace("weight_orig", "weight"): t for name, t in mimicry.items() if name[-2:] not in ("_u", "_v")}
    assert "with spectral normalisation" in refused("sngan", plain, role)
    assert "no place for 'l_r.weight'" in refused("sngan", {**mimicry, "l_r.weight": torch.ones(4, 8)}, role)
    classes = {"linear2.weight_orig": torch.ones(10, 16)}
    assert "it classifies images besides (linear2)" in refused("sngan", {**studio, **classes}, role)
    attention = {"blocks.1.0.conv1x1_theta.weight_orig": torch.ones(1, 8, 1, 1)}
    assert "self-attention" in refused("sngan", {**studio, **attention}, role)
    assert "nothing fills 'blocks.1.convs.0.parametrizations.weight.0._v'" in refused(
        "sngan", without(mimicry, "block2.c1.weight_v"), role
    )
    hinges = {**studio, "linear1.weight_orig": torch.ones(11, 16), "linear1.bias": torch.ones(11)}
    assert "has shape" in refused("sngan", hinges, role)
    seven = StudioDiscriminator([1, 2, 4, 8, 8, 16, 16], 1).state_dict()
    assert "7 blocks before the layer l8 are those of no published" in refused("sngan", seven, role)
    assert "they should be" in refused("sngan", MimicryDiscriminator([2, 4, 4, 8, 8], 0, 6).state_dict(), role)


def test_settings_of_imported_networks_are_trained_as_well():
    settings = {"width": 4, "inner": "outputs", "rectified": True}
    check_architecture("sngan", image_size=16, channels=3, generator={"width": 4}, discriminator=settings)
    generator = {"width": 4, "affine": True, "fine": 3, "modulated": True, "hidden": 8}
    check_architecture("dcgan", image_size=16, channels=3, generator=generator, width=4)


def test_an_affine_start_without_a_feature_map_of_full_size():
    g, _ = ganzoo.create("dcgan", image_size=16, generator={"width": 4, "affine": True})
    kinds = [type(layer).__name__ for layer in g.layers]
    assert kinds == ["_Project", "ConvTranspose2d", "BatchNorm2d", "ReLU", "ConvTranspose2d", "Tanh"]
    biases = [layer.bias is not None for layer in g.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert biases == [False, False, True]
    with torch.no_grad():
        g.layers[0].offset.normal_()
    x = g.layers[0](torch.zeros(2, 100, 1, 1))
    assert torch.equal(x, g.layers[0].offset.expand_as(x))
