"""Checkpoints appear whole or not at all, and a damaged one is never taken for whole."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import ganzoo
from ganzoo.store import runs
from ganzoo.store.networks import load_run


@pytest.fixture
def run(tiny_config):
    """A finished run with checkpoints at steps 20 and 30."""
    return ganzoo.train(tiny_config())


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "truncated": lambda folder: truncate(folder / "state.safetensors"),
    "flipped": lambda folder: flip(folder / "state.safetensors"),
    "missing": lambda folder: (folder / "state.safetensors").unlink(),
    "no state": lambda folder: (folder / "state.json").unlink(),
    "half a state": lambda folder: truncate(folder / "state.json"),
    "another format": lambda folder: (folder / "state.json").write_text('{"format": 2}'),
    "not an object": lambda folder: (folder / "state.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoint_is_passed_over(run, damage, tiny_config, caplog):
    newest = run.folder / "checkpoints" / "step-0000030"
    # Clones: what is loaded may be mapped from the very file that is damaged next.
    whole = {key: value.clone() for key, value in runs.load_newest(run.folder).tensors.items()}
    DAMAGE[damage](newest)
    assert runs.load_newest(run.folder).step == 20
    assert "step-0000030" in caplog.text
    again = ganzoo.train(tiny_config(), resume=True)  # trains steps 20..30 anew, over the damaged one
    assert again.step == 30
    found = runs.load_newest(run.folder)
    assert found.step == 30
    assert all(torch.equal(value, whole[key]) for key, value in found.tensors.items())


def test_all_damaged_is_an_error_and_nothing_is_deleted(run, tiny_config):
    for folder in (run.folder / "checkpoints").iterdir():
        truncate(folder / "state.safetensors")
    before = sorted(run.folder.rglob("*"))
    with pytest.raises(ganzoo.CheckpointError, match=r"no checkpoint of run is whole.*another --out"):
        ganzoo.train(tiny_config(), resume=True)
    assert sorted(run.folder.rglob("*")) == before


def test_a_half_written_checkpoint_is_invisible(run, tiny_config):
    """What a kill in the middle of a save leaves: the folder under its temporary name."""
    half = run.folder / "checkpoints" / ".step-0000040.tmp"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    assert runs.load_newest(run.folder).step == 30
    assert ganzoo.train(tiny_config(steps=40), resume=True).step == 40
    assert not half.exists()


def test_metrics_are_cut_back_and_a_torn_line_is_dropped(run):
    path = run.folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 35, "d_lo')
    runs.cut_metrics(run.folder, 20)
    assert [line[:11] for line in path.read_text().splitlines()] == [f'{{"step": {s}'[:11] for s in ("5,", 10, 15, 20)]


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"config": {}}', '{"config": {"architecture": "tiny", "stps": 1}}']
)
def test_damaged_training_json(run, content):
    path = run.folder / "training.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ganzoo.CheckpointError, match=r"training\.json"):
        runs.read_training(run.folder)


def test_tied_and_transposed_tensors_are_saved(run):
    base = torch.arange(6.0).view(2, 3)
    tensors = {
        "a": base,
        "b": base,
        "c": base.T,
        "d": torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    }
    state = {"seconds": 1.0, "model": {"architecture": "tiny", "generator": {}, "discriminator": {}}}
    runs.save_checkpoint(run.folder, 50, tensors, state)
    found = runs.load_newest(run.folder).tensors
    assert all(torch.equal(value, found[key]) for key, value in tensors.items())


def test_sampling_a_run_gives_its_averaged_generator(run):
    g = load_run(run.folder)
    assert isinstance(g, nn.Module)
    assert not g.training
    assert torch.equal(ganzoo.sample(g, 5), ganzoo.sample(run.generator, 5))


def test_a_place_that_cannot_be_written(tiny_config, workplace):
    (workplace / "file").write_text("not a folder")
    with pytest.raises(ganzoo.CheckpointError, match="cannot be written"):
        ganzoo.train(tiny_config(out="file/run"))
    with pytest.raises(ganzoo.CheckpointError, match="exists already"):
        ganzoo.train(tiny_config(out="file"))
    assert (workplace / "file").read_text() == "not a folder"


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
import torch, ganzoo, tiny
ganzoo.register(tiny)
settings = dict(data="gaussian", steps=30, checkpoint_every=10, out="run")
config = ganzoo.TrainConfig("tiny", generator={{"width": 512}}, **settings)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def fill(step):
    if step == 15:  # from here on the system refuses to write files of more than 2 kB
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

try:
    ganzoo.train(config, on_step=fill)
except ganzoo.CheckpointError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_a_full_disk_keeps_the_checkpoint_before(workplace):
    script = FULL_DISK.format(tests=os.path.dirname(os.path.dirname(__file__)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "step-0000020 cannot be written" in done.stdout
    assert runs.load_newest(workplace / "run").step == 10
    assert [p.name for p in (workplace / "run" / "checkpoints").iterdir()] == ["step-0000010"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "training.json", "checkpoints/step-0000002/state.json"])
@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_and_not_waited_for(ganzoo_cli, workplace, name, kind):
    command = ("train", "vanilla", "--set", "generator.hidden=4", "--set", "discriminator.hidden=4", "--out", "run")
    assert ganzoo_cli(*command, "--steps", 2, "-q")[0] == 0
    path = workplace / "run" / name
    path.unlink()
    kind(path)
    code, out, err = ganzoo_cli("train", "vanilla", "--resume", "--out", "run", "--steps", 3, "-q")
    assert (code, out) == (1, ""), err
    assert f"run/{name} is no regular file" in err or "is not a run folder" in err


@pytest.mark.parametrize("line", ["[]", "1", '{"step": "x"}', "{}", "[" * 5000, "\udcff"])
def test_lines_of_the_log_that_are_none_are_left_out_on_resume(ganzoo_cli, workplace, line):
    command = ("train", "vanilla", "--set", "generator.hidden=4", "--set", "discriminator.hidden=4", "--out", "run")
    assert ganzoo_cli(*command, "--steps", 2, "--set", "log_every=1", "-q")[0] == 0
    log = workplace / "run" / "metrics.jsonl"
    log.write_bytes(line.encode("utf-8", "surrogateescape") + b"\n" + log.read_bytes())
    code, _, err = ganzoo_cli("train", "vanilla", "--resume", "--out", "run", "--steps", 3, "-q")
    assert code == 0, err
    assert [json.loads(text)["step"] for text in log.read_text().splitlines()] == [1, 2, 3]
