"""JSON that lies, wherever it is read: too deep, too long, numbers without end, and pipes."""

import json
import math
import os
import re
from pathlib import Path

import pytest

import ganzoo
from ganzoo import ConfigError, GanzooError
from ganzoo.evaluation.figures_cache import read_figures
from ganzoo.files import JSON_LIMIT, parse_json, read_json
from ganzoo.report.record import read_record
from ganzoo.store.results import read_results
from ganzoo.store.runs import read_training
from ganzoo.zoo.config import read_file
from ganzoo.zoo.spelling import parse_value

HOSTILE = {
    "deep": ("[" * 100_000, "nested too deeply"),
    "as deep as Python's parser allows": ('{"a": ' * 65 + "1" + "}" * 65, "nested more than 64 levels deep"),
    "long": (f'{{"a": "{"x" * JSON_LIMIT}"}}', "more than the limit of 1,048,576 bytes"),
    "cut off": ('{"a": ', "Expecting value"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_json(case):
    text, message = HOSTILE[case]
    Path("file.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(Path("file.json"))


def test_honest_json():
    value = {"a": [1, -2.5, 1e300, None, True, "ü"], "b": {"c": int("9" * 308)}}
    Path("file.json").write_text(json.dumps(value))
    Path("link.json").symlink_to("file.json")
    assert read_json(Path("link.json")) == parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("digits", [309, 5000])
def test_numbers_that_no_float_holds(digits):
    """Python makes a whole number of up to 4,300 digits, and an error of more."""
    assert parse_json(f'{{"a": [{"9" * digits}, -{"9" * digits}]}}') == {"a": [math.inf, -math.inf]}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("name", ["training.json", "checkpoints/step-0000010/state.json"])
def test_hostile_files_of_a_run(tiny_config, name, case):
    text, message = HOSTILE[case]
    folder = ganzoo.train(tiny_config(steps=10)).folder
    (folder / name).write_text(text)
    with pytest.raises(GanzooError, match=message) as caught:
        ganzoo.train(tiny_config(), resume=True)
    assert "\n" not in str(caught.value)
    assert name.removesuffix("/state.json") in str(caught.value)


def test_a_pipe_in_the_place_of_a_run_file(tiny_config):
    folder = ganzoo.train(tiny_config(steps=10)).folder
    (folder / "training.json").unlink()
    os.mkfifo(folder / "training.json")
    with pytest.raises(GanzooError, match=r"training\.json .*no regular file"):
        read_training(folder)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_page_of_hostile_settings(tiny_config, case):
    """The page shows what can be shown."""
    folder = ganzoo.train(tiny_config(steps=10)).folder
    (folder / "training.json").write_text(HOSTILE[case][0])
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(HOSTILE[case][0] + "\n")
    record = read_record(folder)
    assert (record.config, record.steps) == ({}, [5, 10])


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_of_others(case):
    text, message = HOSTILE[case]
    path = Path("file.json")
    path.write_text(text)
    for read in (read_results, read_file):
        with pytest.raises(GanzooError, match=f"{re.escape(str(path))}.*{message}") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert read_figures(path) is None


def test_settings_from_a_pipe():
    """As a shell gives them: --config <(generate-settings)."""
    os.mkfifo("pipe")
    if os.fork() == 0:
        with open("pipe", "w") as pipe:
            pipe.write('{"steps": 5}')
        os._exit(0)
    assert read_file(Path("pipe")) == {"steps": 5}
    os.wait()


def test_hostile_settings_on_the_command_line():
    assert parse_value("9" * 5000) == math.inf
    text, message = HOSTILE["deep"]
    with pytest.raises(ConfigError, match=message) as caught:
        parse_value(text)
    assert len(str(caught.value)) < 200
