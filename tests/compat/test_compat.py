"""What was written for and by version 0.1.0 (commit e8ed868) goes on working: its public names, a stranger's plugin and
script, a run folder and a model folder. `write_folders.py` and `stranger_script.py` gave the expected figures with that
commit."""

import dataclasses
import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ganzoo
from ganzoo.data import load

HERE = Path(__file__).parent
NAMES = [
    "Batch",
    "CheckError",
    "CheckpointError",
    "Composed",
    "ConfigError",
    "Data",
    "DataError",
    "EvaluationError",
    "Evaluator",
    "ExportError",
    "GanzooError",
    "HubError",
    "Loss",
    "Objective",
    "Penalty",
    "PluginError",
    "Result",
    "Rng",
    "Run",
    "SampleError",
    "TrainConfig",
    "TrainingError",
    "UnknownNameError",
    "WeightsError",
    "cards_folder",
    "create",
    "evaluate",
    "fetch_file",
    "from_pretrained",
    "hookimpl",
    "list_architectures",
    "list_data",
    "list_losses",
    "list_penalties",
    "list_pretrained",
    "push",
    "register",
    "sample",
    "save_pretrained",
    "train",
    "unregister",
]


def test_the_public_names_are_still_there():
    assert set(NAMES) <= set(ganzoo.__all__)
    for name in NAMES:
        assert getattr(ganzoo, name) is not None


@pytest.mark.parametrize("change", ["positional", "keyword", "replaced"])
def test_the_former_name_of_the_fakes_is_accepted(change):
    real, z, fake = torch.zeros(2, 3), torch.zeros(2, 4), torch.ones(2, 3)
    rng = ganzoo.Rng(0, 0, "test")
    if change == "positional":
        batch = ganzoo.Batch(real, z, 0, rng, None, None, None, None, False, fake)
    elif change == "keyword":
        batch = ganzoo.Batch(real, z, 0, rng, made=fake)
    else:
        batch = dataclasses.replace(ganzoo.Batch(real, z, 0, rng, fakes=torch.zeros(2, 3)), made=fake)
    assert torch.equal(batch.fake(torch.nn.Identity(), graph=False), fake)


def test_a_strangers_plugin_and_script_give_the_same_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(sys, "argv", ["stranger_script.py", str(tmp_path / "work")])
    runpy.run_path(str(HERE / "stranger_script.py"), run_name="__main__")
    figures = json.loads(capsys.readouterr().out)
    expected = json.loads((HERE / "stranger_figures.json").read_text())
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == (value if _exact(value) else pytest.approx(value, rel=1e-3, abs=1e-4)), name


def _exact(value):
    """Whether a value holds words or flags, which `approx` does not compare."""
    return isinstance(value, list) and any(isinstance(entry, str | dict | bool) for entry in value)


@pytest.fixture
def expected():
    return load_file(HERE / "folder_tensors.safetensors"), json.loads((HERE / "folder_figures.json").read_text())


@pytest.fixture
def folder(tmp_path):
    """Copies of the run folder `run` and the model folder `model` that version 0.1.0 wrote."""
    for name in ("run", "model"):
        shutil.copytree(HERE / name, tmp_path / name)
    (tmp_path / "run" / "samples").mkdir(exist_ok=True)  # it was empty, and git keeps no empty folders
    return tmp_path


def test_an_interrupted_run_resumes_to_the_same_weights(folder, expected):
    tensors, figures = expected
    settings = json.loads((folder / "run" / "training.json").read_text())["config"]
    run = ganzoo.train(ganzoo.TrainConfig.from_dict({**settings, "out": "run"}), resume=True)
    assert (run.step, run.interrupted) == (20, False)
    assert {key: run.metrics[key] for key in figures["resumed"]} == pytest.approx(figures["resumed"], rel=1e-3)
    for part, network in (("ema", run.generator), ("d", run.discriminator)):
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, tensors[f"{part}.{key}"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["run", "model"])
def test_folders_give_the_same_samples_and_figures(folder, expected, name):
    tensors, figures = expected
    g = ganzoo.from_pretrained(f"./{name}")
    torch.testing.assert_close(ganzoo.sample(g, 4, seed=1), tensors[f"samples of the {name}"], rtol=0, atol=2e-3)
    digits = ganzoo.Data(load("digits", image_size=14, channels=1).items[:300])
    result = ganzoo.evaluate(f"./{name}", digits, features="mnist", metrics=["fid"], n=100)
    assert result.values["fid"] == pytest.approx(figures[f"fid of the {name}"], rel=1e-3)


def test_a_model_folder_verifies_and_its_scores_are_shown(folder, ganzoo_cli):
    code, _, err = ganzoo_cli("verify", "./model")
    assert code == 0, err
    code, out, err = ganzoo_cli("eval", "model/scores.json")
    assert code == 0, err
    assert "886.3" in out


def test_a_run_folder_is_continued_and_published_by_the_commands(folder, ganzoo_cli):
    code, _, err = ganzoo_cli("train", "vanilla", "--resume", "--out", "run", "--steps", 22)
    assert code == 0, err
    assert json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 22
    code, _, err = ganzoo_cli("save", "run", "-o", "published", "--license", "mit")
    assert code == 0, err
    assert ganzoo_cli("verify", "./published")[0] == 0
