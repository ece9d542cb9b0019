"""Loading plugins the way pip leaves them: folders with an entry point, found by a fresh interpreter."""

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import ganzoo
from ganzoo.cli.plugins import import_everything
from ganzoo.zoo import plugins

BUILT_IN = sorted(
    name for name, entry in plugins.registry().architectures.items() if entry.plugin.startswith("ganzoo:")
)

GOOD = """
    from ganzoo import hookimpl

    @hookimpl
    def register_architectures(register):
        register("good", generator="good_plugin:make", discriminator="good_plugin:make", summary="healthy")

    def make(width=1): ...
"""
BROKEN = {
    "raises_at_import": "raise RuntimeError('boom at import')",
    "exits_at_import": "import sys; sys.exit('boom at exit')",
    "raises_in_hook": """
        from ganzoo import hookimpl

        @hookimpl
        def register_losses(register):
            register("half_loss", lambda: None)

        @hookimpl
        def register_architectures(register):
            raise RuntimeError("boom in hook")
    """,
    "misspelt_hook": """
        from ganzoo import hookimpl

        @hookimpl
        def register_architecturs(register):
            pass
    """,
    "taken_name": """
        from ganzoo import hookimpl

        @hookimpl
        def register_architectures(register):
            register("untaken", generator=print, discriminator=print)
            register("dcgan", generator=print, discriminator=print)
    """,
    "unknown_argument": """
        from ganzoo import hookimpl

        @hookimpl
        def register_architectures(register, zoo):
            pass
    """,
    "missing_module": """
        from ganzoo import hookimpl

        @hookimpl
        def register_architectures(register):
            register("ghost", generator="no_such_module.model:G", discriminator="no_such_module.model:D")
    """,
    "no_hooks": "x = 1",
    "unmarked_hook": """
        from ganzoo import hookimpl

        @hookimpl
        def register_losses(register):
            pass

        def register_architectures(register):
            pass
    """,
    "weights_without_license": """
        from ganzoo import hookimpl

        @hookimpl
        def register_weights(register):
            register("dcgan.mine", path="somewhere")
    """,
    "weights_without_tag": """
        from ganzoo import hookimpl

        @hookimpl
        def register_weights(register):
            register("mine", path="somewhere", license="mit")
    """,
    "unknown_keyword": """
        from ganzoo import hookimpl

        @hookimpl
        def register_architectures(register):
            register("odd", generatr=print, discriminator=print)
    """,
}
CAUSES = {
    "raises_at_import": "boom at import",
    "exits_at_import": "boom at exit",
    "raises_in_hook": "boom in hook",
    "misspelt_hook": "no hook 'register_architecturs': did you mean 'register_architectures'?",
    "taken_name": "'dcgan' is taken by ganzoo:dcgan",
    "unknown_argument": "register_architectures takes zoo: a hook's only argument is register",
    "missing_module": "no_such_module",
    "no_hooks": "@ganzoo.hookimpl",
    "unknown_keyword": "register('odd', ...) of architecture: got an unexpected keyword argument 'generatr'",
    "unmarked_hook": "register_architectures is not marked with @ganzoo.hookimpl",
    "weights_without_license": "register('dcgan.mine', ...) of weights: missing 1 required keyword",
    "weights_without_tag": "weights name 'mine' must have the form ARCHITECTURE.TAG",
}


def install(folder, name, source):
    """What pip leaves behind for a package of one module."""
    import textwrap

    (folder / f"{name}_plugin.py").write_text(textwrap.dedent(source))
    info = folder / f"ganzoo_{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ganzoo-{name.replace('_', '-')}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[ganzoo]\n{name} = {name}_plugin\n")


def ganzoo_command(folder, *arguments, **environment):
    env = {**os.environ, "PYTHONPATH": str(folder), **environment}
    return subprocess.run(
        [sys.executable, "-m", "ganzoo", *arguments], env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def zoo_with_broken_plugins(tmp_path):
    install(tmp_path, "good", GOOD)
    for name, source in BROKEN.items():
        install(tmp_path, name, source)
    return tmp_path


def test_broken_plugins_are_skipped_whole_and_the_rest_goes_on(zoo_with_broken_plugins):
    done = ganzoo_command(zoo_with_broken_plugins, "list", "-q")
    assert done.returncode == 0
    assert done.stdout.split() == sorted([*BUILT_IN, "good"])
    told = done.stderr.splitlines()
    assert len(told) == len(BROKEN)
    for name, cause in CAUSES.items():
        (line,) = [line for line in told if f"ganzoo-{name.replace('_', '-')}:{name} " in line]
        assert cause in line

    done = ganzoo_command(zoo_with_broken_plugins, "plugins", "--json")
    records = {record["name"]: record for record in json.loads(done.stdout)}
    assert records["good"]["error"] is None
    assert records["good"]["provides"] == {"architectures": ["good"]}
    assert records["dcgan"]["error"] is None
    for name, cause in CAUSES.items():
        assert cause in records[name]["error"]
        assert records[name]["provides"] == {}
        assert records[name]["version"] == "1.2"

    assert "half_loss" not in ganzoo_command(zoo_with_broken_plugins, "list", "--losses", "-q").stdout


def test_strict_plugins_raise_instead(zoo_with_broken_plugins):
    done = ganzoo_command(zoo_with_broken_plugins, "list", GANZOO_STRICT_PLUGINS="1")
    assert done.returncode == 1
    assert done.stderr.startswith("ganzoo: error: plugin ganzoo-")
    assert "Traceback" not in done.stderr


def test_environment_chooses_plugins(zoo_with_broken_plugins):
    only_ours = ganzoo_command(zoo_with_broken_plugins, "list", "-q", GANZOO_PLUGINS="")
    assert (only_ours.stdout.split(), only_ours.stderr) == (BUILT_IN, "")
    chosen = ganzoo_command(zoo_with_broken_plugins, "list", "-q", GANZOO_PLUGINS="ganzoo-good")
    assert (chosen.stdout.split(), chosen.stderr) == (sorted([*BUILT_IN, "good"]), "")
    absent = ganzoo_command(zoo_with_broken_plugins, "list", "-q", GANZOO_PLUGINS="ganzoo-gone")
    assert absent.returncode == 0
    assert "ganzoo-gone" in absent.stderr


def test_check_finds_a_missing_attribute(tmp_path):
    source = GOOD.replace("good_plugin:make", "good_plugin:gone", 1)
    install(tmp_path, "good", source)
    done = ganzoo_command(tmp_path, "plugins")
    assert done.returncode == 0
    done = ganzoo_command(tmp_path, "plugins", "--check")
    assert done.returncode == 1
    assert "good_plugin:gone" in done.stderr


def test_built_ins_pass_the_check():
    assert import_everything() == {}


def module(**functions):
    made = types.ModuleType("sketch")
    for name, function in functions.items():
        setattr(made, name, ganzoo.hookimpl(function))
    return made


def test_register_again_replaces():
    def brings(name):
        return module(register_penalties=lambda register: register(name, lambda: None))

    ganzoo.register(brings("first_draft"))
    ganzoo.register(brings("second_draft"))
    assert not ganzoo.list_penalties("first_draft")
    with pytest.raises(ganzoo.PluginError, match="taken"):
        ganzoo.register(brings("gp"))
    assert ganzoo.list_penalties("second_draft")
    assert [record.name for record in plugins.records()].count("sketch") == 1
    ganzoo.unregister("sketch")


def test_register_in_process_and_take_out_again():
    ganzoo.register(module(register_penalties=lambda register: register("sketched", lambda: None)))
    assert "sketched" in ganzoo.list_penalties()
    ganzoo.unregister("sketch")
    assert "sketched" not in ganzoo.list_penalties()
    with pytest.raises(ganzoo.PluginError, match="sketch"):
        ganzoo.unregister("sketch")


@pytest.mark.parametrize(
    ("hook", "arguments", "message"),
    [
        ("register_losses", {"name": "Bad Name", "target": print}, "lower-case"),
        ("register_losses", {"name": "bad", "target": 3}, "callable"),
        ("register_losses", {"name": "bad", "target": "no colon"}, "package.module:attribute"),
        ("register_weights", {"name": "dcgan", "license": "mit", "path": "x"}, "lower-case"),
        ("register_weights", {"name": "dcgan.x", "license": "mit"}, "either path= or repo_id="),
        ("register_weights", {"name": "dcgan.x", "license": "mit", "repo_id": "a/b", "revision": "main"}, "40-hex"),
    ],
)
def test_register_refuses(hook, arguments, message):
    with pytest.raises(ganzoo.PluginError, match=message):
        ganzoo.register(module(**{hook: lambda register: register(**arguments)}))


def test_a_refused_registration_leaves_nothing_behind():
    def both(register):
        register("first_of_two", print)
        register("hinge", print)

    with pytest.raises(ganzoo.PluginError, match="taken"):
        ganzoo.register(module(register_losses=both))
    assert "first_of_two" not in ganzoo.list_losses()


def test_the_readmes_plugin_works_as_printed(tmp_path):
    """The example of plugins/README.md: 35 lines that are listed, train and sample."""
    guide = (Path(__file__).parents[2] / "plugins" / "README.md").read_text()
    source = next(
        block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "ganzoo_tinyconv.py" in block
    )
    assert len(source.splitlines()) <= 40
    install(tmp_path, "tinyconv", source)
    assert "a first convolutional GAN" in ganzoo_command(tmp_path, "list").stdout
    small = ("--steps", "3", "--batch-size", "8", "--set", "generator.width=4", "-q", "--out", tmp_path / "run")
    done = ganzoo_command(tmp_path, "train", "tinyconv", *small)
    assert done.returncode == 0, done.stderr
    done = ganzoo_command(tmp_path, "sample", tmp_path / "run", "-o", tmp_path / "grid.png")
    assert (done.returncode, (tmp_path / "grid.png").exists()) == (0, True), done.stderr
