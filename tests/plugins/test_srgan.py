"""SRGAN: the published networks, its losses, and what it learns about digits."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import interpolate, pixel_shuffle

import ganzoo
from ganzoo import Batch, ConfigError, EvaluationError, Rng, perceptual_distance
from ganzoo.data.loading import load
from ganzoo.evaluation.features import extractor
from ganzoo.evaluation.perceptual import Perceptual
from ganzoo.exchange.onnx import export_onnx
from ganzoo.training.build import build_players
from ganzoo_srgan.model import SRGAN, Generator

SMALL = {"generator": {"width": 4, "blocks": 1}, "discriminator": {"width": 4, "hidden": 8}}
MODEL = "test_efficientnet"


def config(**settings):
    defaults = {"inputs": "smaller=4", "steps": 2, "batch_size": 8, "out": "run", "precision": "fp32", **SMALL}
    return ganzoo.TrainConfig("srgan", **{**defaults, **settings})


def test_the_published_networks():
    """Figure 4: 16 blocks of 64 channels, 9x9 at both ends, two doublings; D of 64, 64, 128, 128, ... 512 channels,
    each second one with stride 2, and fully connected layers of 1,024 and 1."""
    with torch.device("meta"):
        g, d = ganzoo.create("srgan")
        assert g(torch.zeros(2, 0), inputs=torch.zeros(2, 3, 24, 24)).shape == (2, 3, 96, 96)
        assert d(torch.zeros(2, 3, 96, 96)).shape == (2,)
    shapes = [tuple(p.shape) for p in g.parameters() if p.dim() == 4]
    middle = [(64, 64, 3, 3)] * (2 * 16 + 1)
    assert shapes == [(64, 3, 9, 9), *middle, *[(256, 64, 3, 3)] * 2, (3, 64, 9, 9)]
    assert sum(isinstance(m, nn.PReLU) for m in g.modules()) == 1 + 16 + 2
    assert sum(isinstance(m, nn.BatchNorm2d) for m in g.modules()) == 2 * 16 + 1
    convolutions = [layer for layer in d.layers if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [layer.stride[0] for layer in convolutions] == [1, 2] * 4
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in d.layers) == 7
    linear = [tuple(layer.weight.shape) for layer in d.layers if isinstance(layer, nn.Linear)]
    assert linear == [(1024, 512 * 6 * 6), (1, 1024)]


@torch.no_grad()
def test_the_generator_adds_its_blocks_and_doubles_by_shuffling():
    torch.manual_seed(0)
    g = Generator(image_size=16, channels=2, input_size=8, input_channels=1, width=4, blocks=2).eval()
    inputs = torch.randn(3, 1, 8, 8)
    start = g.start(inputs)
    x = start
    for block in g.blocks[:2]:
        first, norm, prelu, second, again = block.layers
        x = x + again(second(prelu(norm(first(x)))))
    convolution, norm = g.blocks[2:]
    x = start + norm(convolution(x))
    wide, shuffle, prelu, end = g.enlarge
    expected = end(prelu(pixel_shuffle(wide(x), 2)))
    assert isinstance(shuffle, nn.PixelShuffle)
    assert torch.allclose(g(torch.zeros(3, 0), inputs=inputs), expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_factors_and_sizes(factor):
    g = Generator(image_size=16 * factor, channels=1, input_size=16, input_channels=1, width=2, blocks=1).eval()
    g.config = {"z_dim": 0, "input_channels": 1}
    for size in ((16, 16), (5, 9), (1, 1)):
        images = ganzoo.sample(g, inputs=torch.zeros(2, 1, *size))
        assert images.shape == (2, 1, factor * size[0], factor * size[1])


@pytest.mark.parametrize("settings", [{"inputs": "edges"}, {"inputs": "edges", "image_size": 16}], ids=str)
def test_inputs_that_are_not_smaller_are_refused(settings):
    with pytest.raises(ConfigError, match=r"srgan enlarges inputs 2, 4, 8, ... times.*: take --inputs smaller=4"):
        ganzoo.train(config(**settings))


@pytest.mark.parametrize("input_size", [10, 11, 7, 30, 60])
def test_other_factors_are_refused(input_size):
    with pytest.raises(ConfigError, match=f"these have {input_size} pixels a side for images of 30"):
        Generator(image_size=30, input_size=input_size)


@pytest.mark.parametrize("size", [8, 14, 28, 32, 50, 96, 128])
def test_the_discriminator_takes_any_size(size):
    with torch.device("meta"):
        _, d = ganzoo.create("srgan", image_size=size, width=8)
        assert d(torch.zeros(2, 3, size, size)).shape == (2,)
    side = next(layer.in_features for layer in d.layers if isinstance(layer, nn.Linear))
    widest = [layer.out_channels for layer in d.layers if isinstance(layer, nn.Conv2d)][-1]
    assert widest <= 64
    assert 4 <= (side / widest) ** 0.5 <= 7


# The objective


def parts(**options):
    torch.manual_seed(0)
    data = load("digits", image_size=16, inputs="smaller=4")
    players = build_players(config(image_size=16, objective_options=options), data)
    real, inputs = (x[:4].float() / 127.5 - 1 for x in (data.items, data.inputs[:]))
    return players.g, players.d, players.objective, Batch(real, torch.zeros(4, 0), 0, Rng(0, 0, "g"), inputs=inputs)


@pytest.mark.parametrize(
    "options", [{}, {"pixel": 0.5, "adversarial": 2.0, "perceptual": 0.3, "features": "mnist"}, {"adversarial": 0.0}]
)
def test_the_loss_is_a_sum(options):
    g, d, objective, batch = parts(**options)
    loss, logs = objective.generator_loss(g, d, batch)
    weights = {"pixel": 1.0, "adversarial": 1e-3, "perceptual": 0.0, **options}
    fake = batch.fake(g)
    expected = weights["pixel"] * (fake - batch.real).square().mean()
    expected = expected + weights["adversarial"] * nn.functional.softplus(-d(fake)).mean()
    assert logs["pixel"].item() == pytest.approx((fake - batch.real).square().mean().item(), rel=1e-4)
    assert ("g_loss" in logs) == (weights["adversarial"] > 0)
    assert ("perceptual" in logs) == (weights["perceptual"] > 0)
    if weights["perceptual"]:
        distance = perceptual_distance("mnist")(fake, batch.real).mean()
        assert logs["perceptual"].item() == pytest.approx(distance.item(), rel=1e-4)
        expected = expected + weights["perceptual"] * distance
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_perceptual_distance_is_computed_in_full_precision():
    g, d, objective, batch = parts(perceptual=0.3, features="mnist")
    with torch.autocast("cpu", torch.bfloat16):
        logs = objective.generator_loss(g, d, batch)[1]
    assert batch.fakes.dtype == torch.bfloat16
    distance = perceptual_distance("mnist")(batch.fakes.float(), batch.real).mean()
    assert logs["perceptual"].item() == pytest.approx(distance.item(), rel=1e-6)


@pytest.mark.parametrize("role", ["pixel", "adversarial", "perceptual"])
def test_each_loss_teaches_the_generator(role):
    options = {"pixel": 0.0, "adversarial": 0.0, "perceptual": 0.0, "features": "mnist", role: 1.0}
    g, d, objective, batch = parts(**options)
    objective.generator_loss(g, d, batch)[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in g.parameters())
    assert g.start[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel": -1.0}, r"objective\.pixel must be at least 0"),
        ({"adversarial": -1e-3}, r"objective\.adversarial must be at least 0"),
        ({"perceptual": -1.0}, r"objective\.perceptual must be at least 0"),
        ({"pixel": 0.0, "adversarial": 0.0}, "are all 0"),
    ],
)
def test_weights_that_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        parts(**options)


def test_features_that_are_refused_before_training(workplace):
    for features in ("inception", f"timm:{MODEL}=nowhere.safetensors"):
        with pytest.raises(EvaluationError, match=r"perceptual distance takes|nowhere"):
            ganzoo.train(config(objective_options={"perceptual": 1.0, "features": features}))
    assert not (workplace / "run").exists()
    assert SRGAN(None, features="inception").distance is None  # of weight 0: nothing is loaded


def test_unpaired_data_is_refused():
    with pytest.raises(
        ConfigError, match=r"srgan compares images with those of their inputs: leave data.paired=false out"
    ):
        ganzoo.train(config(data_options={"paired": False}))


# Training


def test_a_perceptual_training_publishes_nothing_of_this_machine(workplace):
    save_file(timm.create_model(MODEL).state_dict(), workplace / "weights.safetensors")
    features = f"timm:{MODEL}={workplace / 'weights.safetensors'}"
    run = ganzoo.train(config(image_size=16, objective_options={"perceptual": 0.1, "features": features}))
    assert run.metrics["perceptual"] > 0
    recorded = json.loads((run.folder / "training.json").read_text())
    assert recorded["config"]["objective_options"]["features"] == features  # to resume it
    published = json.loads((run.folder / "model" / "training.json").read_text())
    assert published["config"]["objective_options"] == {"perceptual": 0.1, "features": f"timm:{MODEL}"}


def test_a_trained_generator_is_exported_without_latents(workplace):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = ganzoo.train(config(image_size=16))
    assert run.generator.config["z_dim"] == 0
    assert 0 <= export_onnx(run.generator, workplace / "g.onnx") <= 1e-4


def test_the_recipes():
    paper = ganzoo.TrainConfig("srgan", recipe="paper")
    assert (paper.batch_size, paper.lr, paper.betas) == (16, 1e-4, [0.9, 0.999])
    assert paper.generator == {"width": 64, "blocks": 16}
    assert not ganzoo.TrainConfig("srgan").objective_options.get("perceptual")  # nothing to download
    assert ganzoo.TrainConfig("srgan", recipe="digits").objective_options["features"] == "mnist"


def flip_the_perceptual_distance(monkeypatch):
    true = Perceptual.forward
    monkeypatch.setattr(Perceptual, "forward", lambda self, a, b: -true(self, a, b))


@pytest.mark.slow
@pytest.mark.parametrize("broken", [None, flip_the_perceptual_distance])
def test_a_minute_of_training_sharpens_digits_unless_something_is_broken(broken, monkeypatch):
    """On held-out digits, against bicubic interpolation: the distance of the classifier's features, and the PSNR."""
    if broken is not None:
        broken(monkeypatch)
    settings = {"data": "held_out", "steps": 500, "sample_every": 10**6, "checkpoint_every": 10**6}
    settings |= {"generator": {"width": 16, "blocks": 2}, "discriminator": {"width": 8, "hidden": 64}}
    run = ganzoo.train(config(recipe="digits", **settings, batch_size=16))
    monkeypatch.undo()
    test = load("held_out", inputs="smaller=4", options={"split": "test"})
    real, inputs = test.items[:], test.inputs[:]
    bicubic = interpolate(inputs.float(), real.shape[2:], mode="bicubic", align_corners=False)
    enlarged = {
        "srgan": ((ganzoo.sample(run.generator, inputs=inputs) + 1) * 127.5).round().clamp(0, 255),
        "bicubic": bicubic.round().clamp(0, 255),
    }
    psnr = {name: peak_signal_to_noise(images, real) for name, images in enlarged.items()}
    features = extractor("mnist")
    with torch.no_grad():
        true = features(real)[0]
        distance = {name: (features(x.byte())[0] - true).norm(dim=1).mean().item() for name, x in enlarged.items()}
    good = distance["srgan"] < distance["bicubic"] and psnr["srgan"] > psnr["bicubic"] - 1
    assert good == (broken is None), (distance, psnr)


def peak_signal_to_noise(images, real):
    return (10 * torch.log10(255**2 / (images - real.float()).square().mean((1, 2, 3)))).mean().item()
