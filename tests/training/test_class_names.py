"""The names of classes, from the data to a published generator and back into training."""

import json
import logging
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo import Data, WeightsError, hookimpl
from ganzoo.sampling.classes import name_classes
from ganzoo.sampling.draw import walk
from ganzoo.sampling.pictures import row_names
from ganzoo.store import manifest
from ganzoo.store.card import render_card, source_name
from ganzoo.store.models import verify
from ganzoo.zoo.plugins import registry

SMALL = {"generator": {"width": 2, "hidden": 8}, "discriminator": {"width": 2, "hidden": 8}}
NAMES = ["ant", "bee", "7"]


def squares(classes=NAMES):
    """Grey squares of 28 pixels, lighter with the number of their class."""
    labels = torch.arange(60) % 3
    return Data((labels * 100).byte()[:, None, None, None].repeat(1, 1, 28, 28), labels, classes=classes)


class Plugin:
    @hookimpl
    def register_data(self, register):
        register("squares", squares)
        register("nameless_squares", lambda: squares(None))
        register("turned_squares", lambda: squares(["7", "bee", "cat", "never seen"]))


@pytest.fixture(autouse=True, scope="module")
def plugin():
    if "squares" not in registry().data:
        ganzoo.register(Plugin())


def config(**settings):
    defaults = {"data": "squares", "conditional": True, "steps": 2, "batch_size": 8, **SMALL}
    return ganzoo.TrainConfig("dcgan", **{**defaults, **settings})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ganzoo.train(config(out=str(tmp_path_factory.mktemp("runs") / "run")))


def names_of(source):
    return ganzoo.from_pretrained(str(source)).class_names


def test_a_run_and_its_model_folder_know_the_names(run):
    assert run.generator.class_names == run.raw_generator.class_names == NAMES
    assert "class_names" not in run.generator.config
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    for source in (run.folder, checkpoint, run.folder / "model"):
        assert names_of(source) == NAMES
    assert verify(run.folder / "model")["difference"] == 0


def test_an_unconditional_run_has_no_names(tmp_path):
    unconditional = ganzoo.train(config(conditional=False, out="run"))
    assert unconditional.generator.class_names is None
    content = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert content["format"] == 1
    assert "classes" not in content
    assert names_of("./run") is names_of("./run/model") is None


def test_names_that_no_item_has_are_left_out():
    assert ganzoo.train(config(data="turned_squares", out="run")).generator.class_names == ["7", "bee", "cat"]


def test_names_survive_a_resumption_without_them(run, tmp_path):
    """Also a run from before there were names takes those of its data."""
    shutil.copytree(run.folder, tmp_path / "named")
    settings = replace_data(tmp_path / "named", "nameless_squares")
    assert ganzoo.train(settings.replace(steps=3), resume=True).generator.class_names == NAMES
    assert names_of("./named/model") == NAMES
    ganzoo.train(config(data="nameless_squares", out="old"))
    assert names_of("./old/model") is None
    settings = replace_data(tmp_path / "old", "squares")
    assert ganzoo.train(settings.replace(steps=3), resume=True).generator.class_names == NAMES
    assert names_of("./old") == names_of("./old/model") == NAMES


def replace_data(folder, name):
    """Let a run take its data from elsewhere: the same items with or without names."""
    content = json.loads((folder / "training.json").read_text())
    content["config"]["data"] = name
    (folder / "training.json").write_text(json.dumps(content))
    return ganzoo.TrainConfig.from_dict({**content["config"], "out": str(folder)})


@pytest.mark.parametrize("part", ["", "/model"])
def test_fine_tuning_keeps_the_names_where_the_data_has_none(run, part):
    start = f"{run.folder}{part}"
    tuned = ganzoo.train(config(data="nameless_squares", start=start, out="tuned"))
    assert tuned.generator.class_names == NAMES
    assert names_of("./tuned/model") == NAMES


def test_fine_tuning_takes_the_names_of_the_data_and_warns_where_numbers_moved(run, caplog):
    caplog.set_level(logging.WARNING, "ganzoo")
    tuned = ganzoo.train(config(data="turned_squares", start=str(run.folder), out="tuned"))
    assert tuned.generator.class_names == ["7", "bee", "cat"]
    assert f"the class '7' is number 2 in {run.folder} and number 0 in the data" in caplog.text
    assert "bee" not in caplog.text


def test_a_version_without_names_is_told_to_upgrade(run):
    """It reads format 1 alone, and would call the key unknown."""
    assert json.loads((run.folder / "model" / "config.json").read_text())["format"] == 2


def test_sampling_by_name(run):
    g = run.generator
    bees = ganzoo.sample(g, 3, seed=1, labels=1)
    assert torch.equal(ganzoo.sample(g, 3, seed=1, labels="bee"), bees)
    assert torch.equal(next(walk(g, 3, 2, seed=1, labels="bee")), bees)
    mixed = ganzoo.sample(g, 4, labels=["7", 0, "bee", "1"])
    assert torch.equal(mixed, ganzoo.sample(g, 4, labels=[2, 0, 1, 1]))
    with pytest.raises(ganzoo.SampleError, match="is called 'be': did you mean 'bee'"):
        ganzoo.sample(g, 4, labels="be")
    with pytest.raises(ganzoo.SampleError, match="unconditional"):
        ganzoo.sample(ganzoo.from_pretrained("dcgan.mnist"), 3, labels="bee")


def test_commands_by_name(run, ganzoo_cli):
    sample = ("sample", str(run.folder), "-n", "6", "-o")
    assert ganzoo_cli(*sample, "two.npy", "--class", "bee,7")[0] == 0
    assert ganzoo_cli(*sample, "numbers.npy", "--class", "1,2")[0] == 0
    assert np.array_equal(np.load("two.npy"), np.load("numbers.npy"))
    assert ganzoo_cli(*sample, "each/", "--class", "bee")[0] == 0
    assert sorted(path.name for path in Path("each").iterdir())[0] == "000000-class1.png"
    code, _, err = ganzoo_cli(*sample, "x.png", "--class", "ants")
    assert code == 1
    assert "did you mean 'ant'" in err


def test_grids_show_the_names(run, ganzoo_cli):
    """Of the run, of the model folder and of the command; a single class needs none."""
    widths = []
    for number, path in enumerate((run.folder / "samples" / "step-0000002.png", run.folder / "model" / "samples.png")):
        with Image.open(path) as picture:
            assert picture.height == 3 * 30 + 2
            widths.append(picture.width - (21 * 30 + 2))
            label = np.array(picture)[2 + number * 30 : 30 + number * 30, : widths[-1]]
        assert label.any()
    assert ganzoo_cli("sample", str(run.folder), "--class", "bee,ant", "-n", "4", "-o", "two.png")[0] == 0
    assert ganzoo_cli("sample", str(run.folder), "--class", "bee", "-n", "4", "-o", "one.png")[0] == 0
    assert ganzoo_cli("sample", str(run.folder), "-n", "6", "--walk", "--frames", "2", "-o", "walk.gif")[0] == 0
    for path, columns in (("two.png", 2), ("one.png", 2), ("walk.gif", 2)):
        with Image.open(path) as picture:
            widths.append(picture.width - (columns * 30 + 2))
    assert widths[0] == widths[1] == widths[2] == widths[4] > 10
    assert widths[3] == 0


def test_names_in_other_letters():
    g, _ = ganzoo.create("dcgan", image_size=28, channels=1, num_classes=3, **SMALL)
    assert row_names(g, [0, 1]) is None
    name_classes(g, ["café", "犬", "red 犬"])
    assert row_names(g, [2, 1, 0]) == ["red", "class 1", "cafe"]


def test_the_card_lists_the_names(run):
    text = (run.folder / "model" / "README.md").read_text()
    assert "| classes | ant, bee, 7 |" in text
    (snippet,) = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    assert 'labels="7")  # a name, or 0 to 2' in snippet
    namespace = {}
    exec(snippet, namespace)
    assert namespace["of_one_class"].shape == (16, 1, 28, 28)


def test_names_in_a_card_are_no_markup():
    names = ["<b>|x|</b>", 'from_pretrained("evil")', *(f"n{i}" for i in range(100))]
    model = {"architecture": "dcgan", "tag": "x", "generator": {"num_classes": 102}, "requires": {}, "classes": names}
    text = render_card(model, {}, name="me/x", license="", parameters=1, shape=(1, 28, 28), picture="")
    assert r"| classes | \<b\>\|x\|\</b\>, from\_pretrained(\"evil\"), n0, n1," in text
    assert "n47 and 52 more, in `config.json` |" in text
    assert source_name(text) == "me/x"


def test_info_shows_the_names(run, ganzoo_cli):
    class Weights:
        @hookimpl
        def register_weights(self, register):
            register("dcgan.squares", path=run.folder / "model", license="mit")

    ganzoo.register(Weights(), "weights of squares")
    try:
        code, out, err = ganzoo_cli("info", "dcgan.squares")
    finally:
        ganzoo.unregister("weights of squares")
    assert code == 0, err
    assert "ant, bee, 7" in out


CONFIGS = {
    "format 1 had none": (lambda c: c.update(format=1), "unknown key 'classes'"),
    "too few": (lambda c: c["classes"].pop(), "a name for each of the generator's 3 classes"),
    "an object": (lambda c: c.update(classes={"a": 1}), "must be a list"),
    "twice": (lambda c: c.update(classes=["a", "b", "a"]), "two classes are called 'a'"),
    "numbers": (lambda c: c.update(classes=[0, 1, 2]), "the name of class 0"),
    "control characters": (lambda c: c.update(classes=["a", "b", "\x1b[2J"]), "the name of class 2"),
    "long": (lambda c: c.update(classes=["a", "b" * 257, "c"]), "the name of class 1"),
    "of no classes": (lambda c: c["generator"].pop("num_classes"), "'classes' must be"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_hostile_names(run, tmp_path, case):
    change, message = CONFIGS[case]
    shutil.copytree(run.folder / "model", tmp_path / "model")
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    change(content)
    (tmp_path / "model" / "config.json").write_text(manifest.config_text(content))
    with pytest.raises(WeightsError, match=message) as caught:
        ganzoo.from_pretrained("./model")
    assert "\x1b" not in str(caught.value)


def test_the_onnx_file_holds_the_names(run, ganzoo_cli, monkeypatch):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    code, _, err = ganzoo_cli("export", str(run.folder), "-o", "g.onnx")
    assert code == 0, err
    session = runtime.InferenceSession("g.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["ganzoo.classes"]) == NAMES
    for label in ("bee", "1", "7", "2"):
        monkeypatch.setattr("sys.argv", ["onnx_sample.py", "g.onnx", "-n", "4", "--class", label, "-o", f"{label}.png"])
        runpy.run_path(str(Path(__file__).parents[2] / "examples" / "onnx_sample.py"), run_name="__main__")
    pictures = [Path(f"{label}.png").read_bytes() for label in ("bee", "1", "7", "2")]
    assert pictures[0] == pictures[1] != pictures[2] == pictures[3]
