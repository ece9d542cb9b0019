import logging
import os
import signal
import sys
from pathlib import Path

# Read by the Hub's client when it is imported.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

import ganzoo
from ganzoo.cli.app import main

sys.path.insert(0, str(Path(__file__).parent))
import tiny

# A shell lets what it runs in the background ignore this, and tests send it to their own process.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Two test processes share two cores; one thread each also makes the bits independent of the load.
torch.set_num_threads(1)
ganzoo.register(tiny)


class Scheduling(LoadScopeScheduling):
    """Gives each test to whichever process is free, and the tests of an expensive fixture to the same one.

    The marker `xdist_group` is meant for this, but pytest-xdist 3.8 does not see it under pytest 9.
    """

    TOGETHER = (
        "tests/project/test_quickstart.py",
        "tests/training/test_distributed.py",
        "tests/ui/test_browser.py",
        "tests/ui/test_workshop.py",
    )

    def _split_scope(self, nodeid):
        path = nodeid.partition("::")[0]
        return path if path in self.TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Every test runs in an empty folder of its own: run folders land there."""
    torch.manual_seed(0)  # whatever tests ran before
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / ".cache"))
    return tmp_path


@pytest.fixture
def shared_cache(tmp_path_factory, monkeypatch, workplace):
    """A cache folder for all tests that take this, in all test processes: features of the digits are computed once."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "shared-cache"
    monkeypatch.setenv("GANZOO_CACHE", str(folder))
    return folder


@pytest.fixture
def tiny_config():
    """A configuration of the smallest GAN on points that trains in milliseconds; keywords change it."""

    def make(**settings):
        defaults = {
            "data": "gaussian",
            "steps": 30,
            "batch_size": 64,
            "log_every": 5,
            "checkpoint_every": 10,
            "out": "run",
        }
        return ganzoo.TrainConfig("tiny", **{**defaults, **settings})

    return make


@pytest.fixture
def ganzoo_cli(monkeypatch, capsys):
    """Run a command line in this process: (exit code, stdout, stderr)."""
    logger = logging.getLogger("ganzoo")
    before = (logger.handlers[:], logger.level, logger.propagate)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ganzoo", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        code = 0
        try:
            main()
        except SystemExit as done:
            code = done.code or 0
        finally:
            logger.handlers[:], logger.level, logger.propagate = before[0][:], before[1], before[2]
        out, err = capsys.readouterr()
        return code, out, err

    return run
