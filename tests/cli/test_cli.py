"""The command line: what it prints where, what it exits with, what it refuses."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import ganzoo


def picture(path):
    with Image.open(path) as image:
        return image.copy()


SMALL = ("--set", "generator.hidden=16", "--set", "discriminator.hidden=16", "--batch-size", "16")


@pytest.fixture
def small_run(ganzoo_cli, workplace):
    code, out, _ = ganzoo_cli("train", "vanilla", "--steps", 6, *SMALL)
    assert (code, out) == (0, "runs/vanilla-digits-001\n")
    return workplace / "runs" / "vanilla-digits-001"


# Listings


def test_list(ganzoo_cli):
    code, out, _ = ganzoo_cli("list")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"dcgan", "vanilla", "wgan"}
    assert ganzoo_cli("list", "?cgan", "-q")[1].split() == ["dcgan"]
    code, out, err = ganzoo_cli("list", "dcgn")
    assert (code, out) == (0, "")
    assert "did you mean 'dcgan'" in err


@pytest.mark.parametrize(
    ("flag", "some"),
    [
        ("--losses", {"hinge", "rpgan"}),
        ("--penalties", {"gp", "r1"}),
        ("--data", {"digits", "mnist"}),
        ("--pretrained", set()),
    ],
)
def test_list_of_other_kinds(ganzoo_cli, flag, some):
    code, out, _ = ganzoo_cli("list", flag, "-q")
    assert code == 0
    assert set(out.split()) >= some
    code, out, _ = ganzoo_cli("list", flag, "--json")
    assert {entry["name"] for entry in json.loads(out)} >= some


def test_list_of_two_kinds_is_a_usage_error(ganzoo_cli):
    assert ganzoo_cli("list", "--losses", "--data")[0] == 2


def test_info(ganzoo_cli):
    code, out, _ = ganzoo_cli("info", "dcgan")
    assert code == 0
    assert "3,576,704 parameters" in out
    assert "recipe paper" in out
    facts = json.loads(ganzoo_cli("info", "dcgan", "--json")[1])
    assert facts["discriminator"] == {
        "parameters": 2_765_568,
        "settings": {
            "image_size": 64,
            "channels": 3,
            "width": 64,
            "norm": "batch",
            "hidden": 0,
            "num_classes": None,
        },
    }
    assert facts["plugin"] == "ganzoo:dcgan"
    assert "1701.07875" in ganzoo_cli("info", "wasserstein")[1]
    code, out, err = ganzoo_cli("info", "digts")
    assert (code, out) == (1, "")
    assert err == "ganzoo: error: nothing is called 'digts': did you mean 'digits'?\n"


def test_version_and_help(ganzoo_cli):
    from importlib.metadata import version

    assert ganzoo_cli("--version")[:2] == (0, f"ganzoo {version('ganzoo')}\n")
    for command in ([], ["list"], ["info"], ["train"], ["sample"], ["plugins"]):
        code, out, _ = ganzoo_cli(*command, "--help")
        assert code == 0
        assert "Usage" in out


# Training


def test_train_prints_the_run_and_where_to_look(ganzoo_cli, workplace):
    code, out, err = ganzoo_cli("train", "vanilla", "--steps", 6, *SMALL, "--set", "log_every=3")
    assert (code, out) == (0, "runs/vanilla-digits-001\n")
    assert "step 3/6" in err
    assert "samples: runs/vanilla-digits-001/samples/step-0000006.png" in err
    (line,) = [line for line in err.splitlines() if line.startswith("more:")]
    code, out, err = ganzoo_cli(*line.split()[2:])
    assert (code, err) == (0, "")
    assert picture(out.strip()).size == (8 * 30 + 2, 8 * 30 + 2)
    code, out, err = ganzoo_cli("train", "vanilla", "--steps", 2, *SMALL, "-q")
    assert (code, out, err) == (0, "runs/vanilla-digits-002\n", "")


@pytest.mark.parametrize("inputs", ["grey", "photos"])
def test_a_translator_is_sampled_by_the_command_that_its_training_prints(ganzoo_cli, workplace, inputs):
    (workplace / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (20, 30), (80 * number, 9, 9)).save(workplace / "photos" / f"{number}.png")
    small = ("--set", "generator.width=2", "--set", "discriminator.width=2", "--batch-size", 2, "--steps", 1)
    command = ("train", "pix2pix", "--data", "photos", "--inputs", inputs, "--image-size", 16, *small)
    code, out, err = ganzoo_cli(*command, "--out", "my run")
    assert code == 0, err
    (line,) = [line for line in err.splitlines() if line.startswith("more:")]
    code, out, err = ganzoo_cli(*shlex.split(line)[2:])
    assert (code, err) == (0, ""), line
    assert picture(out.strip()).height > 16


def test_settings_from_file_set_and_flags(ganzoo_cli, workplace):
    (workplace / "c.json").write_text('{"lr": 1, "steps": 2, "seed": 4, "generator": {"hidden": [8]}, "n_critic": 3}')
    flags = (
        "--config",
        "c.json",
        "--set",
        "lr=2",
        "--set",
        "generator.z_dim=5",
        "--seed",
        6,
        "--penalty",
        "r1=2@4",
        "--penalty",
        "gp",
    )
    code, out, _ = ganzoo_cli("train", "vanilla", *flags, "--dry-run")
    told = json.loads(out)
    assert code == 0
    assert told["config"]["lr"] == 2
    assert told["config"]["seed"] == 6
    assert told["config"]["n_critic"] == 3
    assert told["config"]["penalties"] == ["r1=2@4", "gp"]
    assert told["networks"]["generator"]["hidden"] == [8]
    assert told["networks"]["generator"]["z_dim"] == 5
    assert told["parameters"]["generator"] == 5 * 8 + 8 + 2 * 8 + 8 * 784 + 784  # BatchNorm has 2 * 8
    assert [path.name for path in workplace.iterdir()] == ["c.json"]


def test_options_go_with_the_loss_that_is_named_beside_them(ganzoo_cli, workplace):
    (workplace / "c.json").write_text('{"loss": "hinge"}')
    asked = ("--loss", "wasserstein", "--set", "loss.clip=0.5", "--config", "c.json", "--dry-run")
    code, out, _ = ganzoo_cli("train", "vanilla", *asked)
    assert (code, json.loads(out)["config"]["loss_options"]) == (0, {"clip": 0.5})
    code, _, err = ganzoo_cli("train", "vanilla", "--loss", "hinge", "--set", "loss.clip=0.5", "--dry-run")
    assert (code, "no setting 'clip'" in err) == (1, True)
    (workplace / "c.json").write_text('{"loss": "wasserstein", "loss.clip": 0.5}')
    code, out, _ = ganzoo_cli("train", "vanilla", "--loss", "hinge", "--config", "c.json", "--dry-run")
    assert (code, json.loads(out)["config"]["loss_options"]) == (0, {})


def test_resume_from_the_command_line(ganzoo_cli, small_run, workplace):
    code, out, err = ganzoo_cli("train", "vanilla", "--resume", "--steps", 8)
    assert (code, out) == (0, "runs/vanilla-digits-001\n")
    assert "from step 6" in err
    code, _, err = ganzoo_cli("train", "vanilla", "--resume", "--lr", 0.1)
    assert code == 1
    assert "lr=" in err
    code, _, err = ganzoo_cli("train", "dcgan", "--resume")
    assert code == 1
    assert "no run of dcgan" in err
    code, _, err = ganzoo_cli("train", "dcgan", "--resume", "--out", small_run)
    assert code == 1
    assert "architecture='vanilla'" in err


def test_sigterm_of_the_real_process(workplace):
    """The whole way: a process, a signal, a checkpoint, the shell's exit code, the printed command."""
    command = [
        sys.executable,
        "-m",
        "ganzoo",
        "train",
        "vanilla",
        "--steps",
        "100000",
        *SMALL,
        "--out",
        "run",
        "--set",
        "log_every=5",
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    for _ in range(600):
        if (workplace / "run" / "metrics.jsonl").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert out == "run\n"
    assert "ganzoo train vanilla --resume --out run" in err
    assert list((workplace / "run" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "dcgn"), 1, "did you mean 'dcgan'"),
        (("train", "dcgan", "--loss", "hing"), 1, "did you mean 'hinge'"),
        (("train", "dcgan", "--penalty", "r3"), 1, "no penalty is called 'r3'"),
        (("train", "dcgan", "--recipe", "papr"), 1, "did you mean 'paper'"),
        (("train", "dcgan", "--set", "n_critc=3"), 1, "did you mean 'n_critic'"),
        (("train", "dcgan", "--set", "generator.widht=3"), 1, "did you mean 'width'"),
        (("train", "dcgan", "--set", "loss.margin=3"), 1, "no setting 'margin'"),
        (("train", "wgan", "--set", "loss.clip=-1"), 1, "clip must be"),
        (("train", "dcgan", "--data", "digts"), 1, "did you mean 'digits'"),
        (("train", "dcgan", "--data", "./nowhere"), 1, "no folder or zip"),
        (("train", "dcgan", "--data", "empty"), 1, "no images"),
        (("train", "dcgan", "--data", "dot"), 1, "1 items are fewer than a batch"),
        (("train", "dcgan", "--image-size", 33), 1, "nearest is --image-size 32"),
        (("train", "dcgan", "--image-size", 0), 1, "at least 1"),
        (("train", "dcgan", "--batch-size", 20000), 1, "smaller --batch-size"),
        (("train", "dcgan", "--batch-size", 0), 1, "batch_size must be at least 1"),
        (("train", "dcgan", "--steps", 0), 1, "steps must be at least 1"),
        (("train", "dcgan", "--steps", -1), 1, "steps must be at least 1"),
        (("train", "dcgan", "--steps", "many"), 2, "--steps"),
        (("train", "dcgan", "--lr", 0), 1, "lr must be above 0"),
        (("train", "dcgan", "--lr", "nan"), 1, "lr must be a finite number"),
        (("train", "dcgan", "--device", "gpu"), 1, "--device must be"),
        (("train", "dcgan", "--precision", "fp8"), 1, "one of auto, fp32, bf16"),
        (("train", "dcgan", "--out", "taken"), 1, "taken exists already"),
        (("train", "dcgan", "--out", "dot/0.png/run"), 1, "cannot be written"),
        (("train", "dcgan", "--config", "gone.json"), 1, "gone.json cannot be read"),
        (("train", "dcgan", "--resume"), 1, "no run of dcgan"),
        (("train", "dcgan", "--stepps", 3), 2, "--stepps"),
        (("sample", "dcgan.mnst"), 1, "no pretrained weights are called 'dcgan.mnst'"),
        (("sample", "taken"), 1, "write ./taken"),
        (("sample", "./taken"), 1, "neither a run, a checkpoint nor a model folder"),
        (("sample", "./gone"), 1, "no folder"),
        (("trian", "dcgan"), 2, "train"),
    ],
)
def test_bad_input_is_one_line_and_loses_nothing(ganzoo_cli, workplace, arguments, code, message):
    for folder in ("empty", "taken", "dot"):
        (workplace / folder).mkdir()
    (workplace / "taken" / "thesis.txt").write_text("precious")
    Image.new("L", (1, 1)).save(workplace / "dot" / "0.png")
    before = sorted(workplace.rglob("*"))
    got, out, err = ganzoo_cli(*arguments)
    assert (got, out) == (code, "")
    assert message in err
    if code == 1:
        assert err.count("\n") == 1
        assert err.startswith("ganzoo: error: ")
    assert sorted(workplace.rglob("*")) == before


def test_traceback_on_request(ganzoo_cli, monkeypatch):
    from ganzoo import UnknownNameError

    monkeypatch.setenv("GANZOO_DEBUG", "1")
    with pytest.raises(UnknownNameError):
        ganzoo_cli("train", "dcgn")


# Sampling


def test_sample_npy_has_the_same_bits_twice_and_whatever_n(ganzoo_cli, small_run, workplace):
    for name, n in (("a", 200), ("b", 200), ("c", 70)):
        assert ganzoo_cli("sample", small_run, "-n", n, "--seed", 3, "-o", f"{name}.npy")[1] == f"{name}.npy\n"
    a, b, c = (np.load(workplace / f"{name}.npy") for name in "abc")
    assert (a.shape, a.dtype) == ((200, 28, 28, 1), np.uint8)
    assert np.array_equal(a, b)
    assert np.array_equal(a[:70], c)


def test_items_that_are_no_images_are_written_as_they_are(ganzoo_cli, tiny_config, workplace):
    run = ganzoo.train(tiny_config(steps=2))
    assert ganzoo_cli("sample", "./run", "-n", 70, "-o", "points.npy")[0] == 0
    assert np.array_equal(np.load(workplace / "points.npy"), ganzoo.sample(run.generator, 70).numpy())
    code, _, err = ganzoo_cli("sample", "./run", "-o", "points.png")
    assert (code, "write a .npy" in err) == (1, True)


def test_sample_folder_grid_and_walk(ganzoo_cli, small_run, workplace):
    assert ganzoo_cli("sample", small_run, "-n", 5, "-o", "pictures/")[0] == 0
    assert sorted(p.name for p in (workplace / "pictures").iterdir()) == [f"{i:06d}.png" for i in range(5)]
    ganzoo_cli("sample", small_run, "-n", 5, "-o", "five.npy")
    one = np.asarray(picture(workplace / "pictures" / "000003.png"))
    assert np.array_equal(one, np.load(workplace / "five.npy")[3, :, :, 0])
    assert ganzoo_cli("sample", small_run, "-n", 6, "-o", "deep/er/grid.png")[0] == 0
    assert picture(workplace / "deep" / "er" / "grid.png").size == (3 * 30 + 2, 2 * 30 + 2)
    assert ganzoo_cli("sample", small_run, "-n", 4, "--walk", "--frames", 12, "-o", "walk.gif")[0] == 0
    with Image.open(workplace / "walk.gif") as walk:
        assert (walk.n_frames, walk.info["loop"]) == (12, 0)
    assert ganzoo_cli("sample", small_run)[1] == "vanilla-digits-001-seed0.png\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "taken.png"), "exists already"),
        (("-o", "x.gif"), "--walk"),
        (("-o", "x.png", "--walk"), "--walk"),
        (("-o", "x.txt"), ".npy"),
        (("-n", 20_000, "-o", "x.png"), "too many for one picture"),
        (("-o", "taken.png/x.png"), "cannot be written"),
    ],
)
def test_sample_refuses(ganzoo_cli, small_run, workplace, arguments, message):
    (workplace / "taken.png").write_text("precious")
    code, out, err = ganzoo_cli("sample", small_run, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert (workplace / "taken.png").read_text() == "precious"
    assert not list(workplace.glob("x.*"))
    assert ganzoo_cli("sample", small_run, "-n", "0")[0] == 2


def test_force_overwrites(ganzoo_cli, small_run, workplace):
    (workplace / "grid.png").write_text("old")
    assert ganzoo_cli("sample", small_run, "-o", "grid.png", "--force")[0] == 0
    assert picture(workplace / "grid.png").size == (8 * 30 + 2, 8 * 30 + 2)


def test_live_line_on_a_terminal(workplace):
    """Under a real terminal the progress is one line that is redrawn, with all that it should say."""
    import pty

    parent, child = pty.openpty()
    command = [sys.executable, "-m", "ganzoo", "train", "vanilla", "--steps", "400", *SMALL, "--set", "log_every=20"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=child, stdout=subprocess.PIPE, env=env)
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(parent)
    out, _ = process.communicate()
    assert (process.returncode, out) == (0, b"runs/vanilla-digits-001\n")
    text = shown.decode()
    for wanted in ("400/400", "D ", "G ", "D right", "images/s", "\x1b["):
        assert wanted in text


def test_help_shows_defaults_and_optional_parts(ganzoo_cli):
    """rich takes words in brackets for markup, and drops them."""
    _, out, _ = ganzoo_cli("train", "--help")
    words = " ".join(out.replace("│", " ").split())
    for part in ("[default: the recipe's, or digits]", "NAME[=WEIGHT[@EVERY]]"):
        assert part in words


def test_the_settings_with_a_flag_are_those_of_the_command():
    """The command in a model card spells them so."""
    from inspect import signature

    from ganzoo.cli.train import train
    from ganzoo.zoo.command import FLAGS, SWITCHES

    assert {*FLAGS, *SWITCHES} <= set(signature(train).parameters)


@pytest.mark.parametrize(
    ("flag", "value", "advice"),
    [
        ("--accumulate", 3, "give a multiple of 3"),
        ("--pack", 3, "give a multiple of 3"),
        ("--batch-size", 1, "give a larger --batch-size"),
        ("--set", "discriminator.image_size=14", "choose other settings, as by --set discriminator.NAME=VALUE"),
    ],
)
def test_a_dry_run_refuses_what_training_would(ganzoo_cli, flag, value, advice):
    code, out, err = ganzoo_cli("train", "dcgan", flag, value, "--dry-run")
    assert (code, out) == (1, "")
    assert err.startswith("ganzoo: error: ")
    assert err.endswith(f"{advice}\n")


def test_sizes_that_fit_into_no_memory_are_one_line(ganzoo_cli, workplace):
    for size in (10**5, 10**9, 2**62):
        code, out, err = ganzoo_cli("train", "dcgan", "--image-size", size, "--dry-run")
        assert (code, out) == (1, ""), err
        assert len([line for line in err.splitlines() if line.startswith("ganzoo: error: ")]) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"recipe": []}, "a recipe is a name, such as default, not []"),
        ({"recipe": None, "lr": {"a": 1}}, "lr must be a number"),
        ({"channels": 10**9}, "cannot be converted to 1000000000: choose 1 or 3"),
        ({"channels": 10**400}, "channels must be a whole number, not inf"),
        ({"steps": 10**20}, "steps is a number with more than 64 bits"),
        ({"lr": 10**400}, "lr must be a finite number, not inf"),
        ({"generator": {"width": 0}}, "cannot compute an item with the settings {'z_dim': 100, "),
        ({"generator": {"width": "abc"}}, "width"),
        ({"generator": {"width": -(10**400)}}, "width"),
    ],
)
def test_settings_that_no_training_can_have(ganzoo_cli, workplace, settings, told):
    (workplace / "c.json").write_text(json.dumps(settings))
    code, out, err = ganzoo_cli("train", "dcgan", "--config", "c.json", "--dry-run")
    assert (code, out) == (1, ""), err
    (line,) = err.splitlines()
    assert line.startswith("ganzoo: error: ")
    assert told in line
