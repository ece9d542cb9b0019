"""Many processes learn what one learns: real processes over gloo, as torchrun starts them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ganzoo
import worker
from ganzoo.store import runs

HERE = Path(__file__).parents[1]
EXACT = [case for case in worker.CASES if case not in worker.SABOTAGED]
PAIRS = [f"{loss}-{penalty}" for loss in worker.LOSSES for penalty in worker.PENALTIES]
OFTEN = ["rpgan-gp", *(pair for pair in PAIRS if pair.startswith("nonsaturating-") or pair.endswith("-none"))]
"""Each loss without a penalty, one loss with each penalty, and the pair that the tests below compare with."""
REST = [pair for pair in PAIRS if pair not in OFTEN]
QUICK = [case for case in EXACT if case not in REST]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
STARTUP = 120
"""Seconds that processes on a loaded machine may take to come up or to end."""


def launch(folder, cases, processes=1):
    """Train the cases on so many processes; what each learned, by case."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, HERE / "worker.py", folder, *cases],
            env={**environment, "WORLD_SIZE": str(processes), "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    for process in started:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    return {case: load_file(folder / f"{case}.safetensors") for case in (text.partition(":")[0] for text in cases)}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Every case but the rest, learned by one process and by two."""
    folder = tmp_path_factory.mktemp("learned")
    return tuple(launch(folder / str(n), [*QUICK, *worker.SABOTAGED], processes=n) for n in (1, 2))


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    """The rest, learned by one process, by two, and by one in parts."""
    folder = tmp_path_factory.mktemp("rest")
    parts = launch(folder / "parts", [f"{case}:accumulate=4" for case in REST])
    return *(launch(folder / str(n), REST, processes=n) for n in (1, 2)), parts


def same(left, right):
    """Equal up to rounding, which is in proportion to a tensor's largest value."""
    assert left.keys() == right.keys()
    return all((value - right[key]).abs().max() <= 1e-9 * value.abs().max() for key, value in left.items())


@pytest.mark.parametrize("case", QUICK)
def test_two_processes_learn_what_one_learns(learned, case):
    one, two = learned
    assert any(value.dtype == torch.float64 for value in one[case].values())
    assert same(one[case], two[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", REST)
def test_two_processes_and_parts_learn_what_one_learns(rest, case):
    one, two, parts = rest
    assert any(value.dtype == torch.float64 for value in one[case].values())
    assert same(one[case], two[case])
    assert same(one[case], parts[case])


@pytest.mark.parametrize("case", worker.SABOTAGED)
def test_the_comparison_would_notice(learned, case):
    """Ranks that take the same items, or draw or estimate each for itself, end elsewhere."""
    one, two = learned
    assert not same(one[case], two[case])


def test_accumulation_learns_what_the_whole_batch_does(learned, tmp_path):
    cases = [case for case in QUICK if not case.startswith(("batchnorm", "infogan", "srgan", "vaegan"))]  # BatchNorm
    parts = launch(tmp_path / "parts", [f"{case}:accumulate=4" for case in cases])
    for case in cases:
        assert same(learned[0][case], parts[case]), case


@pytest.mark.slow
def test_accumulation_on_two_processes(learned, tmp_path):
    both = launch(tmp_path / "both", ["rpgan-gp:accumulate=2"], processes=2)
    assert same(learned[0]["rpgan-gp"], both["rpgan-gp"])


RESUMED = ["rpgan-gp", "cyclegan"]
"""Cyclegan's history of images is that of all processes."""


@pytest.mark.parametrize(("first", "second"), [(1, 2), pytest.param(2, 1, marks=pytest.mark.slow)])
def test_a_checkpoint_of_some_processes_resumes_on_others(learned, tmp_path, first, second):
    launch(tmp_path / "out", [f"{case}:steps=10" for case in RESUMED], processes=first)
    resumed = launch(tmp_path / "out", [f"{case}:steps=20:resume" for case in RESUMED], processes=second)
    for case in RESUMED:
        assert same(learned[0][case], resumed[case]), case


def test_a_batch_must_divide():
    with pytest.raises(
        ganzoo.ConfigError, match="does not divide into 1 processes x 3 parts x packs of 1: give a multiple of 3"
    ):
        ganzoo.train(ganzoo.TrainConfig("tiny", data="gaussian", batch_size=64, accumulate=3))


# Through torchrun and the command line

SMALL = ["--penalty", "none", "--batch-size", "16", "--set", "generator.hidden=8", "--set", "discriminator.hidden=8"]
TRAIN = ["train", "vanilla", *SMALL, "--set", "checkpoint_every=20", "--set", "lr_schedule=constant"]


def torchrun(*arguments, processes=2):
    return subprocess.Popen(
        [*TORCHRUN, str(processes), "-m", "ganzoo", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(found, process):
    end = time.monotonic() + STARTUP
    while not (value := found()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def trained_on(folder):
    """The newest step of a run, once there is a checkpoint."""
    return max((int(path.name[5:]) for path in folder.glob("checkpoints/step-*")), default=0)


def rank_process(launcher, rank):
    """The process id of one of torchrun's children."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(re.search(r"^PPid:\s+(\d+)", (path / "status").read_text(), re.M)[1])
            environment = (path / "environ").read_bytes().split(b"\0")
        except (OSError, TypeError):
            continue
        if parent == launcher.pid and f"RANK={rank}".encode() in environment:
            return int(path.name)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_one_process_killed_stops_all_and_nothing_is_lost(tmp_path, ganzoo_cli):
    run = tmp_path / "run"
    launcher = torchrun(*TRAIN, "--steps", 100_000, "--out", "run")
    wait_for(lambda: trained_on(run) >= 40, launcher)
    os.kill(rank_process(launcher, 1), signal.SIGKILL)
    _, err = launcher.communicate(timeout=STARTUP)
    assert launcher.returncode != 0
    assert "ganzoo: error: another process of this run stopped or cannot be reached" in err
    assert "--resume" in err
    kept = runs.load_newest(run).step
    assert kept >= 40
    code, _, err = ganzoo_cli("train", "vanilla", "--resume", "--out", "run", "--steps", 100_000 + 5, "--dry-run")
    assert code == 0, err
    config, _ = runs.read_training(run)
    resumed = ganzoo.train(config.replace(accumulate=2), resume=True, on_step=stop_after(kept + 3))
    assert resumed.step == kept + 3


def stop_after(step):
    def on_step(done):
        if done == step - 1:
            signal.raise_signal(signal.SIGTERM)

    return on_step


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_two_processes_stop_together_and_resume_to_the_same_bits(tmp_path):
    run = tmp_path / "run"
    launcher = torchrun(*TRAIN, "--steps", 100_000, "--out", "run")
    wait_for(lambda: trained_on(run) >= 20, launcher)
    os.kill(rank_process(launcher, 1), signal.SIGTERM)  # one is told, all stop, at the same step
    out, err = launcher.communicate(timeout=STARTUP)
    assert (launcher.returncode, out.strip()) == (0, "run"), err
    stopped = runs.load_newest(run).step
    assert f"stopped at step {stopped} of 100000; continue with:" in err
    stored = json.loads((run / "training.json").read_text())
    stored["config"]["steps"] = stopped + 10  # a run of many steps, so that it could be stopped, made a short one
    (run / "training.json").write_text(json.dumps(stored))
    for arguments in (
        ["train", "vanilla", "--resume", "--out", "run"],
        [*TRAIN, "--out", "whole", "--steps", stopped + 10],
    ):
        launcher = torchrun(*arguments)
        _, err = launcher.communicate(timeout=STARTUP)
        assert launcher.returncode == 0, err
    left, right = (runs.load_newest(tmp_path / name) for name in ("run", "whole"))
    assert left.step == right.step == stopped + 10
    assert left.tensors.keys() == right.tensors.keys()
    assert all(torch.equal(value, right.tensors[key]) for key, value in left.tensors.items())
    assert not list(tmp_path.glob("runs"))


@pytest.mark.slow
def test_a_mistake_is_told_by_every_process_and_leaves_nothing(tmp_path):
    launcher = torchrun("train", "vanilla", "--batch-size", "15", "--out", "run")
    _, err = launcher.communicate(timeout=STARTUP)
    assert launcher.returncode == 1
    assert "ganzoo: error: a batch of 15 does not divide into 2 processes x 1 parts" in err
    assert not (tmp_path / "run").exists()
