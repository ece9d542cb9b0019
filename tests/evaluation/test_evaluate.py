"""Measuring: the figures against closed forms and brute force, their protocol, the cache, what is refused."""

import json
import logging
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import ganzoo
from ganzoo import Data, EvaluationError, Evaluator, evaluate, progress
from ganzoo.data.loading import load
from ganzoo.evaluation import features, measure
from ganzoo.evaluation.extraction import Extraction
from ganzoo.evaluation.measure import evaluate_sources
from ganzoo.evaluation.metrics import divergence, modes, prdc
from ganzoo.files import weights_hash
from ganzoo.store import results
from ganzoo.store.results import Result

DIGITS = load("digits")


@ganzoo.hookimpl
def register_data(register):
    register("halves", halves, summary="some of the digits, with a test split", features="mnist")
    register("some", some, summary="some of the digits", features="mnist")


def halves(split="train"):
    part = slice(0, 1500) if split == "train" else slice(1500, 2500)
    return Data(DIGITS.items[part], DIGITS.labels[part])


def some():
    return halves()


ganzoo.register(sys.modules[__name__])
SOME = halves()


PROTOCOL = {
    "data": "digits",
    "reference": {"n": 100, "sha256": "0"},
    "generated": {"n": 9, "seed": 0},
    "versions": {"torch": "2.14.1"},
}


pytestmark = pytest.mark.usefixtures("shared_cache")


class Draws(nn.Module):
    """A perfect sampler of these uint8 images; `channels` of them side by side make one of that many channels."""

    def __init__(self, items, channels=1):
        super().__init__()
        self.register_buffer("items", items)
        self.channels, self.config = channels, {}

    def draw_latent(self, n, rng):
        return rng.randint(len(self.items), n, self.channels)

    def forward(self, z):
        return self.items[z].flatten(1, 2).float() / 127.5 - 1


class Repeats(Draws):
    """Gives the images in their order, once each."""

    given = 0

    def forward(self, z):
        index = (torch.arange(len(z)) + self.given) % len(self.items)
        self.given += len(z)
        return self.items[index].float() / 127.5 - 1


class Pixels(features.Extractor):
    name, resize = "pixels", "none"

    def forward(self, images):
        return images.flatten(1).float(), None


# Figures


def test_a_set_against_itself():
    items = DIGITS.items[:1500]
    settings = {"features": "mnist", "metrics": ("fid", "prdc")}
    result = evaluate(Repeats(items), Data(items), n=1500, use_cache=False, **settings)
    assert abs(result.values["fid"]) < 1e-3
    assert [result.values[name] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert result.floor is None
    assert result.fid_multiple is None


def test_fid_has_its_closed_form():
    """y = 2x + 10 has mean 2m + 10 and covariance 4S: |m + 10|² + tr(S + 4S - 2·2S)."""
    x = torch.randint(0, 100, (2000, 1, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    evaluator = Evaluator(Data(x), features=Pixels(), n=2000, metrics=["fid"], use_cache=False)
    flat = x.flatten(1).double()
    expected = (flat.mean(0) + 10).square().sum() + flat.T.cov().trace()
    assert evaluator(Repeats(2 * x + 10)).values["fid"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("n", "m", "k"), [(60, 50, 3), (1300, 40, 5)])
def test_prdc_is_what_brute_force_counts(n, m, k):
    from torch_fidelity.metric_prc import prc_features_to_metric  # type: ignore[import-untyped]

    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(n, 3, generator=generator), 0.7 * torch.randn(m, 3, generator=generator) + 0.5

    def distance(a, b):
        return np.sqrt(((a[:, None].double() - b[None].double()) ** 2).sum(2).numpy())

    real_radius = np.sort(distance(real, real), 1)[:, k]
    fake_radius = np.sort(distance(fake, fake), 1)[:, k]
    inside = distance(real, fake) <= real_radius[:, None]
    expected = {
        "precision": np.mean([inside[:, j].any() for j in range(m)]),
        "recall": np.mean([(distance(real, fake)[i] <= fake_radius).any() for i in range(n)]),
        "density": sum(inside[i, j] for i in range(n) for j in range(m)) / (k * m),
        "coverage": np.mean([inside[i].any() for i in range(n)]),
    }
    found = prdc(real, fake, k)
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0 < found["coverage"] < 1
    theirs = prc_features_to_metric(fake, real, prc_neighborhood=k, verbose=False, save_cpu_ram=True)
    assert found["precision"] == pytest.approx(theirs["precision"])
    assert found["recall"] == pytest.approx(theirs["recall"])


def test_divergence():
    assert divergence(np.array([5, 5]), np.array([0.5, 0.5])) == 0
    assert divergence(np.array([0, 7, 0, 0]), np.full(4, 0.25)) == pytest.approx(np.log(4))
    assert divergence(np.array([[1, 3], [2, 2]]), np.array([0.25, 0.75])) == pytest.approx([0, 0.5 * np.log(4 / 3)])


def test_perfect_sampler_of_1000_modes():
    """(modes - 1) / 2n nats to its own balance; to equal shares also the divergence of the balance itself."""
    counts = np.full(1000, 26)
    uniform = modes(counts, np.full(1000, 1e-3))
    assert uniform["kl_perfect"] == pytest.approx(999 / 52_000, rel=0.02)
    assert (uniform["kl"], uniform["kl_uniform"], uniform["modes"]) == (0, 0, 1000)
    share = np.bincount(DIGITS.labels.numpy(), minlength=10) / len(DIGITS.labels)
    balance = np.einsum("i,j,k->ijk", share, share, share).ravel()
    digits = modes(counts, balance)
    assert digits["kl_perfect"] == pytest.approx(999 / 52_000, rel=0.02)
    own = divergence(1e6 * balance, np.full(1000, 1e-3))
    assert digits["kl_uniform_perfect"] == pytest.approx(999 / 52_000 + own, rel=0.03)
    assert digits["modes_perfect"] > 999.9
    assert digits == modes(counts, balance)


# The classifier of digits


def accuracy(data):
    net = features.extractor("mnist")
    with torch.no_grad():
        logits = torch.cat([net(part)[1][:, 0] for part in data.items.split(500)])
    return (logits.argmax(1) == data.labels).double().mean().item()


def test_the_classifier_knows_its_digits():
    assert features.WEIGHTS.stat().st_size < 1_000_000
    assert accuracy(DIGITS) >= 0.995


@pytest.mark.skipif("GANZOO_MNIST" not in os.environ, reason="GANZOO_MNIST names no folder of torchvision's MNIST")
def test_the_classifier_knows_the_test_digits():
    assert accuracy(load("mnist", os.environ["GANZOO_MNIST"], options={"split": "test"})) >= 0.993


def test_modes_of_real_digits():
    result = evaluate(Draws(SOME.items), "some", n=2000, metrics=("is", "modes", "prdc"))
    assert result.values["modes"] == result.values["modes_perfect"] == 10
    assert result.values["kl"] < 3 * result.values["kl_perfect"]
    assert result.values["confident"] > 0.98
    assert 9 < result.values["is"] <= 10
    assert result.values["precision"] > 0.95
    # The samples are images of the reference: on average k other balls hold one, and its own does.
    assert result.values["density"] == pytest.approx(6 / 5, abs=0.08)
    assert 0 < result.values["recall"] <= 1
    assert result.protocol["reference"]["n"] == 1500


def test_modes_of_one_digit():
    evaluator = Evaluator("some", n=1000)
    assert evaluator.metrics == ("fid", "kid", "is", "prdc", "diversity", "modes")
    threes = evaluator(Draws(SOME.items[SOME.labels == 3][:100])).values
    alike = evaluator(Draws(SOME.items)).values
    share = (SOME.labels == 3).double().mean().item()
    assert threes["modes"] <= 2
    assert threes["kl"] == pytest.approx(-np.log(share), rel=0.05)
    assert threes["is"] < 1.2
    assert threes["fid"] > 20 * alike["fid"] > 0
    assert threes["kid"] > 20 * abs(alike["kid"])
    assert threes["recall"] < 0.3 < alike["recall"]
    assert threes["coverage"] < 0.15
    assert evaluator(Draws(SOME.items)).values == alike


def test_modes_of_stacked_digits():
    stacked = Data(DIGITS.items[torch.randint(10_000, (500, 3), generator=torch.Generator().manual_seed(0))][:, :, 0])
    evaluator = Evaluator(stacked, features="mnist", metrics=["modes"], n=1200)
    values = evaluator(Draws(DIGITS.items, channels=3)).values
    assert values["modes"] == pytest.approx(values["modes_perfect"], rel=0.05)
    assert values["kl"] == pytest.approx(values["kl_perfect"], rel=0.1)
    assert values["kl_uniform"] == pytest.approx(values["kl_uniform_perfect"], rel=0.1)
    sevens = Draws(DIGITS.items[DIGITS.labels == 7][:100], channels=3)
    assert evaluator(sevens).values["modes"] < 30
    assert Evaluator(stacked, features="mnist", metrics=["modes"]).n == 26_000
    with pytest.raises(EvaluationError, match="one class for each image"):
        Evaluator(stacked, features="mnist", metrics=["is"])


def test_shared_channels_are_looked_at_once_and_count_the_same():
    table = torch.randint(300, (500, 3), generator=torch.Generator().manual_seed(0))
    composed = ganzoo.Composed(DIGITS.items[:300], table)
    one, other = (Evaluator(Data(items), features="mnist", metrics=["modes"]) for items in (composed, composed[:]))
    for key, value in one._reference.items():
        assert torch.allclose(value, other._reference[key], atol=1e-3), key


def test_modes_want_digits():
    noise = Data(torch.randint(256, (1000, 1, 28, 28), generator=torch.Generator().manual_seed(0)).byte())
    assert "modes" not in Evaluator(noise, features="mnist", n=1000).metrics
    with pytest.raises(EvaluationError, match="sure of"):
        Evaluator(noise, features="mnist", n=1000, metrics=["modes"])


# Protocol


def test_the_callers_randomness_and_modes_are_kept():
    g, _ = ganzoo.create("vanilla", image_size=28, channels=1)
    g.train()
    before = torch.get_rng_state()
    first = evaluate(g, "halves", n=64, metrics=["fid", "modes"])
    assert torch.equal(torch.get_rng_state(), before)
    assert g.training
    torch.manual_seed(99)
    again = evaluate(g, "halves", n=64, metrics=["fid", "modes"], use_cache=False)
    assert first == again


def test_unlike_protocols_are_refused(ganzoo_cli, workplace):
    g = Draws(DIGITS.items)
    one, two = (evaluate(g, "some", n=n, metrics=["fid"]) for n in (100, 200))
    results.compare([one, one])
    with pytest.raises(EvaluationError, match=r"generated\.n is 100 and 200"):
        results.compare([one, two])
    for name, result in (("one", one), ("two", two)):
        (workplace / f"{name}.json").write_text(json.dumps([result.to_dict()]))
    assert results.read_results(workplace / "one.json") == [one]
    code, out, _ = ganzoo_cli("eval", "one.json", "one.json")
    assert (code, len(out.splitlines())) == (0, 3)
    code, out, err = ganzoo_cli("eval", "one.json", "two.json")
    assert (code, out) == (1, "")
    assert "different protocols" in err


def test_versions_are_a_warning_and_no_refusal(caplog):
    """Another patch version of torch rounds differently at most; another reference is another figure."""
    one = Result("one", {"sha256": "0", "kind": "ema"}, {"fid": 1.0}, None, PROTOCOL)
    other = replace(one, source="two", protocol={**PROTOCOL, "versions": {"torch": "2.14.2"}})
    with caplog.at_level("WARNING", "ganzoo"):
        results.compare([one, other])
    assert "one and two were measured differently: versions.torch is '2.14.1' and '2.14.2'" in caplog.text
    renamed = replace(one, protocol={**PROTOCOL, "data": "a folder by another name"})
    results.compare([one, renamed])
    by_class = {**PROTOCOL, "generated": {**PROTOCOL["generated"], "classes": "as in the data"}}
    results.compare([one, replace(one, protocol=by_class)])  # the first one is unconditional
    in_turn = {**PROTOCOL, "generated": {**PROTOCOL["generated"], "classes": "in turn"}}
    with pytest.raises(EvaluationError, match="classes is 'as in the data' and 'in turn'"):
        results.compare([replace(one, protocol=by_class), replace(one, protocol=in_turn)])


def test_figures_of_another_precision_are_never_put_beside_them(caplog):
    g = Draws(DIGITS.items)
    one, half = (evaluate(g, "some", n=100, metrics=["fid"], precision=precision) for precision in ("fp32", "bf16"))
    assert half.values["fid"] == pytest.approx(one.values["fid"], rel=0.2)
    assert half.values != one.values
    with pytest.raises(EvaluationError, match=r"features\.precision is 'fp32' and 'bf16'"):
        results.compare([one, half])
    features_ = {key: value for key, value in one.protocol["features"].items() if key != "precision"}
    old = replace(one, protocol={**one.protocol, "features": features_})  # before there was a choice
    results.compare([one, old, one])
    with pytest.raises(EvaluationError, match=r"features\.precision is 'fp32' and 'bf16'"):
        results.compare([old, half])
    with pytest.raises(EvaluationError, match="fp32 or bf16, not 'fp16'"):
        Evaluator("some", precision="fp16")


def test_files_without_results_are_refused(ganzoo_cli, workplace):
    row = {"source": "x", "weights": {}, "values": {}, "floor": None, "protocol": PROTOCOL}
    (workplace / "one.json").write_text(json.dumps([row]))
    for text in (
        "[1]",
        "{}",
        "[]",
        "[",
        "3",
        "null",
        json.dumps([{**row, "values": {"fid": "low"}}]),
        json.dumps([{**row, "floor": {"fid": 1.0}}]),
        json.dumps([{**row, "fid": 1.0}]),
        '[{"source": "x"}]',
        '[{"source":1,"weights":{},"values":{},"floor":{},"protocol":{}}]',
    ):
        (workplace / "bad.json").write_text(text)
        for arguments in (("bad.json",), ("one.json", "bad.json")):
            code, out, err = ganzoo_cli("eval", *arguments)
            assert (code, out) == (1, ""), text
            assert "bad.json does not hold results" in err, text


def test_the_floor_is_of_real_images_that_the_reference_lacks():
    result = evaluate(Draws(DIGITS.items[2500:]), "halves", n=1200, metrics=("fid", "kid", "modes"))
    again = evaluate(Draws(DIGITS.items[2500:]), "halves", n=1200, metrics=("fid", "kid", "modes"))
    assert result == again
    assert result.protocol["reference"]["n"] == 1500
    assert result.floor["n"] == 1000
    assert result.floor["modes"] == 10
    assert result.fid_multiple == pytest.approx(1, abs=0.5)
    assert result.fid_multiple == result.values["fid"] / result.floor["fid"]


# The command and the cache


@pytest.fixture
def run(ganzoo_cli, workplace):
    sizes = ("--set", "generator.hidden=16", "--set", "discriminator.hidden=16", "--batch-size", 16)
    assert ganzoo_cli("train", "vanilla", "--steps", 2, *sizes, "--out", "run", "-q")[0] == 0
    return workplace / "run"


def test_a_cached_result_is_not_computed_again(ganzoo_cli, run, tmp_path, monkeypatch, caplog):
    cache = tmp_path / "cache"
    monkeypatch.setenv("GANZOO_CACHE", str(cache))
    command = ("eval", "./run", "--data", "halves", "-n", 128, "--metrics", "fid,modes", "--json")
    monkeypatch.setattr(progress, "PLAIN", 0)
    code, out, err = ganzoo_cli(*command)
    assert code == 0, err
    assert "measuring 128 samples" in err
    assert "1500 of 1500 images of halves" in err
    assert "128 of 128 held-out images of halves" in err
    assert "64 of 128 samples of ./run" in err
    (result,) = json.loads(out)
    assert result["weights"]["kind"] == "ema"
    assert result["fid_multiple"] > 1
    assert ganzoo_cli(*command, "--no-cache")[1] == out

    def refuse(*_, **__):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "__call__", refuse)
        patch.setattr(Extraction, "of_batches", refuse)
        assert ganzoo_cli(*command)[1] == out
    code, raw, err = ganzoo_cli(*command, "--raw")
    assert json.loads(raw)[0]["weights"]["kind"] == "raw"
    assert json.loads(raw)[0]["values"] != result["values"]
    assert ganzoo_cli("train", "vanilla", "--resume", "--out", "run", "--steps", 4, "-q")[0] == 0
    code, later, err = ganzoo_cli(*command)
    assert "measuring 128 samples" in err
    assert json.loads(later)[0]["values"] != result["values"]
    assert {path.suffix for path in (cache / "eval").iterdir()} == {".json", ".safetensors"}
    for path in (cache / "eval").iterdir():
        path.write_bytes(b"damaged")
    code, mended, err = ganzoo_cli(*command)
    assert mended == later
    assert err.count("is damaged and is computed again") == 3


def test_eval_prints_a_table_and_its_protocol(ganzoo_cli):
    options = ("--data", "some", "-n", 1000)
    code, out, err = ganzoo_cli("eval", "dcgan.mnist", *options)
    assert code == 0, err
    header, row = out.splitlines()
    assert header.split() == [
        "fid",
        "kid",
        "is",
        "precision",
        "recall",
        "density",
        "coverage",
        "diversity",
        "diversity_pixels",
        "modes",
        "kl",
        "confident",
    ]
    assert row.startswith("dcgan.mnist (ema)")
    assert "10 (perfect 10)" in row
    protocol = json.loads(err.split("protocol: ")[1])
    assert protocol["generated"] == {"n": 1000, "seed": 0}
    assert protocol["prdc"]["k"] == 5
    assert protocol["features"]["sha256"] == weights_hash(features.extractor("mnist"))
    assert protocol["versions"]["torch"] in torch.__version__


def test_all_sources_are_looked_at_before_the_first_is_measured(ganzoo_cli, run, caplog):
    common = ("--data", "some", "-n", 64, "--metrics", "diversity", "--no-cache")
    for sources, told in (
        (("dcgan.mnist", "dcgan.mnits"), "did you mean 'dcgan.mnist'"),
        (("dcgan.mnist", "./nowhere"), "nowhere"),
        (("dcgan.mnist", "dcgan.nouns"), "(image_size 28, channels 1) and dcgan.nouns (image_size 32, channels 3)"),
    ):
        code, out, err = ganzoo_cli("eval", *sources, *common)
        assert (code, out, told in err) == (1, "", True), err
        assert "measuring" not in err


@pytest.mark.parametrize("as_json", [False, True])
def test_rows_that_were_measured_are_kept_when_a_later_one_fails(ganzoo_cli, run, monkeypatch, as_json):
    whole = measure._measure

    def fails(evaluator, g, source, *rest):
        if source == "./run":
            raise EvaluationError("the second one fails")
        return whole(evaluator, g, source, *rest)

    monkeypatch.setattr(measure, "_measure", fails)
    common = ("--data", "some", "-n", 64, "--metrics", "diversity", *(["--json"] if as_json else []))
    code, out, err = ganzoo_cli("eval", "dcgan.mnist", "./run", *common)
    assert (code, "the second one fails" in err) == (1, True), err
    if as_json:
        assert [row["source"] for row in json.loads(out)] == ["dcgan.mnist"]
    else:
        assert out.splitlines()[1].startswith("dcgan.mnist (ema)")
        assert len(out.splitlines()) == 2


def test_grey_images_for_a_generator_in_colour_are_told(caplog):
    colour = torch.randint(256, (80, 3, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
    own = {"features": "mnist", "n": 64, "metrics": ["diversity"], "use_cache": False}
    Evaluator(Data(colour), **own)
    assert "grey" not in caplog.text
    Evaluator(Data(DIGITS.items[:80].expand(-1, 3, -1, -1)), **own)
    assert "the images of data are grey, and samples in colour are compared with them" in caplog.text


def test_a_cache_that_cannot_be_written_costs_no_figures(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file"))
    result = evaluate(Draws(DIGITS.items), Data(DIGITS.items[:500]), features="mnist", n=100, metrics=["fid"])
    assert result.values["fid"] > 0
    assert "cannot be written" in caplog.text


# Other features


@pytest.fixture
def timm_file(tmp_path):
    import timm

    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), path)
    return path


def test_timm_features_from_a_file(timm_file, tmp_path):
    import timm

    found = features.extractor(f"timm:test_resnet={timm_file}")
    images = DIGITS.items[:4]
    values, logits = found(images)
    model = timm.create_model("test_resnet", num_classes=0)
    model.load_state_dict({k: v for k, v in load_file(timm_file).items() if not k.startswith("fc.")})
    side = model.pretrained_cfg["input_size"][1]
    x = nn.functional.interpolate(images.float().expand(-1, 3, -1, -1), (side, side), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    expected = model.eval()((x.clamp(0, 255) / 255 - mean) / std)
    assert values.shape == (4, model.num_features)
    assert logits is None
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)
    result = evaluate(Draws(DIGITS.items), Data(DIGITS.items[:40]), features=found, n=40, metrics=["prdc"])
    assert result.protocol["features"]["name"] == "timm:test_resnet"
    with pytest.raises(EvaluationError, match="do not have"):
        Evaluator(Data(DIGITS.items[:40]), features=found, n=40, metrics=["is"])

    tensors = load_file(timm_file)
    first = next(key for key in tensors if key.endswith("conv1.weight"))
    for wrong in ({**tensors, "stranger": torch.zeros(1)}, {k: v for k, v in tensors.items() if k != first}):
        save_file(wrong, tmp_path / "wrong.safetensors")
        with pytest.raises(EvaluationError, match=r"(stranger|Missing key)"):
            features.extractor(f"timm:test_resnet={tmp_path / 'wrong.safetensors'}")


def test_features_that_cannot_be_had_offline(monkeypatch, tmp_path):
    import huggingface_hub
    from torch_fidelity import feature_extractor_inceptionv3 as library  # type: ignore[import-untyped]

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(library, "URL_INCEPTION_V3", "http://127.0.0.1:9/weights-inception.pth")
    with pytest.raises(EvaluationError, match=r"checkpoints/weights-inception\.pth .*inception=FILE"):
        features.extractor("inception")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EvaluationError, match=r"cannot be fetched.*timm:test_resnet=FILE"):
        features.extractor("timm:test_resnet")


def test_inception_is_never_unpickled_unread(tmp_path):
    torch.save({"conv": torch.zeros(1), "other": DIGITS}, tmp_path / "hostile.pth")
    with pytest.raises(ganzoo.WeightsError, match="hostile"):
        features.extractor(f"inception={tmp_path / 'hostile.pth'}")
    torch.save({"conv": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(EvaluationError, match="does not hold torch-fidelity's Inception weights"):
        features.extractor(f"inception={tmp_path / 'other.pth'}")


# Bad input


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--metrics", "fdi"), "did you mean 'fid'"),
        (("--metrics", ""), "no metric"),
        (("--features", "mnst"), "did you mean 'mnist'"),
        (("--features", "timm:resnet17"), "did you mean 'resnet"),
        (("--features", "timm:"), "timm has no model"),
        (("--features", "timm:resnet18=nowhere.safetensors"), "cannot be read"),
        (("-n", 1, "--metrics", "kid"), "'kid' needs 2 samples"),
        (("-n", 5, "--metrics", "prdc"), "'prdc' needs 6"),
        (("--split", "test"), "'split'"),
        (("--held-out", "digits"), "are the reference itself"),
        (("--held-out", "gaussian"), "gaussian holds no images"),
        (("--precision", "fp16"), "fp32 or bf16"),
        (("--raw",), "--raw is for run folders"),
        (("--data", "gaussian"), "no images"),
        (("--data", "digts"), "did you mean 'digits'"),
    ],
)
def test_bad_input(ganzoo_cli, arguments, told):
    code, out, err = ganzoo_cli("eval", "dcgan.mnist", "--data", "digits", *arguments)
    assert (code, out) == (1, "")
    assert told in err


def test_data_is_required(ganzoo_cli):
    code, _, err = ganzoo_cli("eval", "dcgan.mnist")
    assert code == 2
    assert "--data" in err


def test_samples_that_cannot_be_measured():
    evaluator = Evaluator("some", n=100, metrics=["fid"])
    with pytest.raises(EvaluationError, match=r"\(1, 32, 32\)"):
        evaluator(Draws(torch.zeros(2, 1, 32, 32, dtype=torch.uint8)))
    with pytest.raises(EvaluationError, match="not images"):
        evaluate(ganzoo.create("tiny")[0], "some")
    g, _ = ganzoo.create("vanilla", image_size=28, channels=1)
    next(g.parameters()).data.fill_(float("nan"))
    with pytest.raises(EvaluationError, match="not finite"):
        evaluator(g)


def test_few_samples_for_many_features_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        evaluate_sources(["dcgan.mnist"], "some", n=64, metrics=["fid"])
    assert "FID over 64 features is much too high" in caplog.text


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(EvaluationError, match=r"pip install 'ganzoo\[eval\]'"):
        evaluate(Draws(DIGITS.items), "digits")
