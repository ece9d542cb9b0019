"""What people write first: it works, or one line says what to write."""

from pathlib import Path

import pytest
import torch

import ganzoo
from ganzoo import ConfigError, SampleError
from ganzoo.data.loading import load


@pytest.fixture
def run(tiny_config):
    return ganzoo.train(tiny_config(steps=3))


def test_training_by_name(workplace):
    run = ganzoo.train("tiny", data="gaussian", steps=2, batch_size=8, out="run")
    assert (run.step, run.config.architecture) == (2, "tiny")
    with pytest.raises(ConfigError, match="steps is a setting of TrainConfig"):
        ganzoo.train(run.config, steps=3)


def test_samples_of_a_run(run):
    assert torch.equal(ganzoo.sample(run, 4), ganzoo.sample(run.generator, 4))


@pytest.mark.parametrize("source", ["dcgan.mnist", Path("runs/a")])
def test_samples_of_a_name(source):
    with pytest.raises(SampleError, match=r"load it first, ganzoo.from_pretrained\('(dcgan.mnist|runs/a)'\)"):
        ganzoo.sample(source, 4)


def test_samples_of_something_else():
    with pytest.raises(SampleError, match="a generator is needed, and this is a dict"):
        ganzoo.sample({}, 4)


def test_a_negative_seed(run):
    with pytest.raises(SampleError, match="seed at least 0, not 4 and -1"):
        ganzoo.sample(run.generator, 4, seed=-1)


def test_a_run_is_shown_in_short(run):
    assert repr(run).startswith("Run('run', architecture='tiny', step=3, metrics={")
    assert len(repr(run)) < 400


def test_none_and_a_penalty(ganzoo_cli):
    shown = ganzoo_cli("train", "dcgan", "--penalty", "none", "--penalty", "gp", "--dry-run")[1]
    assert '"penalties": [\n      "gp"\n    ]' in shown


def test_an_empty_name_of_data(workplace):
    for spec in ("", "  "):
        with pytest.raises(ConfigError, match="--data is empty"):
            load(spec)


def test_an_export_to_another_ending(ganzoo_cli, workplace):
    code, _, err = ganzoo_cli("export", "dcgan.mnist", "-o", "g.txt")
    assert (code, err) == (1, "ganzoo: error: g.txt: a generator is exported to an .onnx file\n")
