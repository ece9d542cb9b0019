"""What the documentation shows runs as printed, and it leaves nothing out."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from ganzoo import hookspecs
from ganzoo.plugins import HOOKS, registry

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "plugins" / "README.md").read_text()
COMMANDS = [line.partition("#")[0].strip() for line in README.splitlines() if line.startswith("ganzoo train")]


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("source", [*blocks(README), *blocks(GUIDE)])
def test_python_examples_run(source, monkeypatch):
    torch.manual_seed(0)
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})


def test_there_are_commands_to_try():
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", [line for line in COMMANDS if "--resume" not in line])
def test_train_commands_are_accepted(command, ganzoo_cli, workplace):
    """Each line of the README, with nothing changed but the data that a test has."""
    arguments = shlex.split(command)[1:]
    (workplace / "mine.json").write_text("{}")
    for option, replacement in (("--data", "digits"), ("--data-dir", "nowhere")):
        if option in arguments:
            arguments[arguments.index(option) + 1] = replacement
    code, out, err = ganzoo_cli(*arguments, *([] if "--dry-run" in arguments else ["--dry-run"]))
    assert code == 0, err
    assert '"parameters"' in out


def test_every_hook_is_documented():
    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert sorted(hooks) == sorted(HOOKS)
    for hook in hooks:
        assert f"`{hook}`" in GUIDE
        assert getattr(hookspecs, hook).__doc__


def test_the_listing_in_the_readme_is_what_is_printed(ganzoo_cli):
    listing = README.split("$ ganzoo list\n")[1].split("```")[0]
    built_in = [name for name, entry in registry().architectures.items() if entry.plugin.startswith("ganzoo:")]
    names = [line.split()[0] for line in listing.splitlines()]
    assert names == sorted(built_in)
    out = ganzoo_cli("list")[1]
    for line in listing.splitlines():
        name, summary = line.split(maxsplit=1)
        assert re.search(rf"^{name} +{re.escape(summary)}$", out, re.MULTILINE)
