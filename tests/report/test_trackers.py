"""Trackers: what they record, that a resumed run goes on with its record, and that none of them costs the run."""

import contextlib
import csv
import json
import logging
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
import torch

import ganzoo
from crash import Crash, crash_at
from ganzoo.errors import CheckError, ConfigError, PluginError, UnknownNameError
from ganzoo.report import trackers
from ganzoo.testing import check_tracker
from ganzoo.zoo.plugins import registry
from ganzoo.zoo.spelling import TrackerSpec

# Of the libraries, about Python and each other.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")

SETTINGS = {
    "steps": 12,
    "batch_size": 8,
    "log_every": 2,
    "sample_every": 4,
    "checkpoint_every": 6,
    "generator": {"hidden": [8]},
    "out": "run",
}
STEPS = [2, 4, 6, 8, 10, 12]


@pytest.fixture(autouse=True)
def offline(workplace, monkeypatch):
    """Each service keeps everything in the test's own folder."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(workplace))
    monkeypatch.setenv("TRACKIO_DIR", str(workplace / "trackio"))
    monkeypatch.setenv("HOME", str(workplace))


def crashed_and_resumed(track):
    """The log lines of a run that is killed at step 9, after its checkpoint of step 6, and resumed."""
    with pytest.raises(Crash):
        ganzoo.train("vanilla", on_step=crash_at(9), track=track, **SETTINGS)
    ganzoo.train("vanilla", resume=True, track=track, **SETTINGS)
    return log_lines()


def log_lines():
    return [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]


# The trackers of the package


def test_csv_has_the_lines_of_the_log():
    lines = crashed_and_resumed(["csv"])
    with open("run/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == STEPS
    for row, line in zip(rows, lines, strict=True):
        assert {key: float(value) for key, value in row.items() if value} == {
            key: value for key, value in line.items() if key != "warnings"
        }


def test_csv_takes_columns_and_warnings_that_come_later(workplace):
    tracker = trackers.make_trackers([TrackerSpec.parse("csv:file=table.csv")])["csv"]
    run = trackers.TrackedRun(workplace, "a", "b", {}, 0)
    tracker.start(run)
    tracker.log(1, {"a": 1.0})
    tracker.warn(1, "one, two")
    tracker.warn(1, "three")
    tracker.log(2, {"a": 2.0, "fid": 3.0})
    tracker.log(3, {"fid": 4.0})
    with open("table.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["step", "a", "warnings", "fid"],
        ["1", "1.0", "one, two; three", ""],
        ["2", "2.0", "", "3.0"],
        ["3", "", "", "4.0"],
    ]


def test_tensorboard_reads_what_was_written():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    lines = crashed_and_resumed(["tensorboard"])
    events = EventAccumulator("run", size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("d_loss")]
    assert losses == [(line["step"], pytest.approx(line["d_loss"])) for line in lines]
    pictures = events.Images("samples")
    assert [event.step for event in pictures] == [4, 8, 12]
    assert pictures[0].encoded_image_string.startswith(b"\x89PNG")
    text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| batch_size | 8 |" in text
    assert "| generator.hidden | [8] |" in text


TRACKIO = """
import json, sys, ganzoo, trackio
from trackio.sqlite_storage import SQLiteStorage
class Crash(Exception): pass
def on_step(step):
    if step == 9: raise Crash
settings = {**json.loads(sys.argv[1]), "track": ["trackio:project=points"]}
try: ganzoo.train("vanilla", on_step=on_step, **settings)
except Crash: pass
ganzoo.train("vanilla", resume=True, **settings)
(run,) = trackio.Api().runs("points")
print(json.dumps({"config": run.config, "logs": SQLiteStorage.get_logs("points", run.name, run_id=run.id)}))
"""


def test_trackio_has_each_step_once():
    """In a process of its own: trackio decides at import where its store is."""
    command = [sys.executable, "-c", TRACKIO, json.dumps(SETTINGS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    stored = json.loads(done.stdout)  # trackio's own words are not there
    assert stored["config"]["batch_size"] == 8
    assert stored["config"]["generator.hidden"] == [8]
    losses = [(log["step"], log["d_loss"]) for log in stored["logs"] if "d_loss" in log]
    assert losses == [(line["step"], pytest.approx(line["d_loss"])) for line in log_lines()]
    assert [log["step"] for log in stored["logs"] if "samples" in log] == [4, 8, 12]


def wandb_records(path):
    """The records of a .wandb file: protocol buffers in the format of LevelDB's log, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, block, at, parts = path.read_bytes(), 1 << 15, 7, b""
    while at + 7 <= len(data):
        left = block - at % block
        if left < 7:  # padding at the end of a block
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + size > len(data):  # still being written
            return
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def whole_wandb_records(path):
    """The records of a run that has ended. wandb's service writes them, in a process of its own, and may do so after
    the run's end is confirmed."""
    deadline = time.monotonic() + 60
    while True:
        records = list(wandb_records(path))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        assert time.monotonic() < deadline, f"{path} has no record of the run's end"
        time.sleep(0.1)


def test_wandb_offline_holds_the_run(workplace):
    lines = crashed_and_resumed(["wandb:project=points,tags=a,b"])
    first, second = sorted(workplace.glob("wandb/offline-run-*/run-*.wandb"))
    assert first.name == second.name == f"run-{json.loads(Path('run/trackers.json').read_text())['id']}.wandb"
    losses, pictures = {}, set()
    for path in (first, second):
        records = whole_wandb_records(path)
        (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"][:1]
        assert (run.project, run.display_name, list(run.tags)) == ("points", "run", ["a", "b"])
        config = {update.key: json.loads(update.value_json) for update in run.config.update}
        assert config["batch_size"] == 8
        for record in records:
            if record.WhichOneof("record_type") == "history":
                items = {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                if "d_loss" in items:
                    losses[items["_step"]] = items["d_loss"]
                if any(key.startswith("samples") for key in items):
                    pictures.add(items["_step"])
    assert losses == {line["step"]: pytest.approx(line["d_loss"]) for line in lines}
    assert pictures == {4, 8, 12}


def test_the_trackers_of_the_package_keep_the_contract():
    for name in ("csv", "tensorboard", "wandb"):
        check_tracker(name)


def test_one_that_needs_a_package_says_which(monkeypatch):
    import ganzoo_trackers.trackers

    monkeypatch.setattr(ganzoo_trackers.trackers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'ganzoo\[tensorboard\]'"):
        ganzoo.train("vanilla", track=["tensorboard"], **SETTINGS)
    assert not Path("run").exists()  # said before anything begins


def test_wandb_without_a_key_is_refused_when_it_is_made(monkeypatch):
    script = "from ganzoo.report.trackers import *; make_trackers([TrackerSpec('wandb', {})])"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert "ConfigError: wandb: No API key configured" in done.stderr


# Any tracker


class Remembers(ganzoo.Tracker):
    """Remembers what it is told, and misbehaves as its options say."""

    told: list = []  # noqa: RUF012  (a new one for each test)

    def __init__(self, fails="", hangs="", prints=False):
        self.fails, self.hangs, self.prints = fails, hangs, prints

    def tell(self, method, *what):
        self.told.append((method, threading.current_thread().name, *what))
        if self.prints:
            print(f"{method} \x1b[1mprinted\x1b[0m")
        if method == self.fails:
            raise SystemExit("no such server\nat all")
        if method == self.hangs:
            time.sleep(3600)

    def start(self, run):
        self.tell("start", run)

    def log(self, step, values):
        self.tell("log", step, values)

    def picture(self, step, path):
        self.tell("picture", step, path.name)

    def finish(self, status):
        self.tell("finish", status)


class Nothing:
    """No tracker."""


@pytest.fixture
def told(monkeypatch):
    """What the tracker `remembers` is told."""
    plugin = types.ModuleType("remembering")

    @ganzoo.hookimpl
    def register_trackers(register):
        register("remembers", Remembers, summary="in memory")
        register("nothing", Nothing)

    plugin.register_trackers = register_trackers
    monkeypatch.setattr(Remembers, "told", [])
    monkeypatch.setattr(trackers, "CLOSING", 0.5)
    ganzoo.register(plugin)
    yield Remembers.told
    ganzoo.unregister("remembering")


def test_a_tracker_is_told_everything_in_one_thread_of_its_own(told):
    run = ganzoo.train("vanilla", track=["remembers"], **SETTINGS)
    assert {name for _, name, *_ in told} == {"ganzoo tracker remembers"}
    (_, _, start), *rest = told
    assert (start.folder, start.name, start.step, start.config["batch_size"]) == (run.folder, "run", 0, 8)
    assert {"out", "track"} & start.config.keys() == set()
    assert [what[2] for what in rest if what[0] == "log"] == STEPS
    assert rest[-2][0] == "picture"
    assert rest[-1] == ("finish", "ganzoo tracker remembers", "finished")
    _, values = [what[2:] for what in rest if what[0] == "log"][-1]
    assert values == {key: value for key, value in run.metrics.items() if key not in ("step", "warnings")}


def test_a_resumed_run_has_the_same_identity_and_may_change_its_trackers(told, ganzoo_cli):
    ganzoo.train("vanilla", **{**SETTINGS, "steps": 2})
    assert told == []
    code, _, err = ganzoo_cli("train", "vanilla", "--resume", "--out", "run", "--steps", 4, "--track", "remembers")
    assert code == 0, err
    ganzoo_cli("train", "vanilla", "--resume", "--out", "run", "--steps", 6)  # goes on with it
    ganzoo_cli("train", "vanilla", "--resume", "--out", "run", "--steps", 8, "--track", "none")
    starts = [what[2] for what in told if what[0] == "start"]
    assert [start.step for start in starts] == [2, 4]
    assert len({start.id for start in starts}) == 1


def test_a_run_is_the_same_with_and_without_trackers(told):
    weights = []
    for out, track in (("a", []), ("b", ["remembers", "csv"])):
        run = ganzoo.train("vanilla", track=track, **{**SETTINGS, "out": out})
        weights.append(run.generator.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(("error", "status"), [(Crash, "failed"), (None, "interrupted")])
def test_a_tracker_is_told_how_the_run_ended(told, error, status):
    def on_step(step):
        if step == 5:
            if error:
                raise error
            signal.raise_signal(signal.SIGINT)

    with contextlib.suppress(Crash):
        ganzoo.train("vanilla", track=["remembers"], on_step=on_step, **SETTINGS)
    assert told[-1][2] == status


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_one_that_fails_costs_a_line(told, method, caplog):
    caplog.set_level(logging.WARNING, "ganzoo")
    run = ganzoo.train("vanilla", track=[f"remembers:fails={method}", "csv"], **SETTINGS)
    assert run.step == 12
    line = f"tracking with remembers fails ({method}: SystemExit: no such server at all): the run goes on"
    assert caplog.messages[0] == line
    assert caplog.messages[1:] == (["6 records of this run are missing with remembers"] if method == "log" else [])
    assert Path("run/metrics.csv").read_text().count("\n") == 7  # the other one has all
    assert (told[-1][0] == "start") == (method == "start")


def test_one_that_hangs_costs_two_lines(told, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "ganzoo")
    monkeypatch.setattr(trackers, "WAITING", 3)
    run = ganzoo.train("vanilla", track=["remembers:hangs=log"], **SETTINGS)
    assert run.step == 12
    assert Path("run/model/config.json").is_file()
    behind, late = caplog.messages
    assert behind.startswith("tracking with remembers does not keep up")
    assert late.startswith("tracking with remembers has not finished within 0 s")


def test_one_that_is_slow_loses_records_and_is_still_finished(told, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "ganzoo")
    monkeypatch.setattr(trackers, "WAITING", 2)
    monkeypatch.setattr(trackers, "CLOSING", 20.0)
    monkeypatch.setattr(Remembers, "log", lambda self, step, values: time.sleep(0.5))
    ganzoo.train("vanilla", track=["remembers"], **SETTINGS)
    assert told[-1][0] == "finish"
    behind, missing = caplog.messages
    assert behind.startswith("tracking with remembers does not keep up")
    assert missing.endswith("records of this run are missing with remembers")


def test_what_a_tracker_prints_is_a_message_and_no_result(told, ganzoo_cli):
    before = sys.stdout
    code, out, err = ganzoo_cli(
        "train", "vanilla", "--steps", 2, "--batch-size", 8, "--track", "remembers:prints=true", "--out", "run"
    )
    assert (code, out) == (0, "run\n")
    assert "ganzoo: remembers: start printed\n" in err
    assert sys.stdout is before


def test_a_damaged_identity_is_replaced(told, workplace):
    ganzoo.train("vanilla", track=["remembers"], **SETTINGS)
    (workplace / "run" / "trackers.json").write_text('{"id": "../../etc"}')
    ganzoo.train("vanilla", track=["remembers"], resume=True, **{**SETTINGS, "steps": 14})
    one, other = (what[2].id for what in told if what[0] == "start")
    assert one != other
    assert json.loads((workplace / "run" / "trackers.json").read_text()) == {"id": other}


def test_published_settings_name_no_tracker(told):
    run = ganzoo.train("vanilla", track=["remembers:prints=false"], **SETTINGS)
    assert "track" not in json.loads((run.folder / "model" / "training.json").read_text())["config"]
    assert "remembers" not in (run.folder / "model" / "README.md").read_text()


@pytest.mark.slow
def test_of_several_processes_the_first_one_tracks():
    Path("settings.json").write_text(json.dumps({**SETTINGS, "track": ["csv"]}))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "ganzoo", "train", "vanilla", "--config", "settings.json"]
    refused = subprocess.run([*command, "--track", "csv:fil=a"], capture_output=True, text=True, check=False)
    assert "the tracker csv has no setting 'fil'" in refused.stderr
    subprocess.run(command, capture_output=True, check=True)
    with open("run/metrics.csv", newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == STEPS


# Specifications and the registry


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("csv", "csv", {}),
        ("wandb:project=faces", "wandb", {"project": "faces"}),
        ("wandb:tags=a,b,group=c d", "wandb", {"tags": "a,b", "group": "c d"}),
        ("mine:n=3,on=true,none=none", "mine", {"n": 3, "on": True, "none": None}),
    ],
)
def test_specifications(text, name, options):
    assert TrackerSpec.parse(text) == TrackerSpec(name, options)


@pytest.mark.parametrize("text", ["", ":a=1", "csv:", "csv:file", "csv:=1", "csv:a=1,b"])
def test_malformed_specifications(text):
    if text == "csv:a=1,b":  # the comma belongs to the value
        assert TrackerSpec.parse(text).options == {"a": "1,b"}
        return
    with pytest.raises(ConfigError, match="is not of the form NAME"):
        TrackerSpec.parse(text)


def test_unknown_names_and_options_are_answered():
    with pytest.raises(UnknownNameError, match="no tracker is called 'wandbb': did you mean 'wandb'"):
        ganzoo.TrainConfig("vanilla", track=["wandbb"])
    with pytest.raises(ConfigError, match="names 'csv' twice"):
        ganzoo.TrainConfig("vanilla", track=["csv", "csv:file=b.csv"])
    with pytest.raises(ConfigError, match="the tracker csv has no setting 'fil': did you mean 'file'"):
        ganzoo.train("vanilla", track=["csv:fil=a"], **SETTINGS)
    with pytest.raises(ConfigError, match="is a file in the run folder"):
        ganzoo.train("vanilla", track=["csv:file=../a.csv"], **SETTINGS)
    assert not Path("run").exists()


def test_they_are_listed(ganzoo_cli):
    code, out, _ = ganzoo_cli("list", "--trackers", "-q")
    assert (code, out.split()) == (0, ["csv", "tensorboard", "trackio", "wandb"])
    assert ganzoo.list_trackers("t*") == ["tensorboard", "trackio"]
    assert "trackers: csv, tensorboard, trackio, wandb" in ganzoo_cli("plugins", "--check")[1]
    assert registry().tracker("csv").plugin == "ganzoo:trackers"


@pytest.mark.usefixtures("told")
def test_what_is_no_tracker_is_refused():
    with pytest.raises(PluginError, match=r"the tracker nothing of .* is a Nothing: subclass ganzoo\.Tracker"):
        ganzoo.train("vanilla", track=["nothing"], **SETTINGS)


# The check for plugin authors


class Draws(ganzoo.Tracker):
    def log(self, step, values):
        torch.rand(1)


class Changes(ganzoo.Tracker):
    def log(self, step, values):
        values["more"] = 1.0


class Meddles(ganzoo.Tracker):
    def start(self, run):
        (run.folder / "metrics.jsonl").write_text("")


class Breaks(ganzoo.Tracker):
    def log(self, step, values):
        self.first = values.keys() if step == 2 else self.first
        assert values.keys() == self.first


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        (Draws, r"log\(…\) draws from torch's random numbers"),
        (Changes, r"log\(…\) changes what it is given"),
        (Meddles, "changes metrics.jsonl of the run folder"),
        (Breaks, r"log\(…\) fails"),
        (random.Random, "is a Random: subclass ganzoo.Tracker"),
    ],
)
def test_the_check_finds(tracker, message):
    with pytest.raises(CheckError, match=message):
        check_tracker(tracker)


def test_the_check_finds_one_that_hangs(monkeypatch):
    import ganzoo.testing.trackers

    monkeypatch.setattr(ganzoo.testing.trackers, "PATIENCE", 0.2)
    with pytest.raises(CheckError, match=r"finish\(…\) has not returned within 0 s"):
        check_tracker(Remembers, hangs="finish")
