"""The real images of a measurement: parts of data and held-out images, and how many of them there must be."""

import shutil

import pytest
from PIL import Image
from torch import nn

import ganzoo
from ganzoo import Data, EvaluationError, Evaluator, TrainConfig
from ganzoo.data.loading import load
from ganzoo.evaluation.features import Extractor
from ganzoo.store import manifest
from ganzoo.store.results import Result, compare, headline

DIGITS = load("digits").items
TRAIN, TEST, OTHER = DIGITS[:300], DIGITS[300:420], DIGITS[500:560]
MNIST = {"features": "mnist", "use_cache": False}


class Draws(nn.Module):
    """A perfect sampler of these uint8 images."""

    def __init__(self, items):
        super().__init__()
        self.register_buffer("items", items)
        self.config = {}

    def draw_latent(self, n, rng):
        return rng.randint(len(self.items), n)

    def forward(self, z):
        return self.items[z].float() / 127.5 - 1


def write(folder, items):
    folder.mkdir(parents=True)
    for i, image in enumerate(items):
        Image.fromarray(image[0].numpy()).save(folder / f"{i:04d}.png")


@pytest.fixture
def folders(workplace):
    """A folder and a zip with a train and a test part, and a folder without parts."""
    write(workplace / "digits28" / "train", TRAIN)
    write(workplace / "digits28" / "test", TEST)
    write(workplace / "others", OTHER)
    shutil.make_archive("digits28", "zip", "digits28")
    return workplace


@pytest.mark.parametrize("spec", ["digits28/", "digits28.zip"])
def test_either_part_is_the_reference_and_the_other_one_the_floor(folders, spec):
    """Figures against a part of a folder are those against these images in memory."""
    g = Draws(OTHER)
    settings = {"metrics": ["fid", "kid", "prdc"], "n": 100, **MNIST}
    for split, reference, held_out in ((None, TRAIN, TEST), ("train", TRAIN, TEST), ("test", TEST, TRAIN)):
        ours = Evaluator(spec, split=split, **settings)(g)
        theirs = Evaluator(Data(reference), held_out=Data(held_out), **settings)(g)
        assert ours.values == theirs.values
        assert ours.floor == theirs.floor
        assert ours.floor["n"] == 100
        assert ours.protocol["reference"]["n"] == len(reference)
        assert ours.protocol["held_out"]["n"] == len(held_out)
        assert ours.protocol.get("split") == split
    assert ours.floor_images == "100 training images"
    assert theirs.floor_images == "100 held-out images"
    compare([ours, theirs])
    assert ours == Evaluator(spec, split="test", **settings)(g)


def test_held_out_images_are_a_test_part_if_there_is_one(folders):
    settings = {"metrics": ["fid"], "n": 64, **MNIST}
    evaluator = Evaluator("others", held_out="digits28.zip", **settings)
    assert evaluator.protocol["held_out"]["data"] == "digits28.zip"
    assert evaluator.protocol["held_out"]["split"] == "test"
    assert evaluator.floor == Evaluator(Data(OTHER), held_out=Data(TEST), **settings).floor
    evaluator = Evaluator("digits28", held_out="others", **settings)
    assert (evaluator.floor["n"], "split" in evaluator.protocol["held_out"]) == (60, False)
    assert Evaluator(Data(OTHER), **settings).floor is None


def test_held_out_images_must_fit(folders):
    with pytest.raises(EvaluationError, match="reference itself"):
        Evaluator("digits28", held_out=Data(TRAIN), **MNIST)
    with pytest.raises(EvaluationError, match=r"\(1, 14, 14\) and the reference's \(1, 28, 28\)"):
        Evaluator("digits28", held_out=Data(TEST[:, :, ::2, ::2]), **MNIST)
    with pytest.raises(EvaluationError, match="no split 'test': pass the images"):
        Evaluator(Data(TRAIN), split="test", **MNIST)
    with pytest.raises(ganzoo.DataError, match="no split 'val'"):
        Evaluator("digits28", split="val", **MNIST)


def test_the_command_and_the_card_name_the_parts(folders, ganzoo_cli, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(ganzoo.cards_folder() / "dcgan.mnist", model)
    (model / manifest.SCORES).unlink(missing_ok=True)
    manifest.write_config(model, manifest.read_json(model / manifest.CONFIG))
    common = ("--features", "mnist", "-n", 100, "--metrics", "kid")
    code, out, err = ganzoo_cli("eval", model, "--data", "digits28.zip", "--split", "test", *common, "--record")
    assert code == 0, err
    assert out.splitlines()[-1].startswith("floor: 100 training images")
    card = (model / manifest.CARD).read_text()
    assert "--data digits28.zip --metrics kid --split test --features mnist -n 100" in card
    assert "| | 100 samples | 100 training images |" in card
    options = ("--data", "digits28", "--held-out", "others", "--precision", "bf16")
    code, out, err = ganzoo_cli("eval", model, *options, *common, "--record")
    assert code == 0, err
    assert out.splitlines()[-1].startswith("floor: 60 held-out images")
    card = (model / manifest.CARD).read_text()
    assert "--data digits28 --metrics kid --held-out others --features mnist --precision bf16 -n 100" in card


@pytest.mark.usefixtures("shared_cache")
def test_a_training_on_a_folder_with_a_test_part_has_a_floor(folders):
    sizes = {"generator": {"hidden": [8]}, "discriminator": {"hidden": [8]}, "steps": 1, "batch_size": 16}
    config = TrainConfig("vanilla", data="digits28", eval_every=1, eval_features="mnist", eval_samples=64, **sizes)
    run = ganzoo.train(config)
    assert run.metrics["fid_multiple"] > 1


# How many


class Wide(Extractor):
    """100 features: the pixels in the middle."""

    name, resize = "wide", "none"

    def forward(self, images):
        return images[:, 0, 9:19, 9:19].flatten(1).float(), None


def test_samples_are_as_many_as_held_out_images():
    """With other features than those of digits; the bias of FID depends on the number."""
    for held_out, n in ((TEST, 120), (None, 5000)):
        settings = {"features": Wide(), "metrics": ["fid"], "use_cache": False}
        assert Evaluator(Data(TRAIN), held_out=held_out if held_out is None else Data(held_out), **settings).n == n
    assert Evaluator(Data(TRAIN), held_out=Data(TEST), metrics=["fid"], **MNIST).n == 10_000
    assert Evaluator(Data(TRAIN), metrics=["fid"], n=77, features=Wide(), use_cache=False).n == 77


@pytest.mark.parametrize(
    ("reference", "held_out", "n", "short"),
    [
        (DIGITS[:300], DIGITS[300:500], 200, ""),
        (DIGITS[:199], DIGITS[300:500], 200, "there are 199 images of the reference"),
        (DIGITS[:300], DIGITS[300:499], 200, "there are 199 held-out images"),
        (DIGITS[:300], DIGITS[300:500], 199, "there are 199 samples"),
        (DIGITS[:300], None, 200, ""),
    ],
)
def test_fid_needs_twice_as_many_images_as_features(reference, held_out, n, short, caplog):
    held = None if held_out is None else Data(held_out)
    evaluator = Evaluator(Data(reference), held_out=held, n=n, features=Wide(), use_cache=False)
    assert evaluator.metrics == (("kid", "prdc", "diversity") if short else ("fid", "kid", "prdc", "diversity"))
    assert ("kid is measured in place of fid" in caplog.text) == bool(short)
    assert short in caplog.text
    caplog.clear()
    evaluator = Evaluator(Data(reference), held_out=held, n=n, metrics=["fid"], features=Wide(), use_cache=False)
    assert evaluator.metrics == ("fid",)
    assert "much too high" not in caplog.text  # only far too few are worth that
    both = Evaluator(Data(reference), held_out=held, n=n, metrics=["default", "fid"], features=Wide(), use_cache=False)
    assert both.metrics == ("fid", "kid", "prdc", "diversity")


def test_kid_of_few_images():
    evaluator = Evaluator(Data(TRAIN), held_out=Data(TEST), n=200, metrics=["kid"], **MNIST)
    assert evaluator.protocol["kid"]["subset_size"] == 200
    alike, ones = evaluator(Draws(DIGITS[600:900])), evaluator(Draws(DIGITS[600:601]))
    assert evaluator.floor["n"] == 120
    assert abs(evaluator.floor["kid"]) < 5 * evaluator.floor["kid_std"]
    assert abs(alike.values["kid"]) < ones.values["kid"] / 20
    listed = headline([alike.to_dict()])
    assert listed == f"kid {alike.values['kid']:.3g} (floor {evaluator.floor['kid']:.3g})"
    assert Evaluator(Data(DIGITS[:1500]), n=1200, metrics=["kid"], **MNIST).protocol["kid"]["subset_size"] == 1000


def test_a_part_of_a_metric_decides_only_where_both_have_it():
    """An old result without KID has the subsets of 1,000 that it would have used."""
    protocol = {"kid": {"subset_size": 1000}, "generated": {"n": 200}}
    other = {**protocol, "kid": {"subset_size": 200}}
    fid, kid = (Result("x", {}, values, None, protocol) for values in ({"fid": 1.0}, {"kid": 1.0}))
    compare([fid, Result("y", {}, {"fid": 1.0, "kid": 1.0}, None, other)])
    with pytest.raises(EvaluationError, match="subset_size is 1000 and 200"):
        compare([kid, Result("y", {}, {"kid": 1.0}, None, other)])
