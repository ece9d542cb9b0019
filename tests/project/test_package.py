"""The package as a whole: what importing costs, what is public, what the wheel holds."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ganzoo
from ganzoo.zoo.plugins import registry

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "PIL",
    "rich",
    "safetensors",
    "huggingface_hub",
    "datasets",
    "pyarrow",
    "gradio",
    "fastapi",
    "playwright",
    "tensorboard",
    "wandb",
    "trackio",
    "textual_image",
    "IPython",
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "--losses", "--json"],
        ["list", "--trackers"],
        ["plugins"],
        ["--help"],
        ["train", "--help"],
        ["eval", "--help"],
        ["ui", "--help"],
        ["--version"],
    ],
)
def test_start_up_imports_nothing_heavy(arguments):
    script = f"""
import sys
sys.argv = ["ganzoo", *{arguments!r}]
from ganzoo.cli.app import main
try:
    main()
except SystemExit:
    pass
heavy = [name for name in {HEAVY!r} if name in sys.modules]
if "--help" in sys.argv:
    heavy = [name for name in heavy if name != "rich"]  # draws the help
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names():
    for name in ganzoo.__all__:
        assert getattr(ganzoo, name) is not None
    assert set(ganzoo.__all__) <= set(dir(ganzoo))
    for name in ("train", "sample", "evaluate"):  # a submodule of that name would hide the function once it is imported
        assert callable(getattr(ganzoo, name))
        assert not (ROOT / "ganzoo" / f"{name}.py").exists()
    with pytest.raises(AttributeError, match="nonsense"):
        ganzoo.nonsense  # noqa: B018


def test_errors_share_a_base():
    for name in ganzoo.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(ganzoo, name), ganzoo.GanzooError)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_arrows_point_one_way():
    """The core imports no plugin, and plugins import nothing of the core but `ganzoo`."""
    sources = [*ROOT.glob("ganzoo/**/*.py"), *ROOT.glob("plugins/**/*.py")]
    assert len(sources) > 15
    for path in sources:
        found = set(imports(path))
        if path.relative_to(ROOT).parts[0] == "ganzoo":
            assert not [name for name in found if name.startswith("ganzoo_")], path
        else:
            assert not [name for name in found if name.startswith("ganzoo.") and name != "ganzoo.testing"], path


def test_nobody_unpickles():
    """Foreign checkpoints are read by `ganzoo.exchange.pickles`, which executes nothing in them."""
    for path in [*ROOT.glob("ganzoo/**/*.py"), *ROOT.glob("plugins/**/*.py")]:
        unpicklers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
        assert not {name.partition(".")[0] for name in imports(path)} & unpicklers, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
                assert not {alias.name for alias in node.names} & {"load", "serialization"}, path
            elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.serialization.load"):
                pytest.fail(f"{path} unpickles")


def test_every_public_name_of_the_core_is_documented():
    for path in ROOT.glob("ganzoo/**/*.py"):
        if path.name == "__main__.py":
            continue
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_core_and_plugins_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"ganzoo", *(path.name for path in (ROOT / "plugins").glob("ganzoo_*"))}
    assert {"ganzoo/py.typed", "ganzoo_data/digits.npz", "ganzoo_data/ATTRIBUTION.md"} <= set(names)
    assert zipfile.ZipFile(wheel).getinfo("ganzoo_data/digits.npz").file_size <= 1_700_000
    assert not [name for name in names if "__pycache__" in name]
    for example in ("example", "example_inputs"):
        folder, inside = ROOT / "plugins" / example, f"ganzoo/templates/{example}/"
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if "__pycache__" not in path.parts}
        assert {name.removeprefix(inside) for name in names if name.startswith(inside)} == files


def test_wheel_works_without_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = """
import ganzoo
from ganzoo.data.loading import load
print(ganzoo.__file__)
print(*ganzoo.list_architectures())
g, d = ganzoo.create("dcgan", image_size=28, channels=1, width=4)
print(ganzoo.sample(g, 2).shape, len(load("digits").items))
from ganzoo.cli.plugins import template_folder
print(template_folder('example'))
"""
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    where, names, shapes, template = done.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path)
    assert Path(template).is_relative_to(tmp_path)
    assert (Path(template) / "pyproject.toml").is_file()
    built_in = registry().architectures
    assert names.split() == sorted(name for name, entry in built_in.items() if entry.plugin.startswith("ganzoo:"))
    assert shapes == "torch.Size([2, 1, 28, 28]) 10000"
    assert done.stderr == ""
