"""pix2pix: the published networks, dropout that is a function of the latent, and what it learns from pairs."""

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import avg_pool2d, l1_loss

import ganzoo
from ganzoo import Batch, ConfigError, Rng
from ganzoo.data.dataset import Batches
from ganzoo.data.inputs import make_inputs
from ganzoo.data.loading import load
from ganzoo.exchange.onnx import export_onnx
from ganzoo.training.build import build_players
from ganzoo_pix2pix import model
from ganzoo_pix2pix.model import Discriminator, Generator

NARROW = {"generator": {"width": 4}, "discriminator": {"width": 4}}


def config(**settings):
    defaults = {"inputs": "edges", "steps": 2, "batch_size": 8, "out": "run", "precision": "fp32", **NARROW}
    return ganzoo.TrainConfig("pix2pix", **{**defaults, **settings})


def random(n, size=32, channels=1):
    return torch.rand(n, channels, *((size, size) if isinstance(size, int) else size)) * 2 - 1


def narrow(**settings):
    torch.manual_seed(0)
    return Generator(image_size=32, channels=1, input_channels=1, **{"width": 8, **settings}).eval()


def test_the_published_networks():
    """Appendix 6.1: encoder C64-C128-C256-C512-C512-C512-C512-C512, decoder CD512-CD512-CD512-C512-C256-C128-C64, and
    the 70x70 discriminator C64-C128-C256-C512."""
    with torch.device("meta"):
        g, d = ganzoo.create("pix2pix")
        images = g(torch.zeros(2, 8), inputs=torch.zeros(2, 3, 256, 256))
        assert images.shape == (2, 3, 256, 256)
        assert d(images, inputs=images).shape == (2, 30, 30)
    down = [64, 128, 256, 512, 512, 512, 512, 512]
    assert [tuple(layer.conv.weight.shape) for layer in g.down] == [
        (after, before, 4, 4) for before, after in zip([3, *down], down, strict=False)
    ]
    up = [512, 512, 512, 512, 256, 128, 64, 3]
    befores = [512, *(2 * width for width in up[:-1])]
    assert [tuple(layer.conv.weight.shape) for layer in g.up] == [
        (before, after, 4, 4) for before, after in zip(befores, up, strict=True)
    ]
    assert list(g.dropped) == [0, 1, 2]
    normed = [isinstance(layer.norm, nn.InstanceNorm2d) for layer in (*g.down, *g.up)]
    assert normed == [False, *[True] * 6, False, *[True] * 7, False]
    assert sum(p.numel() for p in g.parameters()) == 54_414_531
    convolutions = [layer for layer in d.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.weight.shape[0] for layer in convolutions] == [64, 128, 256, 512, 1]
    assert [layer.stride[0] for layer in convolutions] == [2, 2, 2, 1, 1]
    assert [type(layer).__name__ for layer in d.body[:5]] == [
        "Conv2d", "LeakyReLU", "Conv2d", "InstanceNorm2d", "LeakyReLU",
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "layers", "patch"), [(256, 3, 70), (64, 2, 34), (32, 1, 16), (28, 1, 16)])
def test_a_logit_judges_a_patch(size, layers, patch):
    d = Discriminator(size, channels=1, input_channels=1, width=4, norm=None)
    assert sum(isinstance(layer, nn.Conv2d) and layer.stride[0] == 2 for layer in d.body) == layers
    for layer in d.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
    image, inputs = (torch.ones(1, 1, size, size, requires_grad=True) for _ in range(2))
    logits = d(image, inputs=inputs)
    gradients = torch.autograd.grad(logits[0, logits.shape[1] // 2, logits.shape[2] // 2], [image, inputs])
    for gradient in gradients:
        rows, columns = gradient[0, 0].nonzero().unbind(1)
        for reached in (rows, columns):
            span = int(reached.max() - reached.min()) + 1
            assert span == patch or (span < patch and {0, size - 1} & {int(reached.min()), int(reached.max())})


def test_initial_weights():
    torch.manual_seed(0)
    g, d = ganzoo.create("pix2pix", image_size=32)
    for module in (*g.modules(), *d.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.2)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.InstanceNorm2d) and module.num_features > 100:
            assert module.weight.mean().item() == pytest.approx(1, abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize(("size", "dropped"), [(8, 1), (9, 1), (28, 2), (30, 2), (33, 3), (48, 3), (100, 3)])
def test_any_size(size, dropped):
    settings = {"image_size": size, "channels": 1, "input_channels": 2, "width": 2}
    g, d = Generator(**settings), Discriminator(**settings)
    inputs = random(2, size, 2)
    images = g(torch.randn(2, 8), inputs=inputs)
    assert images.shape == (2, 1, size, size)
    assert d(images, inputs=inputs).dim() == 3
    assert len(g.down) == len(g.up) == size.bit_length() - 1
    assert list(g.dropped) == list(range(dropped))


@torch.no_grad()
def test_samples_have_the_size_of_their_inputs():
    g = narrow()
    g.config = {"z_dim": 8, "image_size": 32, "input_channels": 1}
    for size in ((32, 32), (40, 56), (33, 47)):
        assert ganzoo.sample(g, inputs=random(3, size)).shape == (3, 1, *size)
    with pytest.raises(ConfigError, match=r"inputs of 40x31 pixels are too small.* 5 times: give it at least 32"):
        ganzoo.sample(g, inputs=random(1, (40, 31)))


@torch.no_grad()
def test_inputs_of_another_size_are_resized():
    g = narrow(input_size=8)
    assert g(torch.randn(2, 8), inputs=random(2, 8)).shape == (2, 1, 32, 32)
    assert g(torch.randn(2, 8), inputs=random(2, (8, 12))).shape == (2, 1, 32, 48)
    inputs = torch.full((2, 1, 8, 8), 0.5)
    enlarged = torch.full((2, 1, 32, 32), 0.5)
    assert torch.allclose(g(torch.zeros(2, 8), inputs=inputs), narrow()(torch.zeros(2, 8), inputs=enlarged), atol=1e-6)
    with pytest.raises(ConfigError, match="at least 8 a side"):
        g(torch.zeros(1, 8), inputs=random(1, 7))
    d = Discriminator(32, 1, 1, width=4)
    assert d(random(2), inputs=random(2, 8)).shape == d(random(2), inputs=random(2)).shape


@torch.no_grad()
def test_every_skip_is_used():
    """Without the smallest map, each larger one still reaches the image."""
    g = narrow(dropout=0.0, norm="batch")
    inputs = random(2)
    for i, up in enumerate(g.up[1:], 1):
        image = g(torch.zeros(2, 8), inputs=inputs)
        half = up.conv.weight.shape[0] // 2
        before = up.conv.weight[:half].clone()
        up.conv.weight[:half] = 0
        assert not torch.equal(g(torch.zeros(2, 8), inputs=inputs), image), i
        up.conv.weight[:half] = before


# Dropout


@torch.no_grad()
def test_dropout_is_a_function_of_the_latent():
    g, inputs = narrow(), random(6)
    z = torch.randn(6, 8)
    images = g(z, inputs=inputs)
    assert torch.equal(g(z, inputs=inputs), images)
    assert torch.equal(g.train()(z, inputs=inputs), images)
    parts = torch.cat([g(z[i : i + 2], inputs=inputs[i : i + 2]) for i in (0, 2, 4)])
    assert torch.allclose(parts, images, atol=1e-5)
    assert torch.equal(g._kept(z[2:4], 1, torch.Size([8, 3, 5])), g._kept(z, 1, torch.Size([8, 3, 5]))[2:4])
    same = inputs[:1].expand(6, -1, -1, -1)
    drawn = g(z, inputs=same)
    assert (drawn[1:] - drawn[:1]).abs().amax((1, 2, 3)).min() > 1e-3


@torch.no_grad()
def test_dropout_keeps_units_at_random():
    g, shape = narrow(dropout=0.3), torch.Size([16, 8, 8])
    z = torch.randn(400, 8)
    kept = g._kept(z, 0, shape).float()
    assert kept.mean().item() == pytest.approx(0.7, abs=0.005)
    assert kept.mean(0).sub(0.7).abs().max() < 0.12  # of each unit: the deviation of 400 draws is 0.023
    deviations = kept - 0.7
    others = {
        "another latent": kept.roll(1, 0),
        "the latent beside it": g._kept(z + 2**-20, 0, shape).float(),
        "another layer": g._kept(z, 1, shape).float(),
        "another channel": kept.roll(1, 1),
        "another row": kept.roll(1, 2),
        "another column": kept.roll(1, 3),
    }
    for what, other in others.items():
        assert (deviations * (other - 0.7)).mean().abs() < 0.21 * 0.02, what


@torch.no_grad()
def test_dropout_removes_units_after_the_chosen_layers_and_scales_the_others():
    g, inputs, z = narrow(dropout=0.25, dropped=[1]), random(2), torch.randn(2, 8)
    outputs, given = [], []
    for i in range(3):
        g.up[i].register_forward_hook(lambda module, inputs, output: outputs.append(output))
        g.up[i + 1].register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    g(z, inputs=inputs)
    for i in range(3):
        expected = outputs[i]
        if i == 1:
            expected = torch.where(g._kept(z, 1, expected.shape[1:]), expected / 0.75, 0.0)
            assert (expected == 0).float().mean().item() == pytest.approx(0.25, abs=0.1)
        assert torch.allclose(given[i][:, -expected.shape[1] :], expected.relu(), atol=1e-6)


@torch.no_grad()
def test_without_dropout_the_latent_has_no_effect():
    inputs = random(3)
    for g in (narrow(dropout=0.0), narrow(dropped=[])):
        assert torch.equal(g(torch.randn(3, 8), inputs=inputs), g(torch.randn(3, 8), inputs=inputs))


# Classes


@torch.no_grad()
def test_classes():
    g, d = narrow(num_classes=3), Discriminator(32, 1, 1, width=4, num_classes=3).eval()
    g.embed.weight.normal_()
    z, inputs, labels = torch.randn(3, 8), random(1).expand(3, -1, -1, -1), torch.tensor([0, 2, 2])
    z = z[:1].expand(3, -1)
    images = g(z, labels, inputs=inputs)
    assert torch.allclose(images[1], images[2], atol=1e-6)
    assert not torch.allclose(images[0], images[1], atol=1e-2)
    images = random(3)
    features = d.body(torch.cat([images, inputs], 1))
    expected = d.score(features)[:, 0] + torch.stack(
        [
            (avg_pool2d(f, 2, stride=1) * d.embed.weight[k][:, None, None]).sum(0)
            for f, k in zip(features, labels, strict=True)
        ]
    )
    assert torch.allclose(d(images, labels, inputs=inputs), expected, atol=1e-5)


# What is refused


REFUSED = {
    "images must have at least 8 pixels": {"image_size": 7},
    "depth must be from 2 to 5 at 32 pixels, not 6": {"depth": 6},
    "depth must be from 2 to 5 at 32 pixels, not 1": {"depth": 1},
    "dropout must be at least 0 and below 1, not 1": {"dropout": 1.0},
    "among the layers 0 to 3, not": {"dropped": [4]},
    "norm must be instance or batch, not 'layer'": {"norm": "layer"},
    "layers must be from 1 to 3 at 32 pixels, not 4": {"layers": 4},
    "layers must be from 1 to 3 at 32 pixels, not 0": {"layers": 0},
}


@pytest.mark.parametrize("message", REFUSED)
def test_settings_that_are_refused(message):
    with pytest.raises(ConfigError, match=message):
        ganzoo.create("pix2pix", **{"image_size": 32, "width": 2, **REFUSED[message]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective.l1": -1.0}, r"objective\.l1 must be at least 0, not -1"),
        ({"inputs": None}, "pix2pix translates inputs into images, and there are none"),
        ({"data_options": {"paired": False}}, "the discriminator of pix2pix judges pairs"),
        ({"augment": ["color"]}, "leave --augment out"),
        ({"pack": 2}, "leave --pack out"),
    ],
)
def test_trainings_that_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ganzoo.train(config(**settings))


# Training


@pytest.mark.parametrize("l1", [None, 3.0])
def test_the_loss_is_adversarial_and_absolute(l1):
    data = load("digits", image_size=16, inputs="edges")
    options = {} if l1 is None else {"objective_options": {"l1": l1}}
    players = build_players(config(image_size=16, **options), data)
    real, inputs = (x[:4].float() / 127.5 - 1 for x in (data.items, data.inputs))
    batch = Batch(real, torch.randn(4, 8), 0, Rng(0, 0, "g"), inputs=inputs)
    loss, logs = players.objective.generator_loss(players.g, players.d, batch)
    fake = players.g(batch.z, inputs=inputs)
    expected = nn.functional.softplus(-players.d(fake, inputs=inputs)).mean()
    distance = (fake - real).abs().mean()
    assert logs["g_loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert logs["l1"].item() == pytest.approx(distance.item(), rel=1e-4)
    assert loss.item() == pytest.approx((expected + (100 if l1 is None else l1) * distance).item(), rel=1e-4)


def test_few_images_are_no_reason_to_advise_augmentation(workplace, caplog):
    for i in range(8):
        Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(workplace / f"{i}.png")
    with caplog.at_level("INFO", "ganzoo"):
        ganzoo.train(config(data=".", inputs="grey"))
    assert "--augment" not in caplog.text


def test_the_recipe_of_the_paper():
    paper = ganzoo.TrainConfig("pix2pix", recipe="paper")
    assert (paper.batch_size, paper.lr, paper.betas, paper.image_size, paper.flip) == (1, 2e-4, [0.5, 0.999], 256, True)
    assert paper.objective_options == {"l1": 100.0}
    assert paper.generator == {"width": 64, "dropout": 0.5}
    run = ganzoo.train(
        paper.replace(
            **{
                **NARROW,
                "inputs": "grey",
                "data": "sprites",
                "image_size": 32,
                "steps": 2,
                "log_every": 1,
                "out": "run",
            }
        )
    )
    assert run.step == 2
    assert "diversity" not in run.metrics  # of a single image


@pytest.mark.parametrize("settings", [{}, {"conditional": True}, {"inputs": "smaller=4"}], ids=str)
def test_a_trained_generator_is_exported(settings, workplace):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = ganzoo.train(config(image_size=16, **settings))
    assert 0 <= export_onnx(run.generator, workplace / "g.onnx") <= 1e-4


def shuffle_inputs(monkeypatch):
    """Give each item the inputs of another."""
    get = Batches.get

    def shuffled(self, *args):
        items, labels, inputs = get(self, *args)
        return items, labels, inputs.roll(1, 0)

    monkeypatch.setattr(Batches, "get", shuffled)


def flip_the_difference(monkeypatch):
    monkeypatch.setattr(model, "l1_loss", lambda fake, real: -l1_loss(fake, real))


@pytest.mark.slow
@pytest.mark.parametrize("broken", [None, shuffle_inputs, flip_the_difference])
def test_a_minute_of_training_fills_in_edges_unless_something_is_broken(broken, monkeypatch):
    """The mean absolute difference on held-out digits, as a share of that of the best image that does not depend on the
    edges, the median at each pixel. Without L1 it is 0.26, because D judges pairs too."""
    if broken is not None:
        broken(monkeypatch)
    train, test = (load("held_out", inputs="edges", options={"split": split}) for split in ("train", "test"))
    settings = {"data": "held_out", "steps": 800, "generator": {"width": 16}, "discriminator": {"width": 16}}
    run = ganzoo.train(config(**settings, batch_size=16, sample_every=10**6, checkpoint_every=10**6))
    real = test.items[:].float() / 127.5 - 1
    constant = train.items.float().median(0).values / 127.5 - 1
    difference = (ganzoo.sample(run.generator, inputs=test.inputs[:]) - real).abs().mean()
    share = (difference / (constant - real).abs().mean()).item()
    assert (share < 0.5) == (broken is None), share


def test_inputs_are_those_of_training():
    """Edges made by hand are what the generator was trained on."""
    run = ganzoo.train(config())
    images = load("digits").items[:3]
    inputs = make_inputs(images, "edges")
    assert torch.equal(
        ganzoo.sample(run.generator, inputs=inputs),
        ganzoo.sample(run.generator, 3, inputs=load("digits", inputs="edges").inputs[:3]),
    )
