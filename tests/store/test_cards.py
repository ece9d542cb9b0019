"""The model folders that ship: complete, as registered, with a card that parses and a snippet that runs."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

import ganzoo
from ganzoo.errors import WeightsError
from ganzoo.files import weights_hash
from ganzoo.store import manifest, models, save
from ganzoo.store.card import rename_source, render_card, with_scores
from ganzoo.store.results import Result, headline, read_results
from ganzoo.zoo.command import train_command
from ganzoo.zoo.plugins import registry

SHIPPED = {name: entry for name, entry in registry().weights.items() if entry.plugin == "ganzoo:pretrained"}


def test_every_folder_is_registered():
    assert {path.parent.name for path in ganzoo.cards_folder().glob("*/config.json")} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights(name):
    folder = SHIPPED[name].path
    assert models.verify(folder)["difference"] <= models.TOLERANCE
    config = manifest.read_config(folder)
    assert f"{config.architecture}.{config.tag}" == name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5_000_000
    with Image.open(folder / manifest.PICTURE) as picture:
        assert picture.size > (100, 100)


@pytest.mark.parametrize("name", SHIPPED)
def test_card(name):
    text = (SHIPPED[name].path / manifest.CARD).read_text()
    data = ModelCard(text).data.to_dict()
    assert data["library_name"] == "ganzoo"
    translates = manifest.read_config(SHIPPED[name].path).architecture == "pix2pix"
    assert data["pipeline_tag"] == ("image-to-image" if translates else "unconditional-image-generation")
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
    settings = {
        "steps": 7, "lr": 3e-4, "penalties": ["gp=1", "r1@4"], "betas": [0.1, 0.9], "lr_schedule": "cosine",
        "generator": {"hidden": [8, 9], "output": "sigmoid"}, "loss": "lsgan", "n_critic": 2, "flip": True,
        "pack": 2, "eval_every": 3,
    }  # fmt: skip
    for config in (ganzoo.TrainConfig("vanilla", **settings), ganzoo.TrainConfig("dcgan", conditional=True)):
        code, out, err = ganzoo_cli(*shlex.split(train_command(config.to_dict()))[1:], "--dry-run")
        assert code == 0, err
        assert json.loads(out)["config"] == config.to_dict()


def test_the_command_starts_from_another_recipe_where_its_own_has_new_options():
    """The default of version 0.1.0, which had no joint batch, is the recipe `digits` of today."""
    old = {**ganzoo.TrainConfig("dcgan", recipe="digits").to_dict(), "recipe": "default", "steps": 10_000}
    assert train_command(old) == "ganzoo train dcgan --recipe digits --steps 10000"


def result(seed=0, **values):
    protocol = {"data": "digits", "reference": {"n": 10_000}, "features": {"name": "mnist"}}
    protocol |= {"generated": {"n": 2000, "seed": seed}}
    return Result("x", {"sha256": "0", "kind": "ema"}, values, {"fid": 0.5, "n": 100.0}, protocol)


def test_scores_stand_in_the_card_and_its_metadata():
    model = {"architecture": "dcgan", "tag": "x", "generator": {}, "requires": {}}
    training = {"config": ganzoo.TrainConfig("dcgan").to_dict(), "step": 3, "versions": {}}
    text = render_card(model, training, name="me/x", license="", parameters=1, shape=(1, 28, 28), picture="")
    assert "None measured yet." in text
    assert "not stated" in text
    text = with_scores(text, [result(fid=12.0, precision=0.9), result(1, fid=13.0, precision=0.9)])
    assert "None measured" not in text
    assert "| fid | 12.5 ± 0.7 (25.0 x floor) | 0.5 |" in text
    assert "ganzoo eval me/x --data digits --metrics fid,prdc --features mnist -n 2000 --seed 0" in text
    found = {r.metric_type: (r.metric_value, r.dataset_name) for r in ModelCard(text).data.eval_results}
    assert found == {"fid": (12.5, "digits"), "precision": (0.9, "digits")}
    again = with_scores(text, [result(fid=7.0)])
    assert "12.5" not in again
    assert "| fid | 7 (14.0 x floor) | 0.5 |" in again
    assert "## Limits" in again
    assert "ganzoo eval hf-hub:me/y --data" in rename_source(again, "hf-hub:me/y")


@pytest.fixture
def model(tmp_path):
    """A model folder of its own: the shipped one, without scores."""
    folder = tmp_path / "model"
    shutil.copytree(ganzoo.cards_folder() / "dcgan.mnist", folder)
    (folder / manifest.SCORES).unlink(missing_ok=True)
    manifest.write_config(folder, manifest.read_json(folder / manifest.CONFIG))
    return folder


@pytest.mark.usefixtures("shared_cache")
def test_record_writes_what_was_measured_into_the_model_folder(model, ganzoo_cli):
    options = ("--data", "digits", "-n", "500", "--metrics", "fid,modes")
    for seed in ("0", "1", "0"):
        code, out, err = ganzoo_cli("eval", str(model), *options, "--record", "--json", "--seed", seed)
        assert code == 0, err
    models.verify(model)
    assert not list(model.parent.glob(".model*"))
    scores = read_results(model / manifest.SCORES)
    assert [score.protocol["generated"]["seed"] for score in scores] == [0, 1]
    assert scores[0].values == json.loads(out)[0]["values"]
    text = (model / manifest.CARD).read_text()
    assert f"{(scores[0].values['fid'] + scores[1].values['fid']) / 2:.4g}" in text
    assert "over latents of the seeds 0, 1" in text
    code, out, err = ganzoo_cli("eval", str(model / manifest.SCORES))
    assert code == 1
    assert "seed" in err


def test_record_refuses_what_is_not_its_own(model, ganzoo_cli):
    options = ("--data", "digits", "-n", "100", "--metrics", "modes", "--record")
    code, _, err = ganzoo_cli("eval", "dcgan.mnist", *options)
    assert code == 1
    assert "model folder of your own" in err
    assert ganzoo_cli("eval", str(model), *options, "--raw")[0] == 2
    with pytest.raises(WeightsError, match="not measured with the weights"):
        save.record(model, result(fid=1.0))
    before = {path: path.read_bytes() for path in model.iterdir()}
    sha256 = weights_hash(ganzoo.from_pretrained(str(model)))
    (model / manifest.CARD).write_text("changed")
    with pytest.raises(WeightsError, match=manifest.CARD):
        save.record(model, replace(result(fid=1.0), weights={"sha256": sha256}))
    before.pop(model / manifest.CARD)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_listings_show_the_first_score(model):
    from ganzoo.cli.catalogue import _weights_facts

    shown = replace(registry().weights["dcgan.mnist"], path=model)
    assert _weights_facts(shown)["score"] == ""
    (model / manifest.SCORES).write_text(json.dumps([result(fid=3.0, modes=10.0).to_dict()]))
    manifest.write_config(model, manifest.read_json(model / manifest.CONFIG))
    assert _weights_facts(shown)["score"] == "fid 6.0 x floor"
    several = [result(fid=value, modes=10.0, seed=seed).to_dict() for seed, value in enumerate((3.0, 4.0))]
    assert headline(several) == "fid 7.0 x floor"
    values = {"modes": 1000.0, "modes_perfect": 1000.0}
    assert headline([{"values": values}]) == "1,000 modes"
    assert headline([]) == ""


def test_shipped_weights_draw_the_same_on_every_call():
    g = ganzoo.from_pretrained("dcgan.mnist")
    assert torch.equal(ganzoo.sample(g, 5, seed=1), ganzoo.sample(ganzoo.from_pretrained("dcgan.mnist"), 5, seed=1))


@pytest.mark.parametrize("name", registry().weights)
def test_listings_and_cards_of_our_weights_say_one_figure(name):
    from ganzoo.cli.catalogue import _weights_facts

    weights = registry().weights[name]
    card = (Path(weights.path) / manifest.CARD).read_text(encoding="utf-8")
    metric, figure, *floor = _weights_facts(weights)["score"].split()
    cell = re.search(rf"^\| {metric} \| ([^|]*) \|", card, re.MULTILINE)[1]
    if floor[:2] == ["x", "floor"]:
        assert f"({figure} x floor)" in cell
    else:
        assert float(figure) == pytest.approx(float(cell.split()[0]), rel=0.02)
