"""The first cases of the fuzzer, of which `make fuzz` carries out as many as one likes."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def fuzz(*options):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / "fuzz.py"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_no_damaged_file_does_harm():
    done = fuzz("--cases", 300)
    assert done.returncode == 0, done.stderr
    assert "0 faults" in done.stdout


def test_the_fuzzer_goes_on_where_it_stopped(tmp_path):
    state = tmp_path / "state.json"
    first, both = fuzz("--cases", 3, "--state", state), fuzz("--cases", 5, "--state", state)
    assert "3 cases" in first.stdout
    assert both.stdout == fuzz("--cases", 5).stdout
    assert fuzz("--cases", 5, "--state", state).stdout == both.stdout
