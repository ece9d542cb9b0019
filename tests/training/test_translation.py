"""Training with inputs: the batches, what a run folder shows and keeps, exact resume, two processes, and publishing."""

import contextlib
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import ganzoo
from ganzoo import CheckError, ConfigError, SampleError
from ganzoo.sampling.draw import piece
from ganzoo.sampling.translate import translate
from ganzoo.store.models import verify
from ganzoo.store.runs import load_newest
from ganzoo.testing import check_architecture
from ganzoo.training.build import build_players, load_data
from ganzoo.training.objective import Batch

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins" / "example_inputs"))
example = import_module("ganzoo_example_inputs")
model = import_module("ganzoo_example_inputs.model")


class Normed(model.Generator):  # type: ignore[name-defined]
    """With BatchNorm, whose statistics have to be estimated from inputs, and with a call option."""

    multiple = 4

    def __init__(self, z_dim=8, image_size=28, channels=1, input_channels=1, width=32):
        super().__init__(z_dim, image_size, channels, input_channels, width)
        self.encode.append(nn.BatchNorm2d(width))

    def forward(self, z, *, inputs, strength=1.0):
        return strength * super().forward(z, inputs=inputs)


class Deaf(model.Discriminator):  # type: ignore[name-defined]
    def forward(self, images, *, inputs):
        return super().forward(images, inputs=torch.zeros_like(inputs))


class Plugin:
    @ganzoo.hookimpl
    def register_architectures(self, register):
        objective = "ganzoo_example_inputs.model:Nearby"
        register("normed", generator=Normed, discriminator=model.Discriminator, objective=objective)
        register("deaf", generator=model.Generator, discriminator=Deaf, objective=objective)


@contextlib.contextmanager
def registered():
    for plugin in (example, Plugin()):
        ganzoo.register(plugin)
    yield
    for name in ("ganzoo_example_inputs", "Plugin"):
        ganzoo.unregister(name)


@pytest.fixture(autouse=True)
def plugins():
    with registered():
        yield


def config(architecture="normed", **settings):
    common = {"inputs": "edges", "batch_size": 8, "log_every": 2, "sample_every": 4, "checkpoint_every": 2}
    return ganzoo.TrainConfig(architecture, **{**common, "steps": 4, "generator": {"width": 8}, **settings})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with registered():
        return ganzoo.train(config(out=str(tmp_path_factory.mktemp("run") / "run")))


def test_the_networks_get_the_inputs_of_the_batch():
    settings = config("example_inputs", inputs="smaller=2", channels=3, image_size=32)
    data = load_data(settings)
    players = build_players(settings, data)
    assert players.g.config["input_channels"] == 3
    x, inputs = torch.randn(4, 3, 32, 32), torch.randn(2, 3, 16, 16)
    batch = Batch(x[:2], torch.randn(2, 8), 0, None, inputs=inputs)
    expected = players.g(batch.z, inputs=inputs)
    assert torch.equal(batch.fake(players.g), expected)
    twice = torch.cat([inputs, inputs])
    assert torch.equal(batch.judge(players.d)(x), players.d(x, inputs=twice))
    assert torch.equal(batch.judge(players.d._call_impl)(x), players.d(x, inputs=twice))


def test_a_run_shows_and_keeps_the_same_inputs(run):
    (picture,) = (run.folder / "samples").glob("*.png")
    checkpoint = load_newest(run.folder)
    examples = checkpoint.part("examples")
    assert examples["inputs"].shape == examples["targets"].shape == (16, 1, 28, 28)
    sheet = np.asarray(Image.open(picture))
    cell = sheet[2:30, 2:30], sheet[2:30, 62:90]  # input, output, target
    assert np.array_equal(cell[0], examples["inputs"][0, 0].numpy())
    assert np.array_equal(cell[1], examples["targets"][0, 0].numpy())


def test_resuming_is_exact(workplace):
    whole = ganzoo.train(config(out="whole", flip=True))
    ganzoo.train(config(out="parts", flip=True, steps=2))
    resumed = ganzoo.train(config(out="parts", flip=True), resume=True)
    for name, tensor in whole.generator.state_dict().items():
        assert torch.equal(tensor, resumed.generator.state_dict()[name]), name
    recorded = Path("parts/training.json")
    recorded.write_text(recorded.read_text().replace('"inputs": "edges"', '"inputs": "grey"'))
    with pytest.raises(ConfigError, match="has changed since the run"):
        ganzoo.train(config(out="parts", flip=True, inputs="grey", steps=6), resume=True)


def test_statistics_are_those_of_translated_inputs(run):
    """BatchNorm's mean in the averaged generator is that of inputs of the data, not of noise or zeros."""
    data = load_data(run.config)
    g = run.generator
    given = data.inputs[:2000].float() / 127.5 - 1
    with torch.no_grad():
        features = nn.Sequential(*list(g.encode)[:-1])(given)
    expected = features.mean((0, 2, 3))
    assert torch.allclose(g.encode[-1].running_mean, expected, atol=0.02)


def test_a_model_folder_is_verified_with_its_inputs(run, workplace):
    folder = ganzoo.save_pretrained(run, "model", license="mit")
    golden = load_file(folder / "test.safetensors")
    assert golden["inputs"].shape == (4, 1, 28, 28)
    assert verify(folder)["difference"] == 0
    g = ganzoo.from_pretrained("./model")
    images = ganzoo.sample(g, inputs=golden["inputs"])
    assert torch.equal(images, golden["images"])
    assert torch.equal(ganzoo.sample(g, inputs=golden["inputs"], strength=0.5), 0.5 * images)
    assert (folder / "samples.png").is_file()
    card = (folder / "README.md").read_text()
    assert "pipeline_tag: image-to-image" in card
    assert "--inputs edges" in card


def test_samples_of_a_seed_do_not_depend_on_their_number(run):
    inputs = load_data(run.config).inputs[:70]
    both = ganzoo.sample(run.generator, inputs=inputs, seed=3)
    assert torch.equal(ganzoo.sample(run.generator, inputs=inputs[:5], seed=3), both[:5])
    assert torch.equal(ganzoo.sample(run.generator, 5, 3, inputs=inputs[:1])[0], both[0])
    assert not torch.equal(ganzoo.sample(run.generator, 2, 3, inputs=inputs[:1])[1], both[0])
    floats = inputs.float() / 127.5 - 1
    assert torch.allclose(ganzoo.sample(run.generator, inputs=floats, seed=3), both, atol=1e-5)


def test_large_inputs_go_in_smaller_pieces():
    sizes = [piece(torch.empty(1, 3, side, side)) for side in (28, 64, 128, 256, 512, 2048)]
    assert sizes == [64, 64, 16, 4, 1, 1]


def test_any_size_is_continued_to_a_multiple():
    g = Normed(image_size=32).eval()
    g.config = {"z_dim": 8, "input_channels": 1, "image_size": 32}
    g.decode[2] = nn.Upsample(scale_factor=2)
    images = torch.rand(2, 1, 30, 21) * 2 - 1
    made = translate(g, images, 3, seed=1)
    assert made.shape == (6, 1, 30, 21)
    padded = nn.functional.pad(images, (0, 3, 0, 2), mode="replicate")
    whole = ganzoo.sample(g, inputs=padded.repeat_interleave(3, 0), seed=1)
    assert torch.equal(made, whole[:, :, :30, :21])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 4}, "this generator translates: give it inputs"),
        ({"inputs": torch.zeros(4, 3, 28, 28)}, r"takes inputs of shape \(N, 1, H, W\), not \(4, 3, 28, 28\)"),
        ({"n": 3, "inputs": torch.zeros(4, 1, 28, 28)}, "there are 4 inputs for 3 samples"),
        ({}, "n is missing"),
    ],
)
def test_inputs_that_do_not_fit_a_generator(run, arguments, message):
    with pytest.raises(SampleError, match=message):
        ganzoo.sample(run.generator, **arguments)


def test_generators_from_latents_alone_take_no_inputs():
    g, _ = ganzoo.create("vanilla")
    with pytest.raises(SampleError, match="translates nothing"):
        ganzoo.sample(g, inputs=torch.zeros(4, 1, 28, 28))


def test_latent_tools_refuse_a_translator(run):
    for call in (
        lambda: ganzoo.latents(run.generator, [1]),
        lambda: next(ganzoo.sampling.walk(run.generator, 1, 4)),
        lambda: ganzoo.directions(run.generator),
    ):
        with pytest.raises(SampleError, match="is for generators that start from latents alone"):
            call()


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        ("normed", {"inputs": None}, "normed translates inputs into images, and there are none: add --inputs edges"),
        ("dcgan", {"generator": {}}, "dcgan takes no inputs: leave --inputs out"),
        ("normed", {"data_options": {"paired": False}}, "judges pairs: leave data.paired=false out"),
        ("normed", {"pack": 2}, "a pack would hold items of several inputs"),
        ("normed", {"augment": ["color"]}, "would move items away from the inputs"),
    ],
)
def test_settings_that_do_not_go_with_inputs(architecture, settings, message):
    own = config(architecture, **settings)
    with pytest.raises(ConfigError, match=message):
        build_players(own, load_data(own))


@pytest.mark.parametrize("inputs", ["masked", "smaller=4"])
def test_the_kit_accepts_translators(inputs):
    check_architecture("normed", inputs=inputs, width=4)


def test_the_kit_says_what_is_missing():
    with pytest.raises(CheckError, match="translates inputs into images, and there are none"):
        check_architecture("normed", width=4)
    with pytest.raises(CheckError, match="the discriminator of deaf returns the same whatever its inputs"):
        check_architecture("deaf", inputs="edges", width=4)
