"""The U-Net of pytorch-CycleGAN-and-pix2pix: a network of its layout gives the same images here."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import ganzoo
from ganzoo import WeightsError
from ganzoo.data.photos import Photos
from ganzoo.exchange.checkpoints import read_checkpoint
from ganzoo.exchange.foreign import convert
from ganzoo.sampling.examples import Examples
from junyanz import UnetGenerator


def trained(module):
    """Weights of a size that keeps every level alive, and scales, shifts and statistics that matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(*((-0.5, 0.5) if name.endswith(("bias", "mean")) else (0.5, 1.5)))
    return module


def imported(module, path, **options):
    torch.save(module.state_dict(), path)
    return convert("pix2pix", read_checkpoint(path), **options)


@torch.no_grad()
def same_images(g, module, inputs, z=None):
    z = torch.zeros(len(inputs), g.config["z_dim"]) if z is None else z
    images = g(z, inputs=inputs)
    assert images.std() > 0.05
    return torch.allclose(images, module(inputs), atol=1e-5)


def test_images_are_those_of_its_program_without_eval(workplace):
    """It samples one image at a time in training mode, where BatchNorm has the statistics of that image."""
    unet = trained(UnetGenerator()).train()
    g = imported(unet, workplace / "latest_net_G.pth", dropout=0)
    assert g.config == {
        "z_dim": 8, "image_size": 64, "channels": 3, "input_size": None, "input_channels": 1, "width": 2, "depth": 6,
        "norm": "instance", "dropout": 0, "dropped": [1], "num_classes": None,
    }  # fmt: skip
    for _ in range(2):
        assert same_images(g, unet, torch.randn(1, 1, 64, 64))
    assert same_images(g, unet, torch.randn(1, 1, 128, 64))


def test_images_are_those_of_its_program_with_eval(workplace):
    unet = trained(UnetGenerator()).eval()
    g = imported(unet, workplace / "latest_net_G.pth", norm="batch", dropout=0)
    assert same_images(g, unet, torch.randn(3, 1, 64, 64))


@pytest.mark.parametrize("tracked", [False, True])
def test_networks_with_instance_norm(workplace, tracked):
    """They have biases that the norm takes away, and no scales; those written before PyTorch 0.4 hold statistics that
    are not used."""
    unet = trained(
        UnetGenerator(5, lambda width: nn.InstanceNorm2d(width, track_running_stats=tracked), inputs=3, outputs=1)
    )
    g = imported(unet.train(), workplace / "latest_net_G.pth", dropout=0)
    assert same_images(g, unet, torch.randn(2, 3, 32, 32))
    assert g.config["dropped"] == []


class Masked(nn.Module):
    """Dropout with given masks."""

    def forward(self, x):
        return x * self.kept(x) * 2


def test_dropout_is_where_it_was(workplace):
    unet = trained(UnetGenerator(8, dropout=Masked)).train()
    g = imported(unet, workplace / "latest_net_G.pth")
    assert (g.config["dropout"], g.config["dropped"]) == (0.5, [1, 2, 3])
    z = torch.randn(1, 8)
    layers = [module for module in unet.modules() if isinstance(module, Masked)]
    for layer, number in zip(layers, g.config["dropped"], strict=True):  # the innermost comes first
        layer.kept = lambda x, number=number: g._kept(z, number, x.shape[1:])
    assert same_images(g, unet, torch.randn(1, 1, 256, 256), z)


@pytest.fixture(autouse=True)
def photos(workplace):
    (workplace / "photos").mkdir()
    for name in range(10):
        Image.new("RGB", (40, 50), (20 * name, 90, 160)).save(workplace / "photos" / f"{name}.png")


def test_an_import_is_published_and_sampled(workplace, ganzoo_cli):
    torch.save(trained(UnetGenerator(5)).state_dict(), "latest_net_G.pth")
    code, _, told = ganzoo_cli("import", "pix2pix", "latest_net_G.pth", "-o", "./mine")
    assert code == 0, told
    code, _, err = ganzoo_cli("verify", "./mine")
    assert code == 0, err
    g = ganzoo.from_pretrained("./mine")
    assert ganzoo.sample(g, inputs=torch.zeros(2, 1, 32, 64)).shape == (2, 3, 32, 64)
    assert not Path("mine/samples.png").exists()
    (command,) = re.findall(r"if what `ganzoo (sample \./mine .*)` writes looks wrong", told)
    assert ganzoo_cli(*command.split())[0] == 0


def test_an_import_is_shown_on_pictures(workplace, ganzoo_cli):
    torch.save(trained(UnetGenerator(5)).state_dict(), "latest_net_G.pth")
    command = ("import", "pix2pix", "latest_net_G.pth", "--set", "image_size=32", "--inputs")
    code, _, err = ganzoo_cli(*command, "photos", "-o", "./mine")
    assert (code, "if mine/samples.png looks wrong" in err) == (0, True), err
    grey = torch.stack([pixels for _, pixels in Photos(Path("photos"), 1, square=32)][:8])
    with Image.open("mine/samples.png") as picture:
        assert picture.tobytes() == Examples(grey).picture(ganzoo.from_pretrained("./mine")).tobytes()
    shown = load_file("mine/test.safetensors")["inputs"]
    assert torch.equal(shown, grey[: len(shown)])
    code, out, err = ganzoo_cli(*command, "nowhere", "-o", "./other")
    assert (code, out, "there is no picture, folder or zip nowhere" in err) == (1, "", True)
    assert not Path("other").exists()


def test_other_networks_are_refused(workplace):
    def refused(tensors):
        torch.save(tensors, "g.pth")
        with pytest.raises(WeightsError) as caught:
            convert("pix2pix", read_checkpoint(workplace / "g.pth"))
        return str(caught.value)

    tensors = UnetGenerator(5).state_dict()
    assert "no 1.model.1.weight, as the U-Net" in refused({"0.weight": torch.ones(2, 2)})
    missing = {k: v for k, v in tensors.items() if "3.model.5.weight" not in k}
    assert "as the U-Net of pix2pix has it" in refused(missing)
    assert "no place for 'model.model.4.weight'" in refused({**tensors, "model.model.4.weight": torch.ones(1)})
    assert "has shape" in refused({**tensors, "model.model.3.weight": torch.ones(5, 3, 4, 4)})
