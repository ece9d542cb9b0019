"""`ganzoo train --preview` in terminals of several kinds, each played by the other end of a pseudo-terminal."""

import os
import re
import select
import subprocess
import sys
import time

import pytest

from ganzoo.cli import preview
from ganzoo.errors import ConfigError

if sys.platform == "win32":
    pytest.skip("pseudo-terminals of POSIX", allow_module_level=True)
import fcntl
import pty
import struct
import termios

TRAIN = [sys.executable, "-m", "ganzoo", "train", "vanilla", "--batch-size", "8", "--steps", "4", "--out", "run"]
TRAIN += ["--set", "log_every=2", "--set", "sample_every=2"]
SIXEL = {b"\x1b[c": b"\x1b[?62;4;22c"}
KITTY = {b"\x1b[c": b"\x1b[?62c", b"\x1b_G": b"\x1b_Gi=31;OK\x1b\\"}
PLAIN = {b"\x1b[c": b"\x1b[?62c"}


def on_a_terminal(command, answers, **options):
    """What a command writes to a terminal of 90 columns that answers queries like this."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 90, 90 * 8, 40 * 16))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    streams = {"stdin": child, "stdout": child, "stderr": child, **options}
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, preexec_fn=lambda: own(child), **streams
    )
    os.close(child)
    seen, asked, until = b"", set(), time.monotonic() + 120
    while time.monotonic() < until:
        if not select.select([parent], [], [], 0.2)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            new = os.read(parent, 1 << 16)
        except OSError:  # the terminal's other side is closed
            break
        if not new:
            break
        seen += new
        for query, answer in answers.items():
            if query not in asked and query in seen[:1000]:  # before anything else is written
                asked.add(query)
                os.write(parent, answer)
    assert process.wait(30) == 0, seen
    os.close(parent)
    return seen


def own(terminal):
    """Make it the controlling terminal of this process, which is then in its foreground."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize(
    ("answers", "sign"),
    [
        pytest.param(SIXEL, rb"\x1bP[0-9;]*q", id="sixel", marks=pytest.mark.slow),
        pytest.param(KITTY, rb"\x1b_Gi=\d+,m=1,f=100", id="kitty", marks=pytest.mark.slow),
        pytest.param(PLAIN, "▀".encode(), id="half blocks"),
    ],
)
def test_the_pictures_are_shown_as_the_terminal_can(workplace, answers, sign):
    seen = on_a_terminal([*TRAIN, "--preview"], answers)
    assert len(re.findall(sign, seen)) >= 2
    for step in (b"step 2", b"step 4"):
        assert step in seen
    assert seen.rstrip().endswith(b"run")  # the result comes last


@pytest.mark.slow
def test_without_the_option_there_is_no_picture_and_no_query(workplace):
    seen = on_a_terminal(TRAIN, PLAIN)
    assert "▀".encode() not in seen
    assert b"\x1b[c" not in seen


def test_a_pipe_gets_no_picture(workplace):
    done = subprocess.run([*TRAIN, "--preview"], capture_output=True, stdin=subprocess.DEVNULL, check=True)
    assert done.stdout == b"run\n"
    assert "▀".encode() not in done.stderr
    assert b"\x1b" not in done.stderr


@pytest.mark.slow
def test_redirected_results_hold_no_picture(workplace):
    with open("out.txt", "wb") as file:
        seen = on_a_terminal([*TRAIN, "--preview"], PLAIN, stdout=file)
    assert (workplace / "out.txt").read_text() == "run\n"
    assert "▀".encode() not in seen


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(preview, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'ganzoo\[preview\]'"):
        preview.Preview()
