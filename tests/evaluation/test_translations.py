"""Measuring generators that translate inputs: the metrics of pairs against textbook computations, which inputs are
translated, the trivial answers, the protocol, and what is refused."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import ganzoo
from ganzoo import ConfigError, Data, EvaluationError, Evaluator, SampleError, TrainConfig, evaluate
from ganzoo.data.inputs import Made, make_inputs
from ganzoo.data.loading import load
from ganzoo.evaluation import features
from ganzoo.evaluation.extraction import Extraction
from ganzoo.evaluation.perceptual import Perceptual
from ganzoo.evaluation.real import choice
from ganzoo.sampling.values import from_uint8
from ganzoo.store import manifest
from ganzoo.store.results import Result, compare, read_results
from simulated import Machine

DIGITS = load("digits")
TRAIN, TEST = DIGITS.items[:150], DIGITS.items[150:210]
COLOUR = torch.randint(256, (30, 3, 12, 12), generator=torch.Generator().manual_seed(0)).byte()
MNIST = {"features": "mnist", "use_cache": False}
PAIRED = ("l1", "psnr", "ssim", "perceptual")

pytestmark = pytest.mark.usefixtures("shared_cache")


class Generator(nn.Module):
    def __init__(self, z_dim=2, image_size=28, channels=1, input_channels=None, input_size=None, num_classes=None):
        super().__init__()
        self.size = image_size
        self.layer = nn.Conv2d((input_channels or channels) + z_dim, channels, 3, padding=1)

    def forward(self, z, labels=None, *, inputs):
        x = nn.functional.interpolate(inputs, size=self.size)
        return self.layer(torch.cat([x, z[:, :, None, None].expand(-1, -1, self.size, self.size)], 1)).tanh()


class Discriminator(nn.Module):
    def __init__(self, image_size=28, channels=1, num_classes=None):
        super().__init__()
        self.layer = nn.Linear(channels * image_size**2, 1)

    def forward(self, images, labels=None):
        return self.layer(images.flatten(1))[:, 0]


@ganzoo.hookimpl
def register_architectures(register):
    register("translator", generator=Generator, discriminator=Discriminator, summary="a convolution")


@ganzoo.hookimpl
def register_data(register):
    register("split_digits", split_digits, summary="some digits, with a test split", features="mnist")
    register("digit_pairs", digit_pairs, summary="some digits and their negatives", features="mnist")


def split_digits(split="train"):
    part = slice(0, 150) if split == "train" else slice(150, 210)
    return Data(DIGITS.items[part], DIGITS.labels[part])


def digit_pairs():
    return Data(TRAIN, inputs=255 - TRAIN)


ganzoo.register(sys.modules[__name__])


class Applies(nn.Module):
    """Makes images by a function of inputs and labels, and keeps what it was given."""

    def __init__(self, function, **config):
        super().__init__()
        self.function, self.config, self.given, self.labels = function, {"z_dim": 1, **config}, [], []

    def forward(self, z, labels=None, *, inputs):
        self.given.append(inputs)
        self.labels.append(labels)
        return self.function(inputs) if labels is None else self.function(inputs, labels)


class Noise(nn.Module):
    """Translates nothing."""

    def __init__(self):
        super().__init__()
        self.config = {"z_dim": 784}

    def forward(self, z):
        return z.tanh().reshape(-1, 1, 28, 28)


def same(inputs):
    return inputs


def dimmed(inputs):
    return 0.8 * inputs - 0.1


def doubled(inputs):
    return inputs.repeat_interleave(2, 2).repeat_interleave(2, 3)


# The metrics of pairs


def ssim(a, b):
    """Wang et al. 2004, equation 13, for each position of the window that lies inside, mean over positions and
    channels."""
    side = np.arange(11) - 5
    window = np.exp(-(side[:, None] ** 2 + side[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for x, y in zip(a.astype(float), b.astype(float), strict=True):
        for i in range(x.shape[0] - 10):
            for j in range(x.shape[1] - 10):
                p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                mx, my = (window * p).sum(), (window * q).sum()
                vx, vy = (window * (p - mx) ** 2).sum(), (window * (q - my) ** 2).sum()
                cxy = (window * (p - mx) * (q - my)).sum()
                c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
                values.append((2 * mx * my + c1) * (2 * cxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return np.mean(values)


def textbook(images, targets):
    x, y = images.numpy().astype(float), targets.numpy().astype(float)
    error = ((x - y) ** 2).mean((1, 2, 3))
    return {
        "l1": np.abs(x - y).mean() / 255,
        "psnr": np.mean([10 * np.log10(255**2 / e) if e else 100 for e in error]),
        "ssim": np.mean([ssim(a, b) for a, b in zip(images.numpy(), targets.numpy(), strict=True)]),
    }


def quantised(images):
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte()


@pytest.mark.parametrize(("items", "spec"), [(TRAIN[:20], "masked"), (COLOUR, "masked")])
def test_pairs_are_compared_as_in_textbooks(items, spec):
    data = Data(items, inputs=Made(items, spec))
    result = evaluate(Applies(dimmed), data, metrics=("l1", "psnr", "ssim"), **MNIST)
    made = quantised(dimmed(from_uint8(make_inputs(items, spec))))
    assert result.values == pytest.approx(textbook(made, items), rel=1e-4)
    assert result.baseline == pytest.approx(textbook(make_inputs(items, spec), items), rel=1e-4)
    assert result.metrics == ["l1", "psnr", "ssim"]
    single = evaluate(Applies(dimmed), data, n=1, metrics=("l1", "psnr", "ssim"), **MNIST)
    row = choice(len(items), 1)
    assert single.values == pytest.approx(textbook(made[row], items[row]), rel=1e-4)


def test_images_that_agree():
    result = evaluate(Applies(same), Data(TRAIN[:30], inputs=TRAIN[:30]), metrics=PAIRED, **MNIST)
    assert result.values == {"l1": 0, "psnr": 100, "ssim": 1, "perceptual": 0}
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["baseline"]["psnr"] == 100


def unit(maps):
    return maps / np.sqrt((maps**2).sum(1, keepdims=True) + 1e-8)


def mean_square(maps, others):
    return sum(((unit(x) - unit(y)) ** 2).sum(1).mean((1, 2)) for x, y in zip(maps, others, strict=True))


def test_perceptual_distances_of_digits_are_those_of_the_classifiers_maps():
    """Of colour images the mean over the channels."""
    items = torch.cat([TRAIN[:12], TRAIN[12:24], TRAIN[24:36]], 1)
    found = features.extractor("mnist")

    def maps(images):
        x, kept = images[:, None] / 127.5 - 1, []
        for layer in [layer for block in found.net.body[:3] for layer in block]:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                kept.append(x.detach().numpy())
        return kept

    made = quantised(dimmed(from_uint8(items))).float()
    channels = [mean_square(maps(made[:, i]), maps(items[:, i].float())) for i in range(3)]
    result = evaluate(Applies(dimmed), Data(items, inputs=items), metrics=["perceptual"], **MNIST)
    assert result.values["perceptual"] == pytest.approx(np.mean(channels), rel=1e-4)
    assert 0.001 < result.values["perceptual"] < 4 * 3


@pytest.fixture
def timm_file(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


def test_perceptual_distances_by_timms_models(timm_file):
    """Of grey images of 70 pixels, which keep their size."""
    found = features.extractor(f"timm:test_resnet={timm_file}")
    items = torch.randint(256, (6, 1, 70, 70), generator=torch.Generator().manual_seed(1)).byte()
    kept = []
    mean, std = (torch.tensor(found.net.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))

    def maps(images):
        kept.clear()
        with torch.no_grad():
            found.net((images.expand(-1, 3, -1, -1) / 255 - mean) / std)
        return list(kept)

    result = evaluate(Applies(dimmed), Data(items, inputs=items), features=found, metrics=["perceptual"], n=6)
    for name in ("act1", "layer1", "layer2", "layer3", "layer4"):
        getattr(found.net, name).register_forward_hook(lambda _layer, _inputs, output: kept.append(output.numpy()))
    made = maps(quantised(dimmed(from_uint8(items))).float())
    assert [x.shape[2] for x in made] == [35, 18, 9, 5, 3]
    distance = mean_square(made, maps(items.float())).mean()
    assert result.values["perceptual"] == pytest.approx(distance, rel=1e-3)


def test_small_images_are_enlarged_and_transformers_get_theirs():
    for name, side in (("test_resnet", 32), ("test_vit", 10)):
        found = features.TimmFeatures.__new__(features.TimmFeatures)
        nn.Module.__init__(found)
        found.net = timm.create_model(name, num_classes=0).eval()
        found.size, found.mode = found.net.pretrained_cfg["input_size"][1:], "bicubic"
        found.mean, found.std = torch.zeros(1), torch.ones(1)
        with torch.no_grad():
            assert found.maps(torch.zeros(2, 1, 16, 16))[0].shape[2] == side, name


def test_inceptions_maps(monkeypatch):
    """With random weights: the real ones are downloaded. The last map, pooled, is what FID compares."""
    from torch_fidelity import feature_extractor_inceptionv3 as library  # type: ignore[import-untyped]

    monkeypatch.setattr(library, "load_state_dict_from_url", lambda *_, **__: {})
    monkeypatch.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
    found = features.InceptionFeatures.__new__(features.InceptionFeatures)
    nn.Module.__init__(found)
    torch.manual_seed(0)
    found.net = library.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"])
    maps = found.maps(COLOUR[:2].float())
    assert [x.shape[1:] for x in maps] == [(64, 73, 73), (192, 35, 35), (768, 17, 17), (2048, 8, 8)]
    assert torch.allclose(maps[-1].mean((2, 3)), found(COLOUR[:2])[0], atol=1e-5)
    assert len(found.maps(COLOUR[:1].float())) == 4


class Pixels(features.Extractor):
    name, resize = "pixels", "none"

    def forward(self, images):
        return images[:, :, ::4, ::4].flatten(1).float(), None


def test_what_cannot_be_compared_is_no_default():
    tiny = TRAIN[:, :, :8, :8]
    settings = {"n": 20, "use_cache": False}
    assert Evaluator(Data(tiny, inputs=tiny), features=Pixels(), **settings).metrics[-2:] == ("l1", "psnr")
    assert Evaluator(Data(TRAIN, inputs=TRAIN), features="mnist", **settings).metrics[-4:] == PAIRED
    assert "l1" not in Evaluator(Data(TRAIN), features="mnist", **settings).metrics
    assert "l1" not in Evaluator(Data(TRAIN, inputs=TRAIN, paired=False), features="mnist", **settings).metrics
    for metric, told in (("ssim", "11 pixels a side, not 8x8"), ("perceptual", "the features pixels do not have")):
        with pytest.raises(EvaluationError, match=told):
            Evaluator(Data(tiny, inputs=tiny), features=Pixels(), metrics=[metric], **settings)
    with pytest.raises(EvaluationError, match="pixels have no maps"):
        Perceptual(Pixels())


def test_without_torchmetrics(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    data = Data(TRAIN[:20], inputs=TRAIN[:20])
    for metrics in (None, ["psnr"]):
        with pytest.raises(EvaluationError, match=r"psnr and ssim need torchmetrics: pip install 'ganzoo\[eval\]'"):
            Evaluator(data, metrics=metrics, **MNIST)
    assert Evaluator(data, metrics=["l1", "perceptual"], **MNIST)(Applies(same)).values["l1"] == 0
    assert "psnr" not in Evaluator(Data(TRAIN[:20]), n=20, **MNIST).metrics


# Which inputs, in which order


def test_the_inputs_of_the_test_part_in_their_order():
    """The references stay the training images, and the floor the test images: as for other generators."""
    g = Applies(same)
    result = evaluate(g, "split_digits", inputs="masked", metrics=["kid", "l1"], use_cache=False)
    assert torch.equal(torch.cat(g.given)[:60], from_uint8(make_inputs(TEST, "masked")))
    expected = textbook(make_inputs(TEST, "masked"), TEST)["l1"]
    assert result.values["l1"] == pytest.approx(expected, rel=1e-5)
    plain = evaluate(Noise(), "split_digits", n=60, metrics=["kid"], use_cache=False)
    assert (result.floor, result.protocol["reference"]) == (plain.floor, plain.protocol["reference"])
    assert result.floor["n"] == 60
    facts = {"spec": "masked", "split": "test", "n": 60, "shape": [1, 28, 28], "paired": True}
    assert result.protocol["inputs"].items() >= facts.items()
    other = evaluate(Applies(same), "split_digits", inputs="masked", split="test", metrics=["l1"], use_cache=False)
    assert other.values["l1"] == pytest.approx(expected, rel=1e-5)
    assert other.protocol["reference"]["n"] == 60
    assert other.floor is None


def test_fewer_than_all_are_those_of_the_floor():
    g = Applies(same)
    result = Evaluator("split_digits", inputs="edges", n=40, metrics=["l1"], use_cache=False)(g)
    rows = choice(60, 40)
    assert torch.equal(torch.cat(g.given)[:40], from_uint8(make_inputs(TEST, "edges")[rows]))
    assert result.values["l1"] == pytest.approx(textbook(make_inputs(TEST, "edges")[rows], TEST[rows])["l1"])
    with pytest.raises(EvaluationError, match="61 samples need as many inputs, and there are 60"):
        Evaluator("split_digits", inputs="edges", n=61)


def test_classes_are_those_of_the_inputs_items():
    """A generator that draws the class alone agrees with items that show theirs."""
    labels = torch.arange(90) * 7 % 10
    items = (labels * 20).byte()[:, None, None, None].expand(-1, 1, 28, 28).contiguous()
    data = Data(items, labels, inputs=torch.zeros_like(items))
    g = Applies(lambda x, labels: from_uint8((labels * 20).byte())[:, None, None, None].expand_as(x), num_classes=10)
    for n in (90, 50):
        result = evaluate(g, data, n=n, metrics=["l1"], **MNIST)
        assert result.values["l1"] == 0
        assert result.protocol["generated"]["classes"] == "those of the inputs"
    in_turn = evaluate(g, Data(items, inputs=data.inputs), metrics=["l1"], **MNIST)
    assert in_turn.protocol["generated"]["classes"] == "in turn"
    assert in_turn.values["l1"] == pytest.approx((labels - torch.arange(90) % 10).abs().double().mean() * 20 / 255)


def test_as_many_samples_as_inputs_but_at_most_5000():
    assert Evaluator("split_digits", inputs="edges", metrics=["l1"]).n == 60
    small = torch.zeros(5001, 1, 28, 28, dtype=torch.uint8)
    settings = {"features": Pixels(), "metrics": ["l1"], "use_cache": False}
    assert Evaluator(Data(small[:2], inputs=small, paired=False), **{**settings, "metrics": ["kid"]}).n == 5000


def write(folder, items):
    folder.mkdir(parents=True)
    for i, image in enumerate(items):
        Image.fromarray(image[0].numpy()).save(folder / f"{i:04d}.png")


@pytest.fixture
def sides(workplace):
    """Two kinds of pictures in the folders of CycleGAN, those of the tests in other numbers."""
    for name, items in (("trainA", 255 - TRAIN[:50]), ("trainB", TRAIN), ("testA", 255 - TEST[:30]), ("testB", TEST)):
        write(workplace / "kinds" / name, items)
    return workplace


UNPAIRED = {"data_options": {"paired": False}, "use_cache": False, "features": "mnist"}


def test_unpaired_inputs_of_a_folder(sides):
    g = Applies(lambda x: -x, image_size=28, channels=1, input_channels=1)
    evaluator = Evaluator("kinds", inputs="A", **UNPAIRED)
    result = evaluator(g)
    assert result.values == evaluate(g, "kinds", inputs="A", **UNPAIRED).values
    assert torch.equal(torch.cat(g.given)[:30], from_uint8(255 - TEST[:30]))
    assert result.protocol["inputs"]["n"] == evaluator.n == 30
    assert result.protocol["reference"]["n"] == 150
    assert result.protocol["held_out"]["n"] == 60
    assert not set(result.values) & set(PAIRED)
    assert result.values["kid"] < result.baseline["kid"] / 5
    with pytest.raises(EvaluationError, match="these inputs are unpaired: leave it out"):
        Evaluator("kinds", inputs="A", metrics=["l1"], **UNPAIRED)


def test_held_out_images_lie_on_the_same_side(sides):
    write(sides / "more" / "A", TRAIN[:5])
    write(sides / "more" / "B", DIGITS.items[500:540])
    evaluator = Evaluator("kinds", inputs="A", held_out="more", metrics=["kid"], **UNPAIRED)
    assert evaluator.protocol["held_out"]["n"] == 40
    assert evaluator(Applies(same)).protocol["inputs"]["n"] == 30


def test_a_folder_of_inputs_in_the_generators_size_and_channels(workplace):
    write(workplace / "items", TRAIN[:40])
    write(workplace / "given", TRAIN[:45, :, ::2, ::2])
    sizes = {"image_size": 28, "channels": 1, "input_size": 14, "input_channels": 3}
    g = Applies(lambda x: doubled(x[:, :1]), **sizes)
    result = evaluate(g, "items", inputs="given", metrics=["l1"], **MNIST)
    assert g.given[0].shape[1:] == (3, 14, 14)
    assert result.protocol["inputs"]["shape"] == [3, 14, 14]
    expected = textbook(doubled(TRAIN[:40, :, ::2, ::2]), TRAIN[:40])
    assert result.values["l1"] == pytest.approx(expected["l1"], rel=1e-5)


# What a trivial answer leaves


def test_smaller_inputs_are_enlarged():
    small = make_inputs(TRAIN[:40], "smaller=2")
    result = evaluate(Applies(doubled), Data(TRAIN[:40], inputs=small), metrics=["psnr", "l1", "kid"], **MNIST)
    pictures = [Image.fromarray(x[0].numpy()).resize((28, 28), Image.Resampling.BICUBIC) for x in small]
    enlarged = torch.from_numpy(np.stack(pictures)[:, None])
    expected = textbook(enlarged, TRAIN[:40])
    assert result.protocol["inputs"]["baseline"] == result.baseline_name == "bicubic enlargement"
    assert result.baseline["psnr"] == pytest.approx(expected["psnr"], abs=0.05)
    assert result.baseline["l1"] == pytest.approx(expected["l1"], rel=0.01)
    plain = evaluate(Applies(same), Data(TRAIN[:40], inputs=enlarged), metrics=["kid"], **MNIST)
    assert result.baseline["kid"] == pytest.approx(plain.values["kid"], rel=0.03)


@pytest.mark.parametrize(
    ("items", "inputs", "name"),
    [
        (COLOUR, make_inputs(COLOUR, "grey"), "the inputs themselves"),
        (COLOUR, COLOUR[:, :1, ::2, ::2], "bicubic enlargement"),
        (COLOUR, COLOUR[:, :2], ""),
        (COLOUR[:, :1], COLOUR, ""),
        (COLOUR[:, :, ::2, ::2], COLOUR, ""),
        (COLOUR, torch.rand(30, 3, 12, 12), ""),
    ],
)
def test_not_all_inputs_give_an_answer(items, inputs, name):
    shape = items.shape[1:]
    settings = {"features": Pixels(), "metrics": ["l1"], "use_cache": False}
    result = evaluate(Applies(lambda x: torch.zeros(len(x), *shape)), Data(items, inputs=inputs), **settings)
    assert result.baseline_name == result.protocol["inputs"]["baseline"] == name
    assert (result.baseline is None) == (name == "")
    if name == "the inputs themselves":
        assert result.baseline == pytest.approx({"l1": textbook(inputs.expand(-1, 3, -1, -1), items)["l1"]})


# Protocol


def test_results_of_other_inputs_are_refused():
    settings = {"metrics": ["l1"], "use_cache": False}
    edges, grey = (evaluate(Applies(same), "split_digits", inputs=spec, **settings) for spec in ("edges", "grey"))
    with pytest.raises(EvaluationError, match=r"inputs\.spec is 'edges' and 'grey', inputs\.sha256 is"):
        compare([edges, grey])
    with pytest.raises(EvaluationError, match=r"inputs\.spec is 'edges' and None"):
        compare([edges, evaluate(Noise(), "split_digits", n=60, metrics=["kid"], use_cache=False)])
    own = evaluate(Applies(same), Data(TEST, inputs=Made(TEST, "edges")), metrics=["l1"], **MNIST)
    assert own.protocol["inputs"]["sha256"] == edges.protocol["inputs"]["sha256"]


def test_the_inputs_name_is_no_difference(caplog):
    one = Result("one", {}, {"l1": 0.1}, None, {"inputs": {"spec": "a", "sha256": "0"}}, {"l1": 0.2})
    other = Result("two", {}, {"l1": 0.1}, None, {"inputs": {"spec": "b", "sha256": "0"}})
    compare([one, other])
    assert "one and two were measured differently: inputs.spec is 'a' and 'b'" in caplog.text
    for wrong in ([0.2], {"l1": "low"}):
        with pytest.raises(EvaluationError, match="baseline"):
            Result("x", {}, {}, None, {}, wrong)
    assert "baseline" not in other.to_dict()
    assert Result(**{k: v for k, v in one.to_dict().items() if k != "fid_multiple"}) == one


def test_data_that_brings_inputs_serves_other_generators_too():
    evaluator = Evaluator("digit_pairs", n=60, use_cache=False)
    result = evaluator(Noise())
    assert "inputs" not in result.protocol
    assert result.baseline is None
    assert not set(result.values) & set(PAIRED)
    assert evaluator(Applies(lambda x: -x)).values["l1"] == 0
    assert evaluator(Applies(same)).protocol["inputs"]["n"] == 150


# What is refused


def test_inputs_and_generators_must_fit():
    with pytest.raises(EvaluationError, match="there are none: add --inputs"):
        evaluate(Applies(same), "split_digits", use_cache=False)
    with pytest.raises(EvaluationError, match="there are none: add --inputs"):
        Evaluator("split_digits", n=20, metrics=["kid"], use_cache=False)(Applies(same))
    with pytest.raises(EvaluationError, match="translates nothing: leave --inputs"):
        evaluate(Noise(), "split_digits", inputs="edges", use_cache=False)
    with pytest.raises(EvaluationError, match="translates nothing: leave --inputs and the metrics of pairs out"):
        Evaluator("digit_pairs", metrics=["l1"], use_cache=False)(Noise())
    with pytest.raises(EvaluationError, match="there are no inputs: add --inputs"):
        Evaluator("split_digits", metrics=["ssim"])
    with pytest.raises(SampleError, match=r"takes inputs of shape \(N, 3, H, W\), not \(60, 1, 28, 28\)"):
        evaluate(Applies(same, input_channels=3), "split_digits", inputs="grey", metrics=["l1"], use_cache=False)
    with pytest.raises(EvaluationError, match=r"ganzoo\.Data holds its inputs itself"):
        Evaluator(Data(TRAIN), inputs="edges")
    with pytest.raises(ConfigError, match=r"data\.paired is about inputs, and there are none"):
        Evaluator("split_digits", data_options={"paired": False})


# Training and the command


@pytest.fixture
def run(workplace, ganzoo_cli):
    command = ("train", "translator", "--data", "split_digits", "--inputs", "masked", "--steps", 2, "--batch-size", 8)
    code, _, err = ganzoo_cli(*command, "--out", "run", "-q")
    assert code == 0, err
    return workplace / "run"


def test_the_command_its_table_its_cache_and_the_card(run, ganzoo_cli, monkeypatch):
    command = ("eval", "./run", "--data", "split_digits", "--inputs", "masked", "--metrics", "kid,l1,psnr,ssim")
    code, out, err = ganzoo_cli(*command, "--record")
    assert code == 0, err
    header, row, floor, baseline = out.splitlines()
    assert header.split() == ["kid", "l1", "psnr", "ssim"]
    assert row.startswith("./run (ema)")
    assert floor.split()[:4] == ["floor:", "60", "test", "images"]
    assert floor.split()[-3:] == ["-", "-", "-"]
    assert baseline.startswith("baseline: the inputs themselves")
    assert baseline.split()[-3] == f"{textbook(make_inputs(TEST, 'masked'), TEST)['l1']:.4g}"
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "__call__", None)
        assert ganzoo_cli(*command)[1] == out
    (recorded,) = read_results(run / "model" / manifest.SCORES)
    assert recorded.baseline_name == "the inputs themselves"
    card = (run / "model" / manifest.CARD).read_text()
    assert "| | 60 samples | 60 test images | the inputs themselves |\n|---|---:|---:|---:|" in card
    assert f"| l1 | {recorded.values['l1']:.4g} | | {recorded.baseline['l1']:.4g} |" in card
    assert "images of split_digits, made from 60 of 60 inputs of its test part; latents of seed 0" in card
    assert "type: image-to-image" in card
    (line,) = [line for line in card.splitlines() if line.startswith("ganzoo eval")]
    code, again, err = ganzoo_cli("eval", "./run", *line.split()[3:], "--json")
    assert code == 0, err
    assert json.loads(again)[0]["values"] == recorded.values
    assert json.loads(again)[0]["baseline"] == recorded.baseline


def test_commands_that_are_refused(run, ganzoo_cli):
    for options, told in (
        ((), "there are none: add --inputs"),
        (("--inputs", "left"), "split_digits"),
        (("--inputs", "edge"), "edge"),
        (("--inputs", "masked", "--set", "generator.width=3"), "has no option 'generator.width'"),
        (("--inputs", "masked", "--set", "data.width=3"), "has no setting 'width'"),
        (("--inputs", "masked", "--set", "data.paired=false", "--metrics", "l1"), "these inputs are unpaired"),
        (("--inputs", "smaller=3"), "no inputs are called 'smaller=3'"),
    ):
        code, out, err = ganzoo_cli("eval", "./run", "--data", "split_digits", *options)
        assert (code, out) == (1, ""), options
        assert told in err
        assert len(err.strip().splitlines()) == 1, err
    code, _, err = ganzoo_cli("eval", "dcgan.mnist", "--data", "split_digits", "--inputs", "masked")
    assert (code, "translates nothing: leave --inputs" in err) == (1, True)


def test_metrics_of_pairs_alone_extract_no_features(monkeypatch):
    data = Data(TEST, inputs=TEST)
    metrics = ["l1", "psnr", "ssim"]
    expected = evaluate(Applies(dimmed), data, metrics=[*metrics, "kid"], **MNIST).values
    monkeypatch.setattr(Extraction, "of_items", None)
    monkeypatch.setattr(Extraction, "_computing", None)
    result = evaluate(Applies(dimmed), data, metrics=metrics, **MNIST)
    assert result.values == {name: expected[name] for name in metrics}
    assert result.floor is None
    assert result.baseline["l1"] == 0


def test_options_of_a_generator_belong_to_the_measurement(caplog):
    colour = COLOUR[:, :, :8, :8]
    settings = {"image_size": 8, "width": 2, "blocks": 1, "channels": 3, "input_channels": 1}
    g = ganzoo.create("cyclegan", generator=settings, discriminator={"image_size": 8, "width": 2, "layers": 1})[0]
    there = Data(colour, inputs=colour[:, :1], paired=False)
    back = Data(colour[:, :1], inputs=colour, paired=False)
    own = {**MNIST, "metrics": ["diversity"]}
    grey = evaluate(g, back, options={"direction": "BA"}, **own)
    assert grey.protocol["generated"]["options"] == {"direction": "BA"}
    assert "options" not in evaluate(g, there, **own).protocol["generated"]
    with pytest.raises(SampleError, match=r"takes inputs of shape \(N, 1, H, W\)"):
        evaluate(g, back, **own)
    for options, told in (({"direction": "AC"}, "direction must be"), ({"psi": 1}, "no option 'psi'")):
        with pytest.raises(ganzoo.GanzooError, match=told):
            evaluate(g, back, options=options, **own)
    narrow = {**grey.protocol, "generated": {**grey.protocol["generated"], "options": {"direction": "AB"}}}
    compare([grey, replace(grey, protocol=narrow)])
    assert "generated.options.direction is 'BA' and 'AB'" in caplog.text


def test_options_of_the_data_stand_in_the_card(sides, ganzoo_cli):
    command = ("train", "translator", "--data", "kinds", "--inputs", "A", "--set", "data.paired=false", "--out", "run")
    code, _, err = ganzoo_cli(*command, "--steps", 1, "--batch-size", 8, "-q")
    assert code == 0, err
    options = ("--data", "kinds", "--inputs", "A", "--set", "data.paired=false", "--features", "mnist")
    code, _, err = ganzoo_cli("eval", "./run", *options, "--metrics", "kid", "--record")
    assert code == 0, err
    expected = "--data kinds --metrics kid --inputs A --set data.paired=false --features mnist -n 30 --seed 0"
    assert expected in (sides / "run" / "model" / manifest.CARD).read_text()


def test_neighbours_of_translations(run, ganzoo_cli):
    options = ("--data", "split_digits", "--inputs", "masked", "--metrics", "l1", "--neighbours", "near.png")
    code, out, err = ganzoo_cli("eval", "./run", *options)
    assert code == 0, err
    assert out.splitlines()[0].split() == ["l1", "neighbour_distance"]
    g, seen = ganzoo.from_pretrained("./run"), []
    evaluator = Evaluator("split_digits", inputs="masked", metrics=["neighbours"], n=50, use_cache=False)
    g.register_forward_hook(lambda _g, _z, images: seen.append(images))
    evaluator(g, neighbours="near.png")
    indices = torch.tensor([3, 41, 0])
    again = evaluator._samples(g, indices, None, evaluator.translation.inputs)
    assert torch.equal(again, quantised(seen[0][indices]))
    with Image.open("near.png") as picture:
        assert picture.size[0] > 300


@pytest.mark.parametrize("options", [{}, {"paired": False}])
def test_a_training_measures_by_the_inputs_of_the_test_part(options, workplace, monkeypatch):
    calls = []
    measure = Evaluator.__call__

    def watched(self, g):
        calls.append(result := measure(self, g))
        return result

    monkeypatch.setattr(Evaluator, "__call__", watched)
    config = TrainConfig(
        "translator", data="split_digits", inputs="masked", data_options=options, steps=2, batch_size=8,
        eval_every=1, eval_samples=50, out="run",
    )  # fmt: skip
    run = ganzoo.train(config)
    assert [result.protocol["inputs"]["split"] for result in calls] == ["test", "test"]
    assert run.metrics["fid"] == calls[-1].values["fid"]
    assert run.metrics["fid_multiple"] == calls[-1].fid_multiple > 1


def test_on_a_simulated_gpu():
    """Nothing of the CPU meets what is on the device, and the figures are the same."""
    data = Data(TRAIN[:40], inputs=Made(TRAIN[:40], "edges"))
    g, _ = ganzoo.create("translator", image_size=28, channels=1, input_channels=1)
    expected = evaluate(g, data, **MNIST)
    with Machine("cuda"):
        result = evaluate(g.to("cuda"), data, device="cuda", **MNIST)
    assert result.values == pytest.approx(expected.values, rel=1e-4, abs=1e-6)
    assert result.baseline == pytest.approx(expected.baseline, rel=1e-4, abs=1e-6)
