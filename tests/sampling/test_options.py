"""Call options, estimates of a generator's own, and images that may leave [-1, 1]."""

import numpy as np
import pytest
import torch
from torch import nn

import ganzoo
from ganzoo import SampleError, hookimpl
from ganzoo.exchange.onnx import export_onnx
from ganzoo.sampling.draw import walk
from ganzoo.sampling.options import call_options
from ganzoo.sampling.pictures import to_uint8
from ganzoo.sampling.statistics import estimate_statistics
from ganzoo.testing import check_architecture


class Generator(nn.Module):
    unbounded = True

    def __init__(self, z_dim=4, image_size=28, channels=1, num_classes=None):
        super().__init__()
        self.linear = nn.Linear(z_dim, channels * image_size**2)
        self.embed = None if num_classes is None else nn.Linear(num_classes, z_dim)
        self.shape = (channels, image_size, image_size)
        self.register_buffer("mean", torch.zeros(z_dim))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, z, labels=None, *, scale=1.0, flip=False):
        if labels is not None:
            z = z + self.embed(nn.functional.one_hot(labels, self.embed.in_features).to(z.dtype))
        images = self.linear(z - self.mean).unflatten(1, self.shape) * scale
        return images.flip(3) if flip else images

    def estimate(self, z, labels=None):
        assert (labels is None) == (self.embed is None)
        self.mean.copy_(z.mean(0))
        self.count.fill_(len(z))


class Discriminator(nn.Module):
    def __init__(self, image_size=28, channels=1, num_classes=None):
        super().__init__()
        self.linear = nn.Linear(channels * image_size**2, num_classes or 1)

    def forward(self, images, labels=None):
        logits = self.linear(images.flatten(1))
        return logits[:, 0] if labels is None else (logits * nn.functional.one_hot(labels, logits.shape[1])).sum(1)


class Plugin:
    @hookimpl
    def register_architectures(self, register):
        register("optional", generator=Generator, discriminator=Discriminator)


@pytest.fixture
def optional():
    ganzoo.register(Plugin(), name="optional")
    yield
    ganzoo.unregister("optional")


@pytest.fixture
def g(optional):
    torch.manual_seed(0)
    return ganzoo.create("optional")[0].eval()


def test_options_reach_the_generator(g):
    assert call_options(g) == {"scale": 1.0, "flip": False}
    images = ganzoo.sample(g, 3)
    assert torch.equal(ganzoo.sample(g, 3, scale=0.5), images * 0.5)
    assert torch.equal(ganzoo.sample(g, 3, flip=True), images.flip(3))
    assert torch.equal(ganzoo.sample(g, 3, scale=torch.tensor(2.0)), images * 2)
    frames, doubled = list(walk(g, 2, 3)), list(walk(g, 2, 3, scale=2.0))
    assert all(torch.equal(twice, 2 * frame) for frame, twice in zip(frames, doubled, strict=True))


def test_wrong_options_are_answered(g):
    with pytest.raises(SampleError, match="no option 'scall': did you mean 'scale'"):
        ganzoo.sample(g, 3, scall=0.5)
    for value in ("much", None, True, [1]):
        with pytest.raises(SampleError, match=r"the option scale is a number, such as 1\.0, not"):
            ganzoo.sample(g, 3, scale=value)
    with pytest.raises(SampleError, match="no option 'scale': it has none"):
        ganzoo.sample(ganzoo.create("dcgan")[0], 3, scale=0.5)


def test_a_generator_estimates_what_it_wants(optional):
    for classes in (None, 3):
        g, _ = ganzoo.create("optional", num_classes=classes)
        estimate_statistics(g)
        assert g.count == 1024
        assert g.mean.abs().max() > 0
        assert g.training


def test_unbounded_images_keep_the_contract_and_pixels_are_cut_off(optional, g):
    check_architecture("optional")
    pixels = to_uint8(ganzoo.sample(g, 8, scale=100.0))
    assert set(np.unique(pixels)) >= {0, 255}


def test_numbers_are_inputs_of_the_exported_file(g, tmp_path):
    import json

    import onnxruntime  # type: ignore[import-untyped]

    assert export_onnx(g, tmp_path / "g.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx")
    assert [node.name for node in session.get_inputs()] == ["z", "scale"]
    assert json.loads(session.get_modelmeta().custom_metadata_map["ganzoo.options"]) == {"scale": 1.0}
    z = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
    one, half = (session.run(None, {"z": z, "scale": np.array(s, np.float32)})[0] for s in (1, 0.5))
    assert np.allclose(half, one / 2)


def test_the_command_line(optional, g, ganzoo_cli, tmp_path):
    from ganzoo.store.save import write_model

    write_model(tmp_path / "model", "optional", "x", g, discriminator_config={})
    options = {"a": [], "b": ["--set", "flip=true"], "c": ["--set", "scale=2", "--set", "flip=false"]}
    for name, arguments in options.items():
        ganzoo_cli("sample", "./model", "-n", "3", "-o", f"{name}.npy", *arguments)
    a, b, c = (np.load(f"{name}.npy").astype(int) for name in "abc")
    assert (b == a[:, :, ::-1]).all()
    inside = (c > 0) & (c < 255)
    assert (abs((c - 127.5) - 2 * (a - 127.5))[inside] < 3).all()
