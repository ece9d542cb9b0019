"""Files that lie, with hashes mended: checkpoints whose tensors fit nothing, headers that claim what is not there."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ganzoo
from ganzoo import CheckpointError, WeightsError
from ganzoo.files import file_hash
from ganzoo.store.manifest import config_text, read_json
from ganzoo.store.models import load_network, verify
from ganzoo.store.runs import _digest


@pytest.fixture
def checkpoint(tiny_config):
    """Changes the newest checkpoint of a run, mends its hashes, and returns what resuming says."""
    ganzoo.train(tiny_config(steps=10))
    folder = Path("run/checkpoints/step-0000010")

    def change(tensors=None, drop=(), state=None, digest=True):
        values = load_file(folder / "state.safetensors")
        values = {**{key: value for key, value in values.items() if key not in drop}, **(tensors or {})}
        save_file(values, folder / "state.safetensors")
        content = json.loads((folder / "state.json").read_text()) | (state or {})
        facts = {"size": (folder / "state.safetensors").stat().st_size}
        content["files"] = {"state.safetensors": {**facts, "sha256": file_hash(folder / "state.safetensors")}}
        content.pop("digest")
        content |= {"digest": _digest(content)} if digest else {}
        (folder / "state.json").write_text(json.dumps(content))
        with pytest.raises(CheckpointError) as caught:
            ganzoo.train(tiny_config(), resume=True)
        return str(caught.value)

    return change


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"g_optimizer.0.exp_avg": torch.zeros(())}, "g_optimizer has 0.exp_avg of torch.float32 (), not of"),
        ({"d_optimizer.2.exp_avg_sq": torch.zeros(16, 700)}, "d_optimizer has 2.exp_avg_sq"),
        ({"g_optimizer.0.exp_avg": torch.zeros(32, 4, dtype=torch.int32)}, "of torch.int32"),
        ({"g_optimizer.99.exp_avg": torch.zeros(1)}, "'99.exp_avg', which is no state of this run's optimizer"),
        ({"g_optimizer.0.momentum": torch.zeros(32, 4)}, "'0.momentum', which is no state"),
        ({"generator.layers.0.weight": torch.zeros(3, 3)}, "does not fit this run at generator.layers.0.weight"),
        ({"discriminator.more": torch.zeros(1)}, "does not fit this run at discriminator.more"),
        ({"ema.layers.0.bias": torch.zeros(32, dtype=torch.float64)}, "does not fit this run at ema.layers.0.bias"),
        ({"totals.made_up": torch.zeros(())}, "has means that belong to nothing"),
    ],
)
def test_tensors_that_fit_nothing(checkpoint, tensors, message):
    assert message in checkpoint(tensors)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"seconds": "long"}, "has no time of training"),
        ({"seconds": None}, "has no time of training"),
        ({"best": {"step": 3}}, "has no step and fid of its best"),
        ({"best": [1]}, "has no step and fid of its best"),
        ({"counts": {"d_loss": -1}}, "has means that belong to nothing"),
        ({"step": -1}, "state.json names no step"),
        ({"step": "10"}, "state.json names no step"),
        ({"model": None}, "is damaged"),
        ({"model": {"architecture": "tiny", "generator": {}}}, "state.json: 'discriminator' must be an object"),
        ({"model": {"architecture": "tiny", "generator": [], "discriminator": {}}}, "'generator' must be an object"),
        ({"model": {"architecture": "tiny", "generator": {}, "discriminator": {}, "rate": -1}}, "'rate' must be"),
        ({"model": {"architecture": "tiny", "generator": {}, "discriminator": {}, "classes": 3}}, "'classes' must be"),
    ],
)
def test_states_that_mean_nothing(checkpoint, state, message):
    assert message in checkpoint(state=state)


@pytest.mark.parametrize("settings", [{"width": 5}, {"width": 10**9}, {"width": -1}, {"no_such": 1}])
def test_a_run_whose_weights_do_not_fit_its_settings(checkpoint, settings):
    state = json.loads(Path("run/checkpoints/step-0000010/state.json").read_text())["model"]
    checkpoint(tensors={"generator.more": torch.zeros(1)}, state={"model": {**state, "generator": settings}})
    for use in (ganzoo.from_pretrained, lambda source: ganzoo.save_pretrained(source, "model")):
        with pytest.raises(
            CheckpointError,
            match=r"step-0000010 is damaged: (its ema|the generator's settings|.*larger than any network)",
        ):
            use("./run")


def test_a_run_that_says_little_of_its_training(tiny_config):
    run = ganzoo.train(tiny_config(steps=2)).folder
    settings = json.loads((run / "training.json").read_text())["config"]
    del settings["generator"], settings["discriminator"], settings["steps"]
    (run / "training.json").write_text(json.dumps({"config": settings}))  # no versions, no hardware
    card = ganzoo.save_pretrained(run, "model") / "README.md"
    assert re.search(r"^2 of \d+ steps on gaussian in 0.0 minutes\. Every setting", card.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "step"])
def test_a_missing_moment(checkpoint, name):
    assert f"g_optimizer lacks 0.{name}" in checkpoint(drop=[f"g_optimizer.0.{name}"])


def test_the_state_of_another_optimizer(checkpoint):
    assert "'0.square_avg', which is no state" in checkpoint({"g_optimizer.0.square_avg": torch.zeros(32, 4)})


def test_a_missing_tensor(checkpoint):
    assert "does not fit this run at generator.layers.0.bias" in checkpoint(drop=["generator.layers.0.bias"])


def test_a_state_that_was_edited(tiny_config):
    ganzoo.train(tiny_config(steps=10))
    path = Path("run/checkpoints/step-0000010/state.json")
    path.write_text(path.read_text().replace('"seconds": ', '"seconds": 1'))
    with pytest.raises(CheckpointError, match=r"state.json differs from its own digest"):
        ganzoo.train(tiny_config(), resume=True)


def test_other_folders_among_the_checkpoints(tiny_config):
    ganzoo.train(tiny_config(steps=10))
    for name in ("step-abc", "step-", "step-1"):
        (Path("run/checkpoints") / name).mkdir()
    assert ganzoo.train(tiny_config(), resume=True).step == 30


def mend(folder):
    """Write the sizes and hashes of a model folder's files into its config.json."""
    content = read_json(folder / "config.json")
    for name in content["files"]:
        facts = {"size": (folder / name).stat().st_size, "sha256": file_hash(folder / name)}
        content["files"][name] = facts
    (folder / "config.json").write_text(config_text(content))


@pytest.fixture
def model(tiny_config):
    return ganzoo.save_pretrained(ganzoo.train(tiny_config(steps=2)), "model")


def test_a_header_that_claims_gigabytes(model):
    """1.3 KB that say they are a network of 4.3 GB: nothing is built for them."""
    content = read_json(model / "config.json")
    content["generator"]["width"] = 32768
    (model / "config.json").write_text(config_text(content))
    g, _ = ganzoo.create("tiny", width=4)
    shapes = {
        "layers.0.weight": (32768, 4),
        "layers.0.bias": (32768,),
        "layers.4.weight": (2, 32768),
        "layers.4.bias": (2,),
    }
    assert g.state_dict().keys() == shapes.keys()
    header = {key: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for key, shape in shapes.items()}
    text = json.dumps(header).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    mend(model)
    with pytest.raises(WeightsError, match="is damaged"):
        load_network(model, "generator")


def test_golden_images_without_end(model):
    golden = load_file(model / "test.safetensors")
    for images in (torch.zeros(10**7, 0), torch.zeros(65, 2), torch.zeros(0, 2)):
        save_file({**golden, "images": images}, model / "test.safetensors")
        mend(model)
        with pytest.raises(WeightsError, match="golden images are 1 to 64"):
            verify(model)
