"""What the documentation shows runs as printed, and it leaves nothing out."""

import ast
import inspect
import re
import shlex
import types
from pathlib import Path

import pytest
import torch

import ganzoo
from ganzoo.data.dataset import load
from ganzoo.testing import check_architecture, check_loss, check_penalty
from ganzoo.zoo import hookspecs
from ganzoo.zoo.plugins import HOOKS, registry
from ganzoo.zoo.registry import SINGULAR

ROOT = Path(__file__).parents[2]
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
    assert re.findall(r"^### `(\w+)`$", GUIDE, re.M) == hooks
    for hook in hooks:
        assert getattr(hookspecs, hook).__doc__


def section(hook):
    return GUIDE.split(f"### `{hook}`\n")[1].partition("\n#")[0]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_argument_of_register_is_documented_and_shown(hook):
    """Those that `register` takes, and no others: its signature is the entry's."""
    kind, entry = HOOKS[hook]
    named = {"target": SINGULAR[kind]}  # given by position, under the name of what it is
    wanted = {named.get(name, name) for name in inspect.signature(entry).parameters} - {"plugin"}
    items = re.findall(r"^- (.*?):", section(hook), re.M | re.S)
    assert {name for item in items for name in re.findall(r"`(\w+)`", item)} == wanted
    spec = " ".join(getattr(hookspecs, hook).__doc__.split())
    (source,) = blocks(section(hook))
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    calls = [node for node in calls if ast.unparse(node.func) == "register"]
    shown = {keyword.arg for call in calls for keyword in call.keywords}
    positional = [name for name in inspect.signature(entry).parameters if name in ("name", "target", "loader")]
    assert shown | {named.get(name, name) for name in positional} == wanted
    for name in wanted - {"name"}:
        assert re.search(rf"\b{name}\b", spec), f"{name} is not in the hook's own description"


def test_the_examples_of_the_hooks_register_and_pass_the_checks(tmp_path):
    module = types.ModuleType("guide")
    for hook in HOOKS:
        exec(compile(blocks(section(hook))[0], "plugins/README.md", "exec"), vars(module))
    ganzoo.register(module)
    try:
        check_architecture("halved", width=4)
        check_loss("linear", margin=0.1)
        check_penalty("logit_square")
        assert load("stripes", image_size=8, options={"n": 3}).items.shape == (3, 1, 8, 8)
        check_architecture("halved", data="stripes", width=4)
        assert {"halved.digits", "halved.faces"} <= set(ganzoo.list_pretrained())
    finally:
        ganzoo.unregister("guide")


def test_the_listing_in_the_readme_is_what_is_printed(ganzoo_cli):
    listing = README.split("$ ganzoo list\n")[1].split("```")[0]
    built_in = [name for name, entry in registry().architectures.items() if entry.plugin.startswith("ganzoo:")]
    names = [line.split()[0] for line in listing.splitlines()]
    assert names == sorted(built_in)
    out = ganzoo_cli("list")[1]
    for line in listing.splitlines():
        name, summary = line.split(maxsplit=1)
        assert re.search(rf"^{name} +{re.escape(summary)}$", out, re.MULTILINE)
