"""What a person sees where there is no terminal; the live line of a terminal is tested with the command line."""

import io
import logging

import pytest

from ganzoo import progress
from ganzoo.progress import Progress, counting


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "ganzoo")
    return caplog


def test_counting_says_now_and_then_how_far_it_is(lines, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN", 0)
    with counting(10, "images") as tell:
        tell(3)
        tell(4)
    assert lines.messages == ["3 of 10 images", "7 of 10 images"]


def test_counting_is_quiet_while_it_is_quick(lines):
    with counting(10, "images") as tell:
        tell(10)
    assert lines.messages == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_counting_during_a_training_has_a_line_below_its_own(lines, monkeypatch):
    """A terminal has room for one live display."""
    monkeypatch.setattr("sys.stderr", Terminal())
    with Progress(200) as shown:
        with counting(10, "images") as tell:  # before the first step
            tell(10)
        shown.step(50)
        shown.log(ENTRY)
        with counting(10, "samples") as tell:
            tell(7)
            assert [(task.description, task.completed) for task in shown.live.tasks][1:] == [("samples", 7)]
        assert len(shown.live.tasks) == 1
        assert shown.live.tasks[0].description.startswith("D 1.250")
    with counting(10, "more") as tell:
        tell(10)
    assert Progress.shown is None
    assert lines.messages == []


ENTRY = {
    "step": 50,
    "d_loss": 1.25,
    "g_loss": 0.5,
    "accuracy": 0.75,
    "diversity": 0.5,
    "images_per_second": 1234.5,
    "seconds": 10.0,
}


def test_training_prints_a_line_for_each_entry_of_the_log(capsys):
    with Progress(200) as shown:
        shown.step(50)
        shown.log(ENTRY)
        shown.log({**ENTRY, "step": 100, "fid": 12.345})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "step 50/200  D 1.250  G 0.500  D right 75%  diversity 0.50  1,234 images/s  30 s left"
    assert second == "step 100/200  D 1.250  G 0.500  D right 75%  diversity 0.50  FID 12.3  1,234 images/s  10 s left"


def test_a_quiet_training_prints_nothing(capsys):
    with Progress(200, enabled=False) as shown:
        shown.step(50)
        shown.log(ENTRY)
    assert capsys.readouterr() == ("", "")
