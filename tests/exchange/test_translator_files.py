"""CycleGAN's generators of pytorch-CycleGAN-and-pix2pix: a network of its layout gives the same images here."""

import pytest
import torch

import ganzoo
from ganzoo import WeightsError
from ganzoo.exchange.checkpoints import read_checkpoint
from ganzoo.exchange.foreign import convert
from junyanz import ResnetGenerator, before_pytorch_04


def trained(**settings):
    """Biases that matter, where they do."""
    torch.manual_seed(0)
    foreign = ResnetGenerator(**settings)
    for parameter in foreign.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return foreign.eval()


@pytest.mark.parametrize("name", ["latest_net_G_A.pth", "latest_net_G_B.pth", "latest_net_G.pth"])
@pytest.mark.parametrize("content", [ResnetGenerator.state_dict, before_pytorch_04])
@pytest.mark.parametrize(("inputs", "outputs", "blocks"), [(3, 3, 9), (1, 3, 2)])
def test_the_same_images(workplace, name, content, inputs, outputs, blocks):
    foreign = trained(input_nc=inputs, output_nc=outputs, n_blocks=blocks)
    torch.save(content(foreign), name)
    g = convert("cyclegan", read_checkpoint(workplace / name), image_size=32)
    expected = {"channels": outputs, "input_channels": inputs, "width": 4, "blocks": blocks, "directions": "AB"}
    assert g.config == {**expected, "image_size": 32, "input_size": None}
    images = torch.rand(2, inputs, 24, 32) * 2 - 1
    with torch.no_grad():
        wanted = foreign(images)
    assert wanted.std() > 0.1
    assert torch.allclose(ganzoo.sample(g, inputs=images), wanted, atol=1e-5)


def test_an_imported_direction_is_a_model_like_others(workplace, ganzoo_cli):
    foreign = trained(input_nc=1, output_nc=3)
    torch.save(foreign.state_dict(), "latest_net_G.pth")
    assert ganzoo_cli("import", "cyclegan", "latest_net_G.pth", "--set", "image_size=32", "-o", "./model")[0] == 0
    code, out, _ = ganzoo_cli("verify", "./model")
    assert (code, "files match" in out) == (0, True)
    g = ganzoo.from_pretrained("./model")
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(ganzoo.sample(g, inputs=images), foreign(images), atol=1e-5)
    with pytest.raises(ganzoo.ConfigError, match="direction must be AB, not 'BA'"):
        ganzoo.sample(g, inputs=images.expand(-1, 3, -1, -1), direction="BA")
    config = ganzoo.TrainConfig("cyclegan", inputs="grey", data="sprites", start="./model", out="run")
    with pytest.raises(ganzoo.ConfigError, match="one direction alone cannot be trained"):
        ganzoo.train(config)
    assert not (workplace / "run").exists()


def test_other_networks_are_refused(workplace):
    def refused(tensors):
        torch.save(tensors, "g.pth")
        with pytest.raises(WeightsError) as caught:
            convert("cyclegan", read_checkpoint(workplace / "g.pth"))
        return str(caught.value)

    tensors = ResnetGenerator().state_dict()

    def moved(old, new):
        return {name.replace(old, new): value for name, value in tensors.items()}

    assert "no place for 'model.2.weight'" in refused({**tensors, "model.2.weight": torch.ones(4)})  # BatchNorm
    assert "there is no 1.bias" in refused({k: v for k, v in tensors.items() if k != "model.1.bias"})  # no norm
    assert "conv_block.6.weight" in refused(moved("conv_block.5", "conv_block.6"))  # Dropout
    assert "there is no 10.conv_block.1.weight" in refused(moved("conv_block.1", "conv_block.0"))  # zeros as padding
    assert "nothing fills 'translators.AB.4.weight'" in refused(
        {k: v for k, v in tensors.items() if k != "model.4.weight"}
    )
    assert "there is no 1.weight" in refused({"model.0.weight": torch.ones(2, 2)})
