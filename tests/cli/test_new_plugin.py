"""plugins/example is a complete package of a stranger's, and what `ganzoo plugins new` writes is that one by another
name: both are installed as pip does it, tested by their own tests, and trained. So is plugins/example_inputs."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "plugins"


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__", ".pytest_cache"} & set(path.parts)
    }


@pytest.mark.parametrize("template", ["example", "example_inputs"])
def test_a_new_plugin_is_the_example_by_another_name(ganzoo_cli, workplace, template):
    flags = ["--inputs"] if template == "example_inputs" else []
    code, out, err = ganzoo_cli("plugins", "new", "my_gan", *flags)
    assert (code, out) == (0, "ganzoo-my_gan\n"), err
    assert f"ganzoo train my_gan{' --inputs edges' if flags else ''}\n" in err
    written = files(workplace / "ganzoo-my_gan")
    assert set(written) == {
        "README.md",
        "ganzoo_my_gan/__init__.py",
        "ganzoo_my_gan/model.py",
        "pyproject.toml",
        "tests/test_my_gan.py",
    }
    assert not [name for name, text in written.items() if "example" in name + text]
    assert {name.replace("my_gan", template): text.replace("my_gan", template) for name, text in written.items()} == (
        files(EXAMPLES / template)
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("My-Gan", "lower-case letters, digits and underscores"),
        ("3d", "lower-case letters, digits and underscores"),
        ("../up", "lower-case letters, digits and underscores"),
        ("class", "lower-case letters, digits and underscores"),
        ("dcgan", "is taken by ganzoo:dcgan"),
        ("losses", "there is a package ganzoo_losses already"),
    ],
)
def test_a_bad_name_is_refused(ganzoo_cli, workplace, name, why):
    before = sorted(workplace.rglob("*"))
    code, out, err = ganzoo_cli("plugins", "new", name)
    assert (code, out) == (1, "")
    assert why in err
    assert sorted(workplace.rglob("*")) == before


def test_nothing_is_overwritten(ganzoo_cli, workplace):
    (workplace / "there").mkdir()
    code, _, err = ganzoo_cli("plugins", "new", "my_gan", "-o", "there")
    assert code == 1
    assert "there exists already: choose another -o" in err
    assert ganzoo_cli("plugins", "new", "my_gan", "-o", "there/too")[0] == 0
    assert not [path for path in workplace.rglob("*") if path.name.endswith(".tmp")]


def test_listing_options_do_not_go_with_new(ganzoo_cli):
    code, _, err = ganzoo_cli("plugins", "--json", "new", "my_gan")
    assert code == 2
    assert "cannot be used with new" in err


@pytest.mark.parametrize("template", ["example", "example_inputs"])
def test_the_examples_pin_ganzoo_from_the_release_they_are_written_for(template):
    major, minor, *_ = version("ganzoo").split(".")
    assert f'"ganzoo>={major}.{minor},<{int(major) + 1}"' in (EXAMPLES / template / "pyproject.toml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("template", ["example", "example_inputs"])
def test_both_are_installed_tested_and_trained(ganzoo_cli, workplace, template):
    flags = ["--inputs"] if template == "example_inputs" else []
    assert ganzoo_cli("plugins", "new", "mine", *flags)[0] == 0
    pip = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", "site"]
    path = os.pathsep.join([str(workplace / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])

    def python(*arguments):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python(*pip, EXAMPLES / template, "./ganzoo-mine")
    assert sorted(path.name for path in (workplace / "site").glob("ganzoo_*")) == [
        f"ganzoo_{template}",
        f"ganzoo_{template}-0.1.0.dist-info",
        "ganzoo_mine",
        "ganzoo_mine-0.1.0.dist-info",
    ]
    listing = "import ganzoo, sys; print(*ganzoo.list_architectures()); sys.exit('torch' in sys.modules)"
    assert {template, "mine"} <= set(python("-c", listing).split())
    passed = python("-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / template / "tests", "ganzoo-mine/tests")
    assert "4 passed" in passed
    out = python(
        "-m",
        "ganzoo",
        "train",
        "mine",
        "--steps",
        "2",
        "--batch-size",
        "8",
        "-q",
        *(["--inputs", "edges"] if flags else []),
    )
    assert out == "runs/mine-digits-001\n"
    model = (workplace / out.strip() / "model" / "config.json").read_text()
    assert '"package": "ganzoo-mine"' in model
