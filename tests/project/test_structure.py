"""The rules that keep the source readable: functions and modules stay short, and every import is declared."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUNCTION, LOOP, MODULE = 60, 100, 350
"""Lines at most: of a function, of the training loop, of a module."""
SOURCES = [*sorted(ROOT.glob("ganzoo/**/*.py")), *sorted(ROOT.glob("plugins/**/*.py"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def functions(path):
    """Each function of a module with its number of lines; of a command of the command line, of its body alone, because
    its options are its signature."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = node.body[0].lineno if path.parent.name == "cli" else node.lineno
            yield node.name, node.end_lineno - start + 1


def test_functions_fit_on_a_screen():
    limits = {("loop.py", "_loop"): LOOP}
    long = [
        f"{path.relative_to(ROOT)}: {name} has {lines} lines"
        for path in SOURCES
        for name, lines in functions(path)
        if lines > limits.get((path.name, name), FUNCTION)
    ]
    assert long == []


def test_modules_are_short():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert len(lengths) > 80
    assert {path: lines for path, lines in lengths.items() if lines > MODULE} == {}


def third_party(paths):
    """The packages that these modules import, wherever in them, less the standard library and this repository's."""
    own = {
        "ganzoo",
        *(path.stem for path in ROOT.glob("tests/**/*.py")),
        *(p.name for p in ROOT.glob("plugins/*/ganzoo_*")),
    }
    own |= {path.name for path in ROOT.glob("plugins/ganzoo_*")}
    imported = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                imported.setdefault(name.partition(".")[0], path.relative_to(ROOT))
    return {name: path for name, path in imported.items() if name not in own and name not in sys.stdlib_module_names}


def normal(name):
    """The name of a distribution as PEP 503 compares it, without the version and the extras of a requirement."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


@pytest.mark.parametrize(
    ("paths", "extras"),
    [
        (SOURCES, ["datasets", "eval", "onnx", "preview", "sound", "tensorboard", "trackio", "ui", "video", "wandb"]),
        (
            [*ROOT.glob("tests/**/*.py"), *ROOT.glob("examples/*.py")],
            ["datasets", "eval", "onnx", "tensorboard", "test", "trackio", "ui", "video", "wandb"],
        ),
    ],
    ids=["package", "tests"],
)
def test_every_import_is_declared(paths, extras):
    declared = {normal(line) for line in PROJECT["dependencies"]}
    declared |= {normal(line) for extra in extras for line in PROJECT["optional-dependencies"][extra]}
    if paths is SOURCES:  # the example is a package of its own, whose tests need pytest
        paths = [path for path in paths if "tests" not in path.relative_to(ROOT).parts]
    distributions = packages_distributions()
    undeclared = [
        f"{path} imports {name}"
        for name, path in third_party(paths).items()
        if not {normal(name), *map(normal, distributions.get(name, []))} & declared
    ]
    assert undeclared == []
