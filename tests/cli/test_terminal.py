"""Losing the terminal does not lose the run: streams that are closed, broken or full, and the signals of a shell."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shells and signals of POSIX")

TRAIN = (
    f"{sys.executable} -m ganzoo train vanilla --batch-size 8 --set log_every=2 --set sample_every=20 --out run --steps"
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def shell(command):
    return subprocess.run(["bash", "-c", command], env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("redirection", ["2>&1 >/dev/null | head -n 1", "2>/dev/full", "2>&- >&-"])
def test_talk_is_not_worth_a_run(workplace, redirection):
    shell(f"{TRAIN} 20 {redirection}")
    assert (workplace / "run" / "model" / "config.json").is_file()
    assert (workplace / "run" / "metrics.jsonl").read_text().count("\n") == 10


def test_a_full_disk_under_standard_output_is_one_line(workplace):
    done = shell(f"{sys.executable} -m ganzoo list > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "ganzoo: error: the output cannot be written: No space left on device\n"


def test_a_reader_that_has_seen_enough(workplace):
    assert shell(f"{sys.executable} -m ganzoo list | head -n 1").stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_shows_in_the_exit_code(workplace, number, code):
    # What a shell starts in the background may ignore the signal.
    script = (
        "import os, signal, sys; signal.signal(int(sys.argv[1]), signal.SIG_DFL); os.execv(sys.argv[2], sys.argv[2:])"
    )
    command = [sys.executable, "-c", script, str(number.value), *TRAIN.split(), "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    while not Path("run/metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert "--resume --out run" in err
    assert list(Path("run/checkpoints").glob("step-*"))


def test_nohup_means_what_it_says(workplace):
    """A hang-up that the run was told to ignore stays ignored."""
    process = subprocess.Popen(
        ["bash", "-c", f"trap '' HUP; exec {TRAIN} 60"],
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    while not Path("run/metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 0
    assert Path("run/model/config.json").is_file()
