"""Where outputs go: to a file whole or not at all, or to standard output."""

import io
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import ganzoo

SAMPLE = (sys.executable, "-m", "ganzoo", "sample", "dcgan.mnist", "-n", "64")
LIMIT = 4096
"""Bytes that a file may have in `cramped`: less than any of the outputs."""


def cramped():
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


@pytest.mark.parametrize("output", ["x.npy", "grid.png", "grid.jpg", "walk.gif"])
def test_a_file_that_does_not_fit_leaves_nothing(workplace, output):
    walk = ("--walk", "--frames", "2") if output == "walk.gif" else ()
    done = subprocess.run([*SAMPLE, *walk, "-o", output], capture_output=True, text=True, preexec_fn=cramped)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith(f"ganzoo: error: {output} cannot be written: ")
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir() == []


def test_a_folder_into_which_nothing_fits_is_not_left(workplace):
    command = [*SAMPLE[:-1], "2", "-o", "folder/"]
    limit = (resource.RLIMIT_FSIZE, (100, 100))
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: resource.setrlimit(*limit))
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert os.listdir() == []


def test_standard_output(workplace):
    done = subprocess.run([*SAMPLE, "-o", "-"], capture_output=True, check=True)
    subprocess.run([*SAMPLE, "-o", "grid.png"], capture_output=True, check=True)
    with Image.open(io.BytesIO(done.stdout)) as shown, Image.open("grid.png") as written:
        assert shown.format == "PNG"
        assert shown.tobytes() == written.tobytes()
    walk = (sys.executable, "-m", "ganzoo", "walk", "dcgan.mnist", "--seeds", "1,2", "--frames", "2", "-o", "-")
    done = subprocess.run(walk, capture_output=True, check=True)
    with Image.open(io.BytesIO(done.stdout)) as moving:
        assert (moving.format, moving.n_frames) == ("GIF", 4)
    assert os.listdir() == ["grid.png"]


def test_arrays_hold_what_sample_gives(ganzoo_cli, workplace):
    code, out, err = ganzoo_cli("sample", "dcgan.mnist", "-n", 70, "-o", "x.npy")
    assert (code, out.strip()) == (0, "x.npy"), err
    array = np.load("x.npy")
    images = ganzoo.sample(ganzoo.from_pretrained("dcgan.mnist"), 70).permute(0, 2, 3, 1)
    assert (array.shape, array.dtype) == ((70, 28, 28, 1), np.uint8)
    assert np.abs(array / 127.5 - 1 - images.numpy()).max() < 1 / 127


def test_an_empty_name_is_refused(ganzoo_cli, workplace):
    for command in (("sample", "dcgan.mnist"), ("directions", "dcgan.mnist"), ("train", "vanilla")):
        for empty in (("--out", ""), ("--out=",), ("--out", " ")):
            code, out, err = ganzoo_cli(*command, *empty)
            assert (code, out, "is empty: name a file or a folder" in err) == (1, "", True), err
    assert os.listdir() == []


@pytest.mark.parametrize(
    "command",
    [
        ("invert", "dcgan.mnist", "x.png"), ("save", "run"), ("export", "dcgan.mnist"), ("train", "vanilla"),
        ("import", "dcgan", "x.pt"), ("directions", "dcgan.mnist"), ("report", "run"), ("space", "dcgan.mnist"),
    ],
)  # fmt: skip
def test_folders_do_not_go_to_standard_output(ganzoo_cli, workplace, command):
    for dash in (("-o", "-"), ("--out=-",)):
        code, out, err = ganzoo_cli(*command, *dash)
        assert (code, out) == (1, "")
        assert (
            err == f"ganzoo: error: `ganzoo {command[0]}` does not write to standard output: name a file or a folder\n"
        )
    assert not list(workplace.iterdir())
