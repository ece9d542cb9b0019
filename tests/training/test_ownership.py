"""What may go wrong around a run: two processes in one folder, links out of it, data that moved, names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ganzoo
from ganzoo import CheckpointError, ConfigError, Data, GanzooError
from ganzoo.store.networks import load_run
from ganzoo.store.owner import LINKABLE, owning


def hold(folder):
    """A process that owns a run folder until it is killed."""
    script = (
        "import sys, time; from pathlib import Path; from ganzoo.store.owner import owning\n"
        "with owning(Path(sys.argv[1])): print('owned', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "owned\n"
    return process


def test_one_process_at_a_time(tiny_config):
    ganzoo.train(tiny_config(steps=5))
    holder = hold("run")
    before = Path("run/metrics.jsonl").read_bytes()
    try:
        with pytest.raises(CheckpointError, match=rf"run is in use by process {holder.pid} on .*: wait for it"):
            ganzoo.train(tiny_config(), resume=True)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert Path("run/metrics.jsonl").read_bytes() == before
    assert ganzoo.train(tiny_config(), resume=True).step == 30  # a killed process holds nothing


def test_a_new_run_is_owned_while_it_trains(tiny_config):
    def at_2(step):
        if step == 2:
            with pytest.raises(CheckpointError, match=f"in use by process {os.getpid()}"):
                ganzoo.train(tiny_config(), resume=True)

    assert ganzoo.train(tiny_config(steps=4), on_step=at_2).step == 4
    with owning(Path("run")):
        pass  # given back at the end


@pytest.mark.parametrize("name", LINKABLE)
def test_links_out_of_a_run_are_not_followed(tiny_config, workplace, name):
    ganzoo.train(tiny_config(steps=10))
    outside = workplace / "outside"
    if (workplace / "run" / name).exists():
        shutil.move(workplace / "run" / name, outside)
    else:
        outside.mkdir()
    (workplace / "run" / name).symlink_to(outside)
    before = sorted((path, path.stat().st_mtime_ns) for path in [outside, *outside.rglob("*")])
    with pytest.raises(CheckpointError, match="is a symbolic link"):
        ganzoo.train(tiny_config(), resume=True)
    assert sorted((path, path.stat().st_mtime_ns) for path in [outside, *outside.rglob("*")]) == before


@pytest.fixture
def moving(monkeypatch):
    """Data by two names, and other data by a third."""

    class Plugin:
        @ganzoo.hookimpl
        def register_data(self, register):
            register("here", lambda: Data(torch.arange(400.0).view(200, 2)))
            register("there", lambda: Data(torch.arange(400.0).view(200, 2)))
            register("elsewhere", lambda: Data(torch.arange(400.0).flip(0).view(200, 2)))

    ganzoo.register(Plugin())
    yield
    ganzoo.unregister("Plugin")


def test_data_that_has_moved(tiny_config, moving):
    ganzoo.train(tiny_config(data="here", steps=10))
    assert ganzoo.train(tiny_config(data="there"), resume=True).step == 30
    message = "the data 'elsewhere' is not that of 'there', with which the run in run began"
    with pytest.raises(ConfigError, match=message):
        ganzoo.train(tiny_config(data="elsewhere", steps=40), resume=True)


def test_a_run_whose_loss_is_gone_can_be_sampled(tiny_config):
    class Plugin:
        @ganzoo.hookimpl
        def register_losses(self, register):
            register("fleeting", type("Fleeting", (ganzoo.Loss,), {
                "discriminator": lambda self, real, fake: fake - real, "generator": lambda self, fake, real=None: -fake,
            }))  # fmt: skip

    ganzoo.register(Plugin())
    run = ganzoo.train(tiny_config(steps=5, loss="fleeting"))
    ganzoo.unregister("Plugin")
    expected = ganzoo.sample(run.generator, 4)
    assert torch.equal(ganzoo.sample(load_run(Path("run")), 4), expected)
    assert torch.equal(ganzoo.sample(ganzoo.from_pretrained("./run"), 4), expected)


@pytest.mark.parametrize("name", [os.fsdecode(b"run-\xff"), "x" * 300, "a\0b"])
def test_names_that_no_run_can_have(tiny_config, workplace, name):
    with pytest.raises(GanzooError) as caught:
        ganzoo.train(tiny_config(out=name, steps=2))
    assert "\n" not in str(caught.value)
    str(caught.value).encode("utf-8")
    assert not list(workplace.glob("**/training.json"))
