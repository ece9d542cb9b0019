"""Residual generators of mimicry and StudioGAN: networks of their layouts give the same images here."""

import pytest
import torch

from ganzoo import WeightsError
from ganzoo.exchange.foreign import convert, read_checkpoint
from mimicry import Mimicry, StudioGAN


def trained(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5)
    return module.eval()


NETWORKS = {
    "mimicry, 32 pixels": lambda: Mimicry([8, 8, 8, 8]),
    "mimicry, 48 pixels": lambda: Mimicry([16, 8, 4, 2], side=6),
    "mimicry, 128 pixels": lambda: Mimicry([16, 16, 8, 4, 2, 1]),
    "StudioGAN, 32 pixels": lambda: StudioGAN([8, 8, 8, 8]),
    "StudioGAN, 64 pixels": lambda: StudioGAN([16, 8, 4, 2, 1]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_images(workplace, name):
    foreign = trained(NETWORKS[name]())
    key = "model_state_dict" if "mimicry" in name else "state_dict"
    torch.save({key: foreign.state_dict(), "global_step": 100000, "optimizer_state_dict": {"state": {}}}, "netG.pth")
    g = convert("sngan", read_checkpoint(workplace / "netG.pth"))
    z = torch.randn(3, 6)
    with torch.no_grad():
        images = foreign(z)
        assert torch.allclose(g(z), images, atol=1e-5)
    assert g.config["image_size"] == images.shape[2]
    assert g.config["upsample"] == ("bilinear" if "mimicry" in name else "nearest")


def test_other_networks_are_refused(workplace):
    def refused(tensors):
        torch.save(tensors, "g.pth")
        with pytest.raises(WeightsError) as caught:
            convert("sngan", read_checkpoint(workplace / "g.pth"))
        return str(caught.value)

    tensors = Mimicry([8, 8, 8, 8]).state_dict()
    assert "there is no c5.weight" in refused({k: v for k, v in tensors.items() if k != "c5.weight"})
    assert "no place for 'block3.more'" in refused({**tensors, "block3.more": torch.ones(1)})
    assert "nothing fills" in refused({k: v for k, v in tensors.items() if k != "block3.c2.bias"})
    assert "there is no l1.weight" in refused({"0.weight": torch.ones(2, 2)})
    assert "they should be" in refused(Mimicry([8, 8, 4, 4]).state_dict())
