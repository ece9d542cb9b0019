"""ONNX files: they give torch's images, alone and at any batch size, or there is no file."""

import json
import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ganzoo
from ganzoo.exchange.onnx import export_onnx
from ganzoo.sampling.statistics import estimate_statistics

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_sample.py"
MODELS = {
    "vanilla": ("vanilla", {"hidden": 32}),
    "dcgan-28": ("dcgan", {"image_size": 28, "channels": 1, "width": 8}),
    "dcgan-32": ("dcgan", {"image_size": 32, "channels": 3, "width": 8}),
    "dcgan-palette": ("dcgan", {"image_size": 28, "channels": 1, "width": 8, "palette": 4, "skip": True, "hidden": 8}),
    "dcgan-64": ("dcgan", {"image_size": 64, "channels": 3, "width": 4}),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The generator, its file and the difference between them, exported once for all tests."""
    done = {}

    def get(key):
        if key not in done:
            torch.manual_seed(0)
            name, settings = MODELS[key]
            g, _ = ganzoo.create(name, **settings)
            estimate_statistics(g)  # random weights give images of all but nothing with BatchNorm's initial ones
            path = tmp_path_factory.mktemp("export") / "g.onnx"
            done[key] = g.eval(), path, export_onnx(g, path)
        return done[key]

    return get


class Plain(nn.Module):
    """The smallest generator there is; the ones below break it."""

    def __init__(self):
        super().__init__()
        self.config = {"z_dim": 2}
        self.layers = nn.Linear(2, 12)

    def forward(self, z):
        return self.layers(z).view(-1, 3, 2, 2)


class Noisy(Plain):
    def forward(self, z):
        return super().forward(z + torch.randn_like(z))


class Branching(Plain):
    def forward(self, z):
        return super().forward(z if z.sum() > 0 else -z)


class OneBatch(Plain):
    def forward(self, z):
        return self.layers(z).view(5, 3, 2, 2)


class NotFinite(Plain):
    def forward(self, z):
        return super().forward(z) + float("nan")


class Pair(Plain):
    def draw_latent(self, n, rng):
        return rng.randn(n, 2), rng.randint(10, n)


class Labelled(Plain):
    def forward(self, z, labels):
        return super().forward(z)


class Two(Plain):
    def forward(self, z):
        return super().forward(z), z


@pytest.mark.parametrize("key", MODELS)
def test_images_are_those_of_torch(key, exported):
    g, path, difference = exported(key)
    assert 0 <= difference <= 1e-4
    assert [file.name for file in path.parent.iterdir()] == ["g.onnx"]  # weights inside, nothing beside it
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (z,), (images,) = session.get_inputs(), session.get_outputs()
    assert (z.name, z.type, z.shape) == ("z", "tensor(float)", ["N", g.config["z_dim"]])
    size, channels = g.config["image_size"], g.config["channels"]
    assert (images.name, images.type, images.shape) == ("images", "tensor(float)", ["N", channels, size, size])
    for n in (1, 2, 7, 100):
        latents = torch.randn(n, g.config["z_dim"])
        (theirs,) = session.run(None, {"z": latents.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(theirs, g(latents).numpy(), atol=1e-4)
        assert theirs.std() > 0.03
        assert np.abs(theirs).max() <= 1


def test_a_translation_of_inputs(workplace):
    """A direction is no number, so the file has the one that is the default."""
    torch.manual_seed(0)
    g, _ = ganzoo.create("cyclegan", image_size=28, channels=3, input_channels=1, width=4, blocks=1)
    assert export_onnx(g.eval(), workplace / "g.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(workplace / "g.onnx", providers=["CPUExecutionProvider"])
    assert {given.name: given.shape for given in session.get_inputs()} == {"z": ["N", 0], "inputs": ["N", 1, 28, 28]}
    inputs = torch.rand(3, 1, 28, 28) * 2 - 1
    (images,) = session.run(None, {"z": np.zeros((3, 0), np.float32), "inputs": inputs.numpy()})
    np.testing.assert_allclose(images, ganzoo.sample(g, inputs=inputs, direction="AB").numpy(), atol=1e-4)


def test_metadata_says_what_it_is_and_nothing_of_this_machine(exported):
    g, path, _ = exported("dcgan-28")
    metadata = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta()
    assert json.loads(metadata.custom_metadata_map["ganzoo.config"]) == g.config
    assert metadata.custom_metadata_map["ganzoo.version"] == version("ganzoo")
    content = path.read_bytes()
    assert str(Path(ganzoo.__file__).parent.parent).encode() not in content
    assert b"site-packages" not in content
    assert b".py" not in content


def test_the_example_draws_without_torch_and_ganzoo(exported, workplace):
    _, path, _ = exported("dcgan-28")
    alone = "import runpy, sys; sys.modules.update(torch=None, ganzoo=None); sys.argv = sys.argv[1:]; "
    alone += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", alone, EXAMPLE, path, "-n", "10", "--seed", "3", "-o", "grid.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "grid.png\n"
    picture = Image.open(workplace / "grid.png")
    assert (picture.mode, picture.size) == ("L", (4 * 28, 3 * 28))
    assert len(set(picture.tobytes())) > 10


def test_the_generator_random_state_and_screen_stay_as_they_were(workplace, capfd):
    g = nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 3, 4), nn.BatchNorm2d(3), nn.Dropout(0.5))
    g.config = {"z_dim": 4}
    g.double().to(memory_format=torch.channels_last).train()
    g[2].eval()
    weights = {key: value.clone() for key, value in g.state_dict().items()}
    state, disabled = torch.get_rng_state(), logging.root.manager.disable
    assert export_onnx(g, workplace / "new" / "g.onnx") <= 1e-4
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.root.manager.disable == disabled
    assert [module.training for module in g] == [True, True, False, True]
    assert g[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert g[1].weight.dtype == torch.float64
    assert all(parameter.requires_grad for parameter in g.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in g.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_a_file_is_overwritten_only_when_told_so(workplace):
    path = workplace / "g.onnx"
    path.write_text("mine")
    with pytest.raises(ganzoo.ExportError, match="exists already"):
        export_onnx(Plain(), path)
    assert path.read_text() == "mine"
    with pytest.raises(ganzoo.ExportError, match="differ"):
        export_onnx(Noisy(), path, force=True)
    assert path.read_text() == "mine"
    export_onnx(Plain(), path, force=True)
    assert onnxruntime.InferenceSession(path).get_outputs()[0].shape == ["N", 3, 2, 2]
    assert list(workplace.iterdir()) == [path]


class Slightly(Plain):
    """Its file differs by five times the tolerance."""

    def forward(self, z):
        return super().forward(z).tanh() + (5e-4 if torch.compiler.is_exporting() else 0.0)


def test_only_a_sharp_softmax_may_differ_more(workplace):
    g = Slightly()
    with pytest.raises(ganzoo.ExportError, match=r"allowed: 0\.0001"):
        export_onnx(g, workplace / "g.onnx")
    g.layers.sharpness = 24.0
    assert 4e-4 < export_onnx(g, workplace / "g.onnx") < 6e-4


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Noisy, r"differ from torch's by .* draws noise"),
        (NotFinite, "differ from torch's by nan"),
        (Branching, "Branching cannot be exported to ONNX: .*data-dependent"),
        (OneBatch, "OneBatch cannot be exported to ONNX: .*invalid"),
        (Labelled, "Labelled cannot be exported to ONNX: .*labels"),
        (Pair, "Pair cannot be exported to ONNX: .*latents are not one float tensor"),
        (Two, "Two cannot be exported to ONNX: .*not return one tensor"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing_behind(broken, message, workplace, capfd):
    with pytest.raises(ganzoo.ExportError, match=message) as caught:
        export_onnx(broken(), workplace / "g.onnx")
    assert len(str(caught.value).splitlines()) == 1
    assert not list(workplace.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_path_that_cannot_be_written(workplace):
    (workplace / "folder").mkdir()
    with pytest.raises(ganzoo.ExportError, match="cannot be written"):
        export_onnx(Plain(), workplace / "folder", force=True)
    assert list(workplace.iterdir()) == [workplace / "folder"]


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_the_missing_extra_is_named(package, workplace, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ganzoo.ExportError, match=r"pip install 'ganzoo\[onnx\]'"):
        export_onnx(Plain(), workplace / "g.onnx")
    assert not list(workplace.iterdir())
