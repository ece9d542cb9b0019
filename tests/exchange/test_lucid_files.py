"""Checkpoints of lucidrains' stylegan2-pytorch: they give the same images and logits here."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ganzoo
from ganzoo import WeightsError
from ganzoo.exchange.checkpoints import read_checkpoint
from ganzoo.exchange.foreign import convert
from ganzoo.exchange.torch_files import read_file
from lucid import StyleGAN2

VARIANTS = {
    "16 pixels": ({}, {"image_size": 16, "z_dim": 10, "mapping": 3, "width": 4, "widest": 8}),
    "attention": ({"attns": (0, 2), "d_attns": (1,)}, {"attention": [0, 2]}),
    "no constant": ({"constant": False}, {"constant": False}),
    "64 pixels": ({"widths": (8, 8, 8, 4, 2), "d_widths": (2, 4, 8, 8, 8, 8)}, {"image_size": 64}),
    "another rate": ({"rate": 1.0}, {"rate": 1.0}),
}


def images_of(foreign, generator, z, noise, psi=1.0):
    """The program's images in [-1, 1] for noise (N, S, S) whose rows are ours."""
    mapping = getattr(foreign, {"GE": "SE", "G": "S"}[generator])
    w = mapping(z)
    mean = mapping(torch.randn(10_000, z.shape[1], generator=torch.Generator().manual_seed(0)).to(z)).mean(0)
    w = mean + psi * (w - mean)
    network = getattr(foreign, generator)
    return 2 * network(w[:, None].expand(-1, len(network.blocks), -1), noise.transpose(1, 2)[..., None]) - 1


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_images_and_logits(workplace, name):
    torch.manual_seed(0)
    variant, settings = VARIANTS[name]
    foreign = StyleGAN2(**variant)
    path = foreign.save(workplace / "model_5.pt")
    foreign.double()
    options = {"rate": variant["rate"]} if "rate" in variant else {}
    for key, generator in ((None, "GE"), ("GAN.G", "G")):
        g = convert("stylegan2_lucid", read_checkpoint(path, key), **options).double()
        assert settings.items() <= g.config.items()
        z, size = torch.randn(3, 10).double(), g.config["image_size"]
        uniform = ganzoo.uniform_of(ganzoo.seeds_of(z), 0, size**2).reshape(3, size, size).double()
        half = torch.full((3, size, size), 0.5).double()
        fields = {"const": g.noise_const.expand(3, -1, -1), "none": half, "random": uniform}
        for noise, field in fields.items():
            for psi in (1.0, 0.6):
                expected = images_of(foreign, generator, z, field, psi)
                assert (g(z, noise=noise, truncation=psi) - expected).abs().max() < 1e-5
        assert expected.std() > 0.1
    assert (foreign.GE.state_dict()["initial_conv.weight"] != foreign.G.state_dict()["initial_conv.weight"]).any()
    d = convert("stylegan2_lucid", read_checkpoint(path, role="discriminator")).double()
    images = torch.rand(5, 3, size, size).double()
    logits = -foreign.D(images)  # the published one is high for generated images
    assert logits.std() > 1e-3
    assert (d(2 * images - 1) - logits).abs().max() < 1e-5


def test_the_command_takes_the_averages_and_the_discriminator(workplace, ganzoo_cli, monkeypatch):
    torch.manual_seed(0)
    foreign = StyleGAN2()
    foreign.D_cl = nn.Module()  # another module that wraps the discriminator, with --cl-reg
    foreign.D_cl.net, foreign.D_cl.projector = foreign.D, nn.Linear(2, 2)
    foreign.save("model_5.pt")
    reads = []

    def counted(path):
        reads.append(path.name)
        return read_file(path)

    monkeypatch.setattr("ganzoo.exchange.checkpoints.read_file", counted)
    code, _, err = ganzoo_cli("import", "stylegan2_lucid", "model_5.pt", "--discriminator", "-o", "./mine")
    assert code == 0, err
    assert reads == ["model_5.pt"]
    assert ganzoo_cli("verify", "./mine")[0] == 0
    assert "key `GAN.GE`" in (workplace / "mine" / "README.md").read_text()
    g, z = ganzoo.from_pretrained("./mine"), torch.randn(2, 10)
    with torch.no_grad():
        expected = images_of(foreign, "GE", z, g.noise_const.expand(2, -1, -1))
        assert torch.allclose(g(z), expected, atol=1e-5)
    code, _, err = ganzoo_cli("import", "stylegan2_lucid", "model_5.pt", "--key", "GAN.G", "-o", "./other")
    assert code == 0, err
    assert not torch.equal(ganzoo.from_pretrained("./other")(z), g(z))
    code, _, err = ganzoo_cli("import", "stylegan2", "model_5.pt", "-o", "./wrong")
    assert (code, err.count("\n")) == (1, 1)
    assert "import it as stylegan2_lucid" in err
    code, _, err = ganzoo_cli("import", "stylegan2_lucid", "model_5.pt", "--key", "G", "-o", "./wrong")
    assert "--key can be 'GAN.G', 'GAN.GE'" in err


def test_a_bare_state_dict(workplace):
    """As the first versions saved it, and as safetensors, where each discriminator is stored."""
    torch.manual_seed(0)
    foreign = StyleGAN2()
    torch.save(foreign.state_dict(), "model_5.pt")
    own = {name: tensor.clone() for name, tensor in foreign.state_dict().items()}
    save_file(own, "model_5.safetensors")
    z = torch.zeros(1, 10) + 1
    bare, safe = (
        convert("stylegan2_lucid", read_checkpoint(workplace / f"model_5.{end}")) for end in ("pt", "safetensors")
    )
    with torch.no_grad():
        assert torch.equal(bare(z), safe(z))
    assert (
        convert("stylegan2_lucid", read_checkpoint(workplace / "model_5.pt", role="discriminator")).config["width"] == 4
    )
    with pytest.raises(WeightsError, match=r"holds 2 state dicts that may be the discriminator's: save its state_dict"):
        read_checkpoint(workplace / "model_5.safetensors", role="discriminator")


def refused(foreign, role="generator", key=None, **changes):
    path = foreign.save("model_5.pt", **{name.replace("__", "."): tensor for name, tensor in changes.items()})
    with pytest.raises(WeightsError) as caught:
        convert("stylegan2_lucid", read_checkpoint(path, key, role=role))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_networks_are_refused():
    plain = StyleGAN2()
    one = torch.ones(1)
    assert "its images are transparent" in refused(StyleGAN2(colours=4))
    assert "it quantises feature maps (fq_layers)" in refused(
        plain, "discriminator", D__quantize_blocks__1__fn__embed=one, D_aug__D__quantize_blocks__1__fn__embed=one
    )
    assert "early versions of stylegan2-pytorch, without blur" in refused(
        plain, GE__blocks__0__to_rgb__upsample__1__f=None
    )
    assert "attention is that of an early version" in refused(plain, GE__attns__1__0__fn__fn__to_k__weight=one)
    assert "there is no initial_conv" in refused(plain, GE__initial_conv__weight=None)
    assert "is not the filter [1, 2, 1]" in refused(plain, GE__blocks__0__to_rgb__upsample__1__f=torch.ones(3))
    assert "no place for 'SE.net.9.scale'" in refused(plain, SE__net__9__scale=one)
    assert "no place for 'blocks.1.more'" in refused(plain, GE__blocks__1__more=one)
    assert "nothing fills 'blocks.1.layers.0.bias'" in refused(plain, GE__blocks__1__to_noise1__bias=None)
    assert "there is no SE.net.2.bias" in refused(plain, SE__net__2__bias=None)
    assert "its 4 blocks are not numbered from 0 on" in refused(plain, GE__blocks__7__conv1__weight=one)
    assert "do not halve" in refused(StyleGAN2(widths=(8, 4, 4)))
    assert "do not double" in refused(StyleGAN2(d_widths=(4, 4, 8, 8)), "discriminator")
    torch.save({"GE": plain.GE.state_dict()}, "model_5.pt")
    with pytest.raises(WeightsError, match=r"no mapping network SE.net. beside the generator: import the whole"):
        convert("stylegan2_lucid", read_checkpoint("model_5.pt"))
    with pytest.raises(WeightsError, match="rate must be above 0, not 0"):
        convert("stylegan2_lucid", read_checkpoint(plain.save("model_5.pt")), rate=0)
