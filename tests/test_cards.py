"""The model folders that ship: complete, as registered, with a card that parses and a snippet that runs."""

import re

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

import ganzoo
from ganzoo import weights
from ganzoo.card import render_card, train_command
from ganzoo.plugins import registry

SHIPPED = {name: entry for name, entry in registry().weights.items() if entry.plugin == "ganzoo:pretrained"}


def test_every_folder_is_registered():
    assert {path.parent.name for path in ganzoo.cards_folder().glob("*/config.json")} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights(name):
    folder = SHIPPED[name].path
    assert weights.verify(folder)["difference"] <= weights.TOLERANCE
    config = weights.read_config(folder)
    assert f"{config.architecture}.{config.tag}" == name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5_000_000
    with Image.open(folder / weights.PICTURE) as picture:
        assert picture.size > (100, 100)


@pytest.mark.parametrize("name", SHIPPED)
def test_card(name):
    text = (SHIPPED[name].path / weights.CARD).read_text()
    data = ModelCard(text).data.to_dict()
    assert data["library_name"] == "ganzoo"
    assert data["pipeline_tag"] == "unconditional-image-generation"
    assert data["license"] == SHIPPED[name].license
    assert "ganzoo" in data["tags"]
    for section in ("Model", "Training", "Scores", "Limits", "Licence", "Citation"):
        assert f"## {section}" in text
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    namespace = {}
    exec(snippet, namespace)
    shape = re.search(r"# \((.*?)\)", snippet)[1]
    assert ", ".join(map(str, namespace["images"].shape)) == shape
    assert f'"{name}"' in snippet


def test_the_command_in_a_card_gives_the_configuration_back(ganzoo_cli):
    import json
    import shlex

    settings = {
        "steps": 7, "lr": 3e-4, "penalties": ["gp=1", "r1@4"], "betas": [0.1, 0.9], "lr_schedule": "cosine",
        "generator": {"hidden": [8, 9], "output": "sigmoid"}, "loss": "lsgan", "n_critic": 2, "flip": True,
    }  # fmt: skip
    config = ganzoo.TrainConfig("vanilla", **settings).to_dict()
    code, out, err = ganzoo_cli(*shlex.split(train_command(config))[1:], "--dry-run")
    assert code == 0, err
    assert json.loads(out)["config"] == config


def test_a_card_with_scores_carries_their_protocol():
    score = {"metric": "fid", "value": 12.5, "data": "mnist", "protocol": "mnist features, 10,000 samples"}
    model = {"architecture": "dcgan", "tag": "x", "generator": {}, "requires": {}}
    training = {"config": ganzoo.TrainConfig("dcgan").to_dict(), "step": 3, "scores": [score], "versions": {}}
    text = render_card(model, training, name="me/x", license="", parameters=1, shape=(1, 28, 28), picture="")
    (result,) = ModelCard(text).data.eval_results
    assert (result.metric_type, result.metric_value) == ("fid", 12.5)
    assert "| fid | 12.5 | mnist features, 10,000 samples |" in text
    assert "not stated" in text


def test_shipped_weights_draw_the_same_on_every_call():
    g = ganzoo.from_pretrained("dcgan.digits")
    assert torch.equal(ganzoo.sample(g, 5, seed=1), ganzoo.sample(ganzoo.from_pretrained("dcgan.digits"), 5, seed=1))
