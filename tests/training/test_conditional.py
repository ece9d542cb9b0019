"""Generating by class: what the networks are told, what they learn from it, and what people can ask for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ganzoo
from ganzoo import Batch, ConfigError, Data, SampleError, hookimpl
from ganzoo.data.loading import load
from ganzoo.sampling.draw import blocks, walk
from ganzoo.sampling.pictures import by_class
from ganzoo.store.models import verify
from ganzoo.zoo.plugins import registry

SMALL = {"generator": {"width": 2, "hidden": 8}, "discriminator": {"width": 2, "hidden": 8}}


class Generator(nn.Module):
    def __init__(self, z_dim: int = 4, num_classes: int | None = None):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(z_dim + (num_classes or 0), 32), nn.ReLU(), nn.Linear(32, 2))
        self.num_classes = num_classes

    def forward(self, z, labels=None):
        if self.num_classes:
            z = torch.cat([z, nn.functional.one_hot(labels, self.num_classes)], 1)
        return self.layers(z)


class Discriminator(nn.Module):
    def __init__(self, num_classes: int | None = None):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 + (num_classes or 0), 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
        self.num_classes = num_classes

    def forward(self, x, labels=None):
        if self.num_classes:
            x = torch.cat([x, nn.functional.one_hot(labels, self.num_classes)], 1)
        return self.layers(x).squeeze(1)


CENTRES = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])


class Plugin:
    @hookimpl
    def register_architectures(self, register):
        register("pointed", generator=Generator, discriminator=Discriminator)

    @hookimpl
    def register_data(self, register):
        register("three_points", three_points)
        register("nameless", lambda: Data(three_points().items))
        register("half_named", lambda: Data(three_points().items, three_points().labels - 1))


def three_points() -> Data:
    labels = torch.arange(999) % 3
    noise = torch.randn(999, 2, generator=torch.Generator().manual_seed(0))
    return Data(CENTRES[labels] + 0.3 * noise, labels)


@pytest.fixture(autouse=True)
def plugin():
    if "pointed" not in registry().architectures:
        ganzoo.register(Plugin())


def config(**settings):
    defaults = {"data": "three_points", "conditional": True, "steps": 500, "batch_size": 64, "lr": 5e-3, "out": "run"}
    return ganzoo.TrainConfig("pointed", **{**defaults, **settings})


@pytest.mark.parametrize("loss", ["nonsaturating", "rpgan", "hinge"])
@pytest.mark.parametrize("penalty", ["r1=0.1@4", "r2=0.1@2", "gp=0.1", "dragan=0.1"])
def test_each_class_is_learned(loss, penalty):
    """With penalties too: they are given a discriminator that knows the classes."""
    g = ganzoo.train(config(loss=loss, penalties=[penalty])).generator
    for label, centre in enumerate(CENTRES):
        assert (ganzoo.sample(g, 64, seed=1, labels=label).mean(0) - centre).norm() < 1.5


def test_the_trainer_asks_for_the_classes_of_the_real_items(monkeypatch):
    seen = []

    class Watching(ganzoo.Objective):
        def discriminator_loss(self, g, d, batch):
            seen.append((batch.real, batch.labels, batch.fake_labels))
            return super().discriminator_loss(g, d, batch)

    monkeypatch.setattr("ganzoo.training.build.Objective", Watching)
    for conditional in (True, False):
        ganzoo.train(config(steps=2, conditional=conditional, out=f"b{conditional}"))
    for real, labels, asked in seen[:2]:
        assert torch.equal(labels, asked)
        assert torch.equal((real[:, None] - CENTRES).norm(dim=2).argmin(1), labels)
    assert all(asked is None for _, _, asked in seen[2:])


def test_a_conditional_run_resumes_to_the_same_bits():
    whole = ganzoo.train(config(steps=20, checkpoint_every=10))
    ganzoo.train(config(steps=10, checkpoint_every=10, out="parts"))
    resumed = ganzoo.train(config(steps=20, checkpoint_every=10, out="parts"), resume=True)
    for a, b in zip(whole.generator.parameters(), resumed.generator.parameters(), strict=True):
        assert torch.equal(a, b)


def test_fine_tuning_takes_the_classes_along():
    ganzoo.train(config(steps=5))
    tuned = ganzoo.train(config(steps=5, conditional=False, start="./run", out="tuned"))
    assert tuned.config.conditional
    assert tuned.generator.config["num_classes"] == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "nameless"}, "has no labels to generate by"),
        ({"data": "half_named"}, "some items of 'half_named' have no class"),
        ({"data": "digits", "pack": 2}, "a pack would hold items of several classes"),
        ({"conditional": False, "generator": {"num_classes": 3}}, "say --conditional"),
        ({"generator": {"num_classes": 4}}, "num_classes=4, the data 3 classes"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ganzoo.train(config(**settings))
    assert not Path("run").exists()


def test_an_architecture_without_classes_is_refused(ganzoo_cli):
    code, _, err = ganzoo_cli("train", "vanilla", "--conditional", "--steps", "1")
    assert code == 1
    assert "vanilla cannot be class-conditional" in err


def test_a_penalty_may_judge_several_times_the_batch():
    d = Discriminator(num_classes=3)
    x, labels = torch.randn(4, 2), torch.tensor([0, 1, 2, 1])
    batch = Batch(x, x, 0, None, labels=labels, fake_labels=labels)
    assert torch.equal(batch.judge(d)(torch.cat([x, x])), torch.cat([d(x, labels), d(x, labels)]))
    assert batch.judge(d)(x[:0]).shape == (0,)


# DCGAN


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_projection(hidden, norm):
    """Logit = score(features) + <embedding of the class, features>: equation 3 of Miyato & Koyama 2018."""
    _, d = ganzoo.create(
        "dcgan", image_size=28, channels=1, num_classes=3, discriminator={"width": 4, "hidden": hidden, "norm": norm}
    )
    d.eval()
    x, labels = torch.randn(5, 1, 28, 28), torch.tensor([0, 1, 2, 2, 0])
    features = d.layers[:-1](x)
    wanted = d.layers[-1](features) + (features.flatten(1) * d.embed(torch.arange(3))[labels]).sum(1)
    assert torch.allclose(d(x, labels), wanted)
    assert not torch.allclose(d(x, labels), d(x, labels.flip(0)))


def test_dcgan_without_classes_is_as_it_was():
    names = ganzoo.from_pretrained("dcgan.mnist").state_dict().keys()
    g, d = ganzoo.create("dcgan", image_size=28, channels=1, **SMALL)
    assert g.state_dict().keys() == names
    assert not any("embed" in name for name in d.state_dict())
    with pytest.raises(TypeError):
        ganzoo.create("dcgan", image_size=28, channels=1, num_classes=3, **SMALL)[0](torch.randn(2, 100))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "dcgan"
    return ganzoo.train(
        ganzoo.TrainConfig("dcgan", conditional=True, steps=3, batch_size=20, out=str(out), sample_every=2, **SMALL)
    )


def test_samples_by_class(run):
    g = run.generator
    sevens = ganzoo.sample(g, 70, seed=4, labels=7)
    assert sevens.shape == (70, 1, 28, 28)
    assert torch.equal(sevens[:10], ganzoo.sample(g, 10, seed=4, labels=7))
    assert not torch.equal(sevens[0], ganzoo.sample(g, 1, seed=4, labels=1)[0])
    turn = ganzoo.sample(g, 70, seed=4)
    assert torch.equal(turn, ganzoo.sample(g, 70, seed=4, labels=[i % 10 for i in range(70)]))
    assert torch.equal(turn, torch.cat(list(blocks(g, 70, seed=4, labels=torch.arange(70) % 10))))
    assert torch.equal(turn[7], sevens[7])
    assert torch.equal(turn[67], sevens[67])
    frames = list(walk(g, 3, 2, seed=4, labels=7))
    assert torch.equal(frames[0], sevens[:3])


@pytest.mark.parametrize(
    ("labels", "message"), [(10, "no class 10"), (-1, "no class -1"), ([1, 2], r"labels of shape \(2,\) for 3 samples")]
)
def test_classes_that_there_are_not(run, labels, message):
    with pytest.raises(SampleError, match=message):
        ganzoo.sample(run.generator, 3, labels=labels)
    with pytest.raises(SampleError, match="unconditional"):
        ganzoo.sample(ganzoo.from_pretrained("dcgan.mnist"), 3, labels=7)


def test_a_grid_has_a_class_a_row(run, ganzoo_cli):
    assert by_class(64, range(10)) == ([label for label in range(10) for _ in range(6)], 6)
    assert by_class(3, range(10))[1] == 1
    code, _, err = ganzoo_cli("sample", str(run.folder), "-o", "grid.png")
    assert code == 0, err
    with Image.open("grid.png") as picture:
        assert picture.height == 10 * 30 + 2
        left = picture.width - (6 * 30 + 2)
        assert 0 < left < 20  # the digits have names of one letter
        drawn = np.array(picture)[2 + 7 * 30 : 30 + 7 * 30, left + 2 : left + 30]
    row = ganzoo.sample(run.generator, 60, labels=by_class(60, range(10))[0])[42, 0]
    assert np.abs(drawn - (row.numpy() * 127.5 + 127.5)).max() <= 1
    assert ganzoo_cli("sample", str(run.folder), "-o", "two.png", "--class", "1,3", "-n", "10")[0] == 0
    with Image.open("two.png") as picture:
        assert picture.size == (left + 5 * 30 + 2, 2 * 30 + 2)
    with Image.open(run.folder / "samples" / "step-0000003.png") as picture:
        assert picture.size == (left + 6 * 30 + 2, 10 * 30 + 2)


def test_commands_by_class(run, ganzoo_cli):
    source = str(run.folder)
    assert ganzoo_cli("sample", source, "--class", "7", "-n", "5", "-o", "sevens.npy")[0] == 0
    wanted = (ganzoo.sample(run.generator, 5, labels=7) * 127.5 + 127.5).round().permute(0, 2, 3, 1)
    assert np.array_equal(np.load("sevens.npy"), wanted.numpy().astype(np.uint8))
    assert ganzoo_cli("sample", source, "-n", "12", "-o", "each/")[0] == 0
    assert sorted(p.name for p in Path("each").iterdir())[10:] == ["000010-class0.png", "000011-class1.png"]
    assert ganzoo_cli("sample", source, "--class", "7", "-n", "2", "--walk", "--frames", "2", "-o", "w.gif")[0] == 0
    for asked, told in (("12", "no class 12"), ("seven", "none of this generator's 10 classes is called 'seven'")):
        code, _, err = ganzoo_cli("sample", source, "--class", asked, "-o", "x.png")
        assert code == 1
        assert told in err
    code, _, err = ganzoo_cli("sample", "dcgan.mnist", "--class", "7", "-o", "x.png")
    assert code == 1
    assert "unconditional" in err
    assert not Path("x.png").exists()


def test_the_model_folder(run, ganzoo_cli):
    model = run.folder / "model"
    assert ganzoo.from_pretrained(str(model)).config["num_classes"] == 10
    verify(model)
    text = (model / "README.md").read_text()
    assert 'labels="9"' in text
    assert "a class a row" in text
    (snippet,) = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    namespace = {}
    exec(snippet, namespace)
    assert namespace["of_one_class"].shape == (16, 1, 28, 28)


def test_export(run, ganzoo_cli):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    code, _, err = ganzoo_cli("export", str(run.folder), "-o", "g.onnx")
    assert code == 0, err
    session = runtime.InferenceSession("g.onnx", providers=["CPUExecutionProvider"])
    z, labels = torch.randn(11, 100), torch.arange(11) % 10
    (images,) = session.run(None, {"z": z.numpy(), "labels": labels.numpy()})
    with torch.no_grad():
        assert np.abs(images - run.generator(z, labels).numpy()).max() < 1e-4


class Copying(nn.Module):
    """A conditional generator that gives real digits of the class asked for, or of the next one."""

    def __init__(self, shift):
        super().__init__()
        digits = load("digits")
        self.items, self.config = digits.items, {"z_dim": 1, "num_classes": 10}
        self.rows = [(digits.labels == (k + shift) % 10).nonzero()[:, 0] for k in range(10)]

    def forward(self, z, labels):
        picked = [self.rows[k][int(abs(x) * 1e4) % len(self.rows[k])] for x, k in zip(z[:, 0], labels, strict=True)]
        return self.items[torch.stack(picked)] / 127.5 - 1


@pytest.mark.usefixtures("shared_cache")
def test_class_accuracy():
    evaluator = ganzoo.Evaluator("digits", metrics=["modes"], n=500)
    assert evaluator(Copying(0)).values["class_accuracy"] > 0.98
    assert evaluator(Copying(1)).values["class_accuracy"] < 0.02
    assert "class_accuracy" not in evaluator(ganzoo.from_pretrained("dcgan.mnist")).values


@pytest.mark.usefixtures("shared_cache")
def test_eval_shows_it_beside_those_without(run, ganzoo_cli):
    code, out, err = ganzoo_cli(
        "eval", "dcgan.mnist", str(run.folder), "--data", "digits", "-n", "200", "--metrics", "modes"
    )
    assert code == 0, err
    head, unconditional, conditional = out.splitlines()[:3]
    assert head.split()[-1] == "class_accuracy"
    assert unconditional.split()[-1] == "-"
    assert 0 <= float(conditional.split()[-1]) <= 1


def test_dry_run_tells(ganzoo_cli):
    code, out, _ = ganzoo_cli("train", "dcgan", "--conditional", "--dry-run")
    assert code == 0
    assert json.loads(out)["config"]["conditional"] is True
    assert json.loads(out)["classes"] == list("0123456789")
