"""Every command and every Python example of the documentation runs, and the reference leaves nothing out."""

import ast
import dataclasses
import inspect
import re
import runpy
import shlex
import shutil
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet
from PIL import Image
from torch import nn

import ganzoo
import ganzoo.testing
import nvidia
from ganzoo.data.loading import load
from ganzoo.sampling.sound import write_wav
from ganzoo.testing import check_architecture, check_loss, check_penalty, check_tracker
from ganzoo.zoo import hookspecs
from ganzoo.zoo.plugins import HOOKS
from ganzoo.zoo.registry import SINGULAR
from junyanz import ResnetGenerator, UnetGenerator
from lucid import StyleGAN2
from residual import Mimicry, MimicryDiscriminator

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
GUIDE = (ROOT / "plugins" / "README.md").read_text()
SITE = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts]
ROOT_PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*ROOT_PAGES, ROOT / "plugins" / "README.md", *SITE]

LANGUAGES = {"sh", "console", "python", "toml", "text", "json"}
"""sh: commands; console: commands after `$ ` and what they print."""
NEEDS = {
    "browser": "a browser, what it needs, and somebody who ends the server",
    "data": "files that are not in the repository",
    "gpu": "GPUs, or several hosts",
    "hub": "an account on the Hugging Face Hub, or a model on it",
    "install": "changes to the environment or to the home folder",
    "minutes": "more time than a test has",
    "network": "weights from the network",
}
"""What `<!-- needs: WORD -->` before a block says that a test does not have."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    place: str
    language: str
    needs: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The commands, continued lines joined; of a console, those after `$ `."""
        joined = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            joined = [line[2:] for line in joined if line.startswith("$ ")]
        return [line for line in joined if line.strip() and not line.startswith("#")]


def fenced(page: Path) -> list[Block]:
    text = page.read_text()
    pattern = r"^(?:<!-- needs: ([^\n]*) -->\n)?```([^\n]*)\n(.*?)^```$"
    blocks = []
    for found in re.finditer(pattern, text, re.M | re.S):
        place = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}"
        blocks.append(Block(place, found[2], found[1] or "", found[3]))
    return blocks


BLOCKS = [block for page in PAGES for block in fenced(page)]


def of(language: str) -> list[ParameterSet]:
    """The blocks of a language that a test can run."""
    chosen = [block for block in BLOCKS if block.language == language and not block.needs]
    return [pytest.param(block, id=block.place) for block in chosen]


def python_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


# Commands


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A tiny run of images, one of sounds and one of a translation, and the cache that all commands share."""
    folder = tmp_path_factory.mktemp("docs")
    small = {"width": 4, "hidden": 16}
    settings = {"steps": 2, "batch_size": 8, "generator": small, "discriminator": small, "out": str(folder / "run")}
    ganzoo.train(ganzoo.TrainConfig("dcgan", **settings))
    sound = {"generator": {"width": 2}, "discriminator": {"width": 2}, "out": str(folder / "sound")}
    ganzoo.train(ganzoo.TrainConfig("wavegan", **{**settings, **sound, "conditional": True}))
    narrow = {"generator": {"width": 4}, "discriminator": {"width": 4}, "out": str(folder / "translation")}
    ganzoo.train(ganzoo.TrainConfig("pix2pix", **{**settings, **narrow, "data": "sprites", "inputs": "grey"}))
    return folder


class Shell:
    """Runs the commands of one block in an empty folder that has what they name.

    Training is replaced by `--dry-run`, data that has to be downloaded by the digits, and evaluation is cut short.
    """

    def __init__(self, ganzoo_cli, shared: Path, monkeypatch) -> None:
        self.ganzoo, self.shared, self.monkeypatch = ganzoo_cli, shared, monkeypatch
        monkeypatch.setenv("GANZOO_CACHE", str(shared / "cache"))

    def run(self, line: str) -> str:
        """What the command prints; fails the test if it does not succeed, or is not of a kind that is known here."""
        words = shlex.split(line, comments=True)
        target = words[-1] if ">" in words else None
        words = words[: words.index(">")] if target else words
        if words[0] == "python" and words[1].startswith("examples/"):
            return self.example(words[1:])
        prepare = getattr(self, f"before_{words[1]}", None) if words[0] == "ganzoo" else None
        if prepare is None:
            pytest.fail(f"no test knows how to run `{line}`: teach it, or put <!-- needs: WORD --> before the block")
        self.supply_runs(words)
        code, out, err = self.ganzoo(*prepare(words[1:]))
        assert code == 0, f"{line}\n{err}"
        if target:
            Path(target).write_text(out)
        return out

    def example(self, words: list[str]) -> str:
        self.monkeypatch.setattr("sys.argv", words)
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        return ""

    def supply_runs(self, words: list[str]) -> None:
        """Put the tiny run where a command expects one."""
        for word in words:
            found = re.match(r"(runs/[\w-]+)(/checkpoints/step-\d+)?$", word)
            if found and not Path(found[1]).exists():
                kinds = {"wavegan": "sound", "pix2pix": "translation"}
                kind = next((kind for name, kind in kinds.items() if name in word), "run")
                shutil.copytree(self.shared / kind, found[1])
            if found and found[2]:
                (Path(found[1]) / "checkpoints" / "step-0000002").rename(word)

    def supply_data(self, words: list[str]) -> list[str]:
        """The command on a small folder of photographs where it names one, else on the digits of the package."""
        words = words.copy()
        if "--data-dir" in words:
            words[words.index("--data-dir") + 1] = "nowhere"
        if "--data" not in words:
            return words
        place = words.index("--data") + 1
        self.supply_pictures(words)
        if Path(words[place]).is_dir():
            return words
        if words[place] == "sounds/":
            for i in range(16):
                path = Path(words[place]) / f"class{i % 2}" / f"{i}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_wav(path, [torch.rand(1, 5000) - 0.5], 16000 if i else 48000)
            return words
        if words[place] == "tones":
            return words
        words[place] = "digits"
        options = [i for i, word in enumerate(words) if word.startswith("data.")]
        return [word for i, word in enumerate(words) if i not in options and i + 1 not in options]

    def supply_pictures(self, words: list[str]) -> None:
        """A small folder of pictures in two classes for each that is named as data or inputs, or one for each kind."""
        named = [words[i + 1] for i, word in enumerate(words) if word in ("--data", "--inputs")]
        for folder in (Path(name) for name in named if name.endswith("/") and name != "sounds/"):
            for place in [folder / kind for kind in ("A", "B")] if "A" in named else [folder]:
                for i in range(16):
                    path = place / f"class{i % 2}" / f"{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", (40, 32), (16 * i, 0, 0)).save(path)

    def before_train(self, words: list[str]) -> list[str]:
        Path("mine.json").write_text('{"steps": 7}')
        if "--resume" in words:
            self.supply_runs(["runs/dcgan-digits-001"])
        small = ["--batch-size", "8"] if any(word.endswith("/") for word in words) else []
        return [*self.supply_data(words), *small, *([] if "--dry-run" in words else ["--dry-run"])]

    def before_sample(self, words: list[str]) -> list[str]:
        self.supply_pictures(words)
        return [*words, *(["--frames", "3"] if "--walk" in words else [])]

    def before_walk(self, words: list[str]) -> list[str]:
        return [*words, "--frames", "2"]

    def before_eval(self, words: list[str]) -> list[str]:
        return [*self.supply_data(words), "-n", "300", "--metrics", "fid,prdc"]

    def before_import(self, words: list[str]) -> list[str]:
        self.supply_pictures(words)
        sizes = [(100, 16), (16, 8), (8, 4), (4, 2), (2, 1)]  # as in PyTorch's DCGAN example, but narrow
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(sizes):
            layers.append(nn.ConvTranspose2d(before, after, 4, 1 if i == 0 else 2, 0 if i == 0 else 1, bias=False))
            layers += [nn.BatchNorm2d(after), nn.ReLU()] if after > 1 else [nn.Tanh()]
        tensors = {f"main.{name}": value for name, value in nn.Sequential(*layers).state_dict().items()}
        torch.save(tensors, "netG_epoch_24.pth")
        torch.save({"netG_state_dict": tensors}, "checkpoint.pt")
        perceptrons = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 784), nn.Sigmoid())
        torch.save(perceptrons.state_dict(), "mlp.pt")
        torch.save({"model_state_dict": Mimicry([4, 4, 4, 4]).state_dict()}, "netG_100000_steps.pth")
        judge = MimicryDiscriminator([4, 4, 4, 4], flat=2, last=5)
        torch.save({"model_state_dict": judge.state_dict()}, "netD_100000_steps.pth")
        StyleGAN2().save("model_150.pt")
        torch.save(ResnetGenerator().state_dict(), "latest_net_G_A.pth")
        torch.save(UnetGenerator(5).state_dict(), "latest_net_G.pth")
        styles: dict[str, Any] = {
            "generator": {"z_dim": 8, "w_dim": 8},
            "channel_base": 64,
            "channel_max": 8,
            "image_size": 16,
        }
        g, d = ganzoo.create("stylegan2", **styles)
        nvidia.dump({"G_ema": nvidia.generator(g), "D": nvidia.discriminator(d)}, Path("network.pkl"))
        nvidia.dump({"G_ema": nvidia.generator(g), "D": nvidia.discriminator(d)}, Path("550000.pt"))
        return words

    def before_export(self, words: list[str]) -> list[str]:
        pytest.importorskip("onnxscript")
        return words

    @staticmethod
    def unchanged(words: list[str]) -> list[str]:
        return words

    before_list = before_info = before_plugins = before_report = before_save = before_space = unchanged
    before_verify = before_directions = unchanged


@pytest.fixture
def shell(ganzoo_cli, shared, monkeypatch, workplace):
    return Shell(ganzoo_cli, shared, monkeypatch)


def test_blocks_say_what_they_are():
    for block in BLOCKS:
        assert block.language in LANGUAGES or block.language.startswith("{"), f"{block.place}: ```{block.language}"
        assert not block.needs or block.needs in NEEDS, f"{block.place}: needs {block.needs}"


@pytest.mark.parametrize("block", of("sh"))
def test_commands_run(block, shell):
    for line in block.lines:
        shell.run(line)


@pytest.mark.parametrize("block", of("console"))
def test_consoles_show_what_is_printed(block, shell):
    (line,) = block.lines
    # What the tests have registered is followed by the name of its plugin in brackets.
    printed = [text for text in shell.run(line).splitlines() if not text.endswith("]")]
    shown = [text for text in block.text.splitlines() if text != f"$ {line}"]
    assert [text.split() for text in shown] == [text.split() for text in printed]


@pytest.mark.parametrize("line", ["make demo", "ganzoo push runs/a me/a", "rm -r folder", "python elsewhere.py"])
def test_a_command_that_no_test_can_run_is_not_passed_over(line, shell):
    with pytest.raises(pytest.fail.Exception, match="needs"):
        shell.run(line)


def test_what_cannot_run_is_at_least_spelt_right(ganzoo_cli):
    """The options of ganzoo's commands, the scripts and the targets of make in blocks that need something."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    help_of = {}
    for block in (block for block in BLOCKS if block.language == "sh" and block.needs):
        for line in block.lines:
            for command, rest in re.findall(r"\bganzoo ([a-z]+)((?: (?!&&)[^ ;]+)*)", line):
                if command not in help_of:
                    code, help_of[command], err = ganzoo_cli(command, "--help")
                    assert code == 0, f"{block.place}: {err}"
                for flag in re.findall(r"(?<= )--?[a-z][a-z-]*", rest):
                    assert re.search(rf"(?<![\w-]){flag}\b", help_of[command]), f"{block.place}: {flag}"
            for script in re.findall(r"python ([\w/]+\.py)", line):
                assert (ROOT / script).is_file(), f"{block.place}: {script}"
            for target in re.findall(r"^make (\w+)", line):
                assert target in targets, f"{block.place}: make {target}"


@pytest.mark.parametrize("block", of("python"))
def test_python_examples_run(block, shell):
    shell.supply_runs(re.findall(r'"(runs/[\w-]+)"', block.text))
    torch.manual_seed(0)
    exec(compile(block.text, block.place, "exec"), {"__name__": "example"})


# Links and the picture


@pytest.mark.parametrize("page", [*ROOT_PAGES, ROOT / "plugins" / "README.md"], ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    """Sphinx checks those of the site."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    for link in links:
        if "://" not in link:
            path, _, anchor = link.partition("#")
            assert (page.parent / path).exists(), link
            if anchor and not path:
                titles = re.findall(r"^#+ (.*)$", text, re.M)
                assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], link


def test_the_picture_can_be_drawn_again_and_is_small():
    picture = ROOT / "docs" / "_static" / "generators.png"
    assert picture.stat().st_size < 200_000
    draw = runpy.run_path(str(ROOT / "docs" / "picture.py"))["draw"]
    drawn = draw(["dcgan.mnist", "dcgan.nouns"])
    assert drawn.getpixel((0, 0))[3] == 0  # a round corner
    with Image.open(picture) as shown:
        assert drawn.width == shown.width
        assert shown.convert("RGBA").getpixel((0, 0))[3] == 0


# The reference is complete


def test_the_reference_has_every_public_name_once():
    text = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"^\.\. (?:auto\w+|py:decorator):: ganzoo\.([\w.]+)$", text, re.M)
    checks = [f"testing.{name}" for name in vars(ganzoo.testing) if name.startswith("check_")]
    checks = [name for name in checks if getattr(ganzoo.testing, name[8:]).__module__.startswith("ganzoo.testing")]
    assert sorted(listed) == sorted([*ganzoo.__all__, *checks])


def test_every_setting_is_explained():
    section = (ROOT / "docs" / "training.md").read_text().partition("## Settings")[2]
    listed = [name for row in re.findall(r"^\| (`.*?) \|", section, re.M) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(field.name for field in dataclasses.fields(ganzoo.TrainConfig))


def test_every_command_and_variable_is_explained(ganzoo_cli):
    text = (ROOT / "docs" / "commands.md").read_text()
    commands = re.findall(r"^│ (\w+) {2,}", ganzoo_cli("--help")[1].partition(" Commands ")[2], re.M)
    assert re.findall(r"^\| `ganzoo (\w+)`", text, re.M) != []
    assert sorted(re.findall(r"^\| `ganzoo (\w+)`", text, re.M)) == sorted(commands)
    sources = [path.read_text() for path in (ROOT / "ganzoo").rglob("*.py")]
    variables = {name for source in sources for name in re.findall(r"\"(GANZOO_[A-Z_]+)\"", source)}
    assert variables == set(re.findall(r"^\| `(GANZOO_[A-Z_]+)", text, re.M))


# The guide for plugins


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
    named = {"target": SINGULAR[kind]}  # passed by position, under the name of what it is
    wanted = {named.get(name, name) for name in inspect.signature(entry).parameters} - {"plugin"}
    items = re.findall(r"^- (.*?):", section(hook), re.M | re.S)
    assert {name for item in items for name in re.findall(r"`(\w+)`", item)} == wanted
    spec = " ".join(getattr(hookspecs, hook).__doc__.split())
    (source,) = python_of(section(hook))
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
        exec(compile(python_of(section(hook))[0], "plugins/README.md", "exec"), vars(module))
    ganzoo.register(module)
    try:
        check_architecture("halved", width=4)
        check_loss("linear", margin=0.1)
        check_penalty("logit_square")
        check_tracker("journal", file="notes.txt")
        assert load("stripes", image_size=8, options={"n": 3}).items.shape == (3, 1, 8, 8)
        check_architecture("halved", data="stripes", width=4)
        assert {"halved.digits", "halved.faces"} <= set(ganzoo.list_pretrained())
    finally:
        ganzoo.unregister("guide")
