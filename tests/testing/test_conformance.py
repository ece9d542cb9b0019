"""What plugin authors' tests call: every built-in passes, and each mistake is caught and named. Every bad example
differs by one line from one that passes."""

# ruff: noqa: E501  (a mistake a row)

import json
import os
import subprocess
import sys
import types

import pytest

import ganzoo
import offline
from ganzoo.testing import check_architecture, check_loss, check_penalty
from ganzoo.zoo.plugins import registry


def built_in(kind):
    return sorted(n for n, entry in getattr(registry(), kind).items() if entry.plugin.startswith("ganzoo:"))


SMALL = {
    **{name: {"width": 8} for name in ("dcgan", "infogan", "sngan", "vaegan", "wgan", "wgan_gp")},
    "cyclegan": {"width": 4, "blocks": 1},
    "pix2pix": {"width": 4},
    "r3gan": {"width": 16},
    "srgan": {"width": 4, "blocks": 1, "hidden": 8},
    "stylegan2": {"channel_base": 128, "channel_max": 8, "w_dim": 8},
    "stylegan2_lucid": {"width": 8, "widest": 16, "z_dim": 16, "mapping": 2},
    "vanilla": {"generator": {"hidden": 16}, "discriminator": {"hidden": 16}},
    "wavegan": {"width": 2},
    **offline.SETTINGS,
}
SOUND = {"wavegan"}
"""Architectures of sounds, which have no image_size, and are checked with the data of their recipe."""


@pytest.mark.parametrize("name", built_in("architectures"))
def test_built_in_architectures(name):
    sizes = {} if name in SOUND else {"image_size": 32, "channels": 3}
    check_architecture(name, **SMALL[name], **sizes, inputs=offline.INPUTS.get(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", built_in("architectures"))
def test_built_in_architectures_with_their_defaults(name):
    settings = {**offline.SETTINGS.get(name, {}), "inputs": offline.INPUTS.get(name)}
    check_architecture(name, **settings)
    if name not in SOUND:
        check_architecture(name, image_size=32, channels=3, **settings)


@pytest.mark.parametrize(
    ("name", "size"),
    [("cyclegan", 32), ("dcgan", 16), ("stylegan2", 16), pytest.param("pix2pix", 16, marks=pytest.mark.slow)],
)
def test_built_ins_on_two_processes(name, size):
    settings = {**SMALL[name], "image_size": size, "inputs": offline.INPUTS.get(name)}
    check_architecture(name, **settings, processes=True)


def test_an_architecture_of_points():
    check_architecture("tiny", data="gaussian")
    check_architecture("tiny", data="gaussian", norm=True, dropout=0.5)


@pytest.mark.parametrize("name", built_in("losses"))
def test_built_in_losses(name):
    check_loss(name)


@pytest.mark.parametrize("name", built_in("penalties"))
def test_built_in_penalties(name):
    check_penalty(name)


ARCHITECTURE = """
import os
import torch
from torch import nn
from ganzoo import Objective, hookimpl

class Generator(nn.Module):
    def __init__(self, z_dim=8, image_size=28, channels=1, width=8):
        super().__init__()
        self.shape = (channels, image_size, image_size)
        self.start = nn.Linear(z_dim, width)
        self.end = nn.Linear(width, channels * self.shape[1] ** 2)
        self.register_buffer("shift", torch.zeros(width))

    def forward(self, z):
        x = self.start(z).relu() + self.shift
        x = self.end(x).tanh()
        return x.unflatten(1, self.shape)

class Discriminator(nn.Module):
    def __init__(self, image_size=28, channels=1, width=8):
        super().__init__()
        self.start = nn.Linear(channels * image_size**2, width)
        self.end = nn.Linear(width, 1)

    def forward(self, images):
        x = images.flatten(1)
        x = self.start(x).tanh()
        return self.end(x).flatten()

class Mine(Objective):
    def generator_loss(self, g, d, batch):
        value, logs = super().generator_loss(g, d, batch)
        return value, logs

RECIPES = {"default": {"penalties": ["r1"]}, "wide": {"generator": {"width": 16}}}

@hookimpl
def register_architectures(register):
    register("sketch", generator=Generator, discriminator=Discriminator, objective=Mine, recipes=RECIPES)
"""
LAST = "        return x.unflatten(1, self.shape)"
MISTAKES = {
    "pixels-unbounded": ("self.end(x).tanh()", "self.end(x)", r"makes pixels from .* lie in \[-1, 1\], so end it"),
    "pixels-sigmoid": ("self.end(x).tanh()", "self.end(x).sigmoid()", r"makes only pixels from 0 to 1: .*\[-1, 1\]"),
    "pixels-nan": ("self.end(x).tanh()", "self.end(x).log().tanh() / 0", "NaN or infinite"),
    "sigmoid-in-d": ("self.end(x).flatten()", "self.end(x).sigmoid().flatten()", "return raw logits, without a sigm"),
    "softmax-in-d": ("self.end(x).flatten()", "x.softmax(1) * self.end.weight.softmax(1)", "return raw logits"),
    "one-logit": ("self.end(x).flatten()", "self.end(x).mean()", r"returns \(\) .* for 8 items: return one logit for each item"),
    "batch-squared": ("self.end(x).flatten()", "self.end(x) + self.end(x).flatten()", r"never to \(N, 1\)"),
    "classes-in-g-alone": ("z_dim=8, image_size=28,", "z_dim=8, num_classes=None, image_size=28,", "only the generator of .* takes num_classes"),
    "a-tuple": ("self.end(x).flatten()", "self.end(x).flatten(), x", "a tuple: return one tensor"),
    "ignores-z": ("self.start(z)", "self.start(torch.ones_like(z))", "the generator .* the same whatever its input"),
    "ignores-x": ("images.flatten(1)", "images.flatten(1) * 0", "the discriminator .* the same whatever its input"),
    "unused-in-g": ("self.shape = (ch", "self.spare = nn.Linear(2, 2); self.shape = (ch", "generator.*'spare.weight' gets no gr"),
    "unused-in-d": ("self.end = nn.Linear(width, 1)", "self.spare = self.end = nn.Linear(width, 1); self.more = nn.Linear(1, 1)", "discriminator.*'more.weight' gets no"),
    "not-independent": ("self.end = nn.Linear(width, 1)", "self.end = nn.Sequential(nn.Linear(width, 1), nn.LogSoftmax(0)); self.independent = True", "says independent = True, and its logits depend on the other items"),
    "detached": (LAST, LAST + ".detach()", "generator_loss of sketch fails|gets no gradient"),
    "not-contiguous": ("self.end = nn.Linear(width, 1)", "self.end = nn.Linear(width, 1); self.start.weight = nn.Parameter(torch.randn(784, width).t())", "discriminator of sketch: the parameter 'start.weight' is not contiguous"),
    "own-seed": ('torch.zeros(width))', 'torch.tensor([float(b) for b in os.urandom(width)]))', "'shift' differs between two builds with one seed"),
    "own-noise": (LAST, LAST + " * (int.from_bytes(os.urandom(8)) / 2**64)", "other values at the second call"),
    "counts-calls": (LAST, "        self.shift += 0.01; return x.unflatten(1, self.shape)", "other values|changes 'shift' in evaluation mode"),
    "not-a-buffer": ('self.register_buffer("shift", torch.zeros(width))', "self.shift = torch.randn(width)", "after it was saved and loaded: keep everything"),
    "size-ignored": ("self.shape = (channels, image_size, image_size)", "self.shape = (channels, 28, 28)", r"makes \(1, 28, 28\) with settings for \(1, 56, 56\): obey image_size"),
    "channels-ignored": ("self.shape = (channels, image_size, image_size)", "self.shape = (1, image_size, image_size)", "obey|fails"),
    "setting-of-no-json": ("z_dim=8, image_size=28,", "z_dim=8, norm=nn.Identity, image_size=28,", "setting norm=.* which JSON cannot hold"),
    "setting-without-default": ("z_dim=8", "z_dim", "'z_dim' without a default"),
    "loses-in-bf16": ("self.start(z).relu()", "(self.start(z) + 2048 - 2048).relu()", "generator of sketch under bf16 autocast is far from"),
    "fails-in-bf16": ("self.start(x).tanh()", "torch.complex(self.start(x), 0 * self.start(x)).abs()", "discriminator fails on"),
    "no-second-derivative": ("self.start(x).tanh()", "nn.functional.scaled_dot_product_attention(*[self.start(x)[:, None, None]] * 3).flatten(1)", "has no second derivatives"),
    "bad-recipe": ('"wide": {"generator": {"width": 16}}', '"wide": {"stesp": 3}', "the recipe 'wide' of sketch is not valid: .*did you mean 'steps'"),
    "bad-recipe-setting": ('"wide": {"generator": {"width": 16}}', '"wide": {"generator": {"widht": 3}}', "the recipe 'wide' .*'widht': did you mean 'width'"),
    "loss-not-a-scalar": ("return value, logs", "return value.expand(2), logs", "generator_loss of sketch fails"),
    "logs-a-number": ("return value, logs", "return value, {'g_loss': value.item()}", "generator_loss of sketch: g_loss is .*not a finite scalar tensor"),
}  # fmt: skip


@pytest.fixture
def sketch():
    """Register a plugin from its source, in this process."""

    def register(source):
        module = types.ModuleType("sketch")
        exec(compile(source, "sketch.py", "exec"), vars(module))
        ganzoo.register(module)

    yield register
    if "sketch" in ganzoo.list_architectures():
        ganzoo.unregister("sketch")


def one_line(source, old, new):
    assert source.count(old) == 1, old
    assert "\n" not in new
    return source.replace(old, new)


def test_the_passing_architecture(sketch):
    sketch(ARCHITECTURE)
    check_architecture("sketch")
    check_architecture("sketch", image_size=20, channels=3, width=4, generator={"z_dim": 3})


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_caught(sketch, mistake):
    old, new, message = MISTAKES[mistake]
    sketch(one_line(ARCHITECTURE, old, new))
    with pytest.raises(ganzoo.CheckError, match=message):
        check_architecture("sketch")


def test_a_view_that_channels_last_breaks(sketch):
    sketch(one_line(ARCHITECTURE, "images.flatten(1)", "images.view(len(images), -1)"))
    check_architecture("sketch")  # one channel lies the same in either layout
    with pytest.raises(ganzoo.CheckError, match="discriminator fails on"):
        check_architecture("sketch", channels=3)


def test_the_check_leaves_nothing_behind(sketch, workplace):
    import torch

    sketch(ARCHITECTURE)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    check_architecture("sketch")
    assert torch.equal(torch.get_rng_state(), before)
    assert not [path for path in workplace.iterdir() if path.name != ".cache"]


def test_processes_need_an_installed_plugin(sketch):
    sketch(ARCHITECTURE)
    with pytest.raises(ganzoo.CheckError, match="install its package"):
        check_architecture("sketch", processes=True)


# Each differs from the passing architecture where only a second process shows it.
APART = {
    "rank-in-weights": ('torch.zeros(width))', 'torch.full((width,), float(os.environ.get("RANK", 0))))', "'generator.shift' differs between them"),
    "own-draw": ("return value, logs", "return value * (1 + torch.rand(())), logs", "on two processes learns another"),
    "a-crash": ("return value, logs", 'return value * (1 if "RANK" not in os.environ else 1 / 0), logs', "ZeroDivisionError: division by zero"),
}  # fmt: skip


@pytest.mark.slow
def test_mistakes_that_two_processes_show(tmp_path):
    """One interpreter for all, with the plugins installed as pip leaves them."""
    names = {mistake: f"apart{i}" for i, mistake in enumerate(APART)}
    for mistake, (old, new, _) in APART.items():
        name = names[mistake]
        source = one_line(ARCHITECTURE, old, new).replace('"sketch"', f'"{name}"')
        (tmp_path / f"{name}_plugin.py").write_text(source)
        info = tmp_path / f"ganzoo_{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ganzoo-{name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[ganzoo]\n{name} = {name}_plugin\n")
    script = """
import json, sys
import ganzoo
from ganzoo.testing import check_architecture
told = {}
for name in sys.argv[1:]:
    try:
        check_architecture(name, processes=True)
    except ganzoo.CheckError as error:
        told[name] = str(error)
print(json.dumps(told))
"""
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", script, *names.values()],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    for mistake, (_, _, message) in APART.items():
        assert message in told[names[mistake]]


LOSS = """
from torch.nn.functional import softplus
from ganzoo import Loss

class Mine(Loss):
    needs_real = True

    def discriminator(self, real_logits, fake_logits):
        return softplus(fake_logits - real_logits)

    def generator(self, fake_logits, real_logits=None):
        return softplus(real_logits - fake_logits)

    def after_discriminator_step(self, d):
        for p in d.parameters():
            p.data.clamp_(-1, 1)
"""
D_LOSS, G_LOSS = "softplus(fake_logits - real_logits)", "softplus(real_logits - fake_logits)"
LOSS_MISTAKES = {
    "d-flipped": (D_LOSS, "softplus(real_logits - fake_logits)", "D's loss does not fall when real logits rise"),
    "g-flipped": (G_LOSS, "softplus(fake_logits - real_logits)", "G's loss does not fall when fake logits rise"),
    "d-half-flipped": (D_LOSS, "-real_logits - fake_logits", "D's loss does not fall when fake logits fall"),
    "needs-real-not-said": ("needs_real = True", "needs_real = False", "set needs_real = True"),
    "real-forgotten": (D_LOSS, "softplus(fake_logits)", "no gradient to the real logits"),
    "unstable": (G_LOSS, "-(1 - (real_logits - fake_logits).sigmoid()).log()", "compute it stably"),
    "detached": (D_LOSS, "softplus(fake_logits - real_logits).detach()", "has no graph"),
    "a-number": (G_LOSS, "softplus(real_logits - fake_logits).sum().item()", "returns a float: return a tensor"),
    "a-sum": (G_LOSS, "softplus(real_logits - fake_logits).sum()", "never a sum"),
    "mixes-shapes": (D_LOSS, "softplus(fake_logits - real_logits).sum(0, keepdim=True)", "one value for each element, or their me"),
    "hook-fails": ("p.data.clamp_(-1, 1)", "p.clip_grads()", r"after_discriminator_step\(d\) fails"),
    "hook-breaks-d": ("p.data.clamp_(-1, 1)", "p.data.div_(0)", "weights that are not finite"),
    "no-loss": ("class Mine(Loss)", "class Mine", "subclass ganzoo.Loss"),
}  # fmt: skip

PENALTY = """
import torch
from ganzoo import Penalty

class Mine(Penalty):
    def __call__(self, d, real, fake, *, batch):
        t = batch.rng.rand(len(real), 1, 1, 1)
        x = (real + t * (fake - real)).requires_grad_()
        (slope,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
        norm = slope.flatten(1).norm(dim=1)
        return self.weight * (norm - 1).square().mean()
"""
PENALTY_MISTAKES = {
    "a-vector": ("(norm - 1).square().mean()", "(norm - 1).square()", r"returns shape \(8,\): return a scalar tensor"),
    "a-number": ("(norm - 1).square().mean()", "(norm - 1).square().mean().item()", "returns float: return a scalar tensor"),
    "own-rng": ("batch.rng.rand(len(real), 1, 1, 1)", "torch.rand(len(real), 1, 1, 1)", "draw only from batch.rng"),
    "no-graph": ("create_graph=True", "create_graph=False", "create_graph=True"),
    "no-weight": ("self.weight * ", "", "does not double when its weight does"),
    "negative": ("(norm - 1).square()", "(norm - 100)", "at least 0"),
    "nan": ("(norm - 1).square()", "(-norm).log()", "is nan: a penalty must be finite"),
    "backward": ("norm = slope", "d(x).sum().backward(); norm = slope", "leaves gradients in D"),
    "uses-a-module": ("norm = slope", "list(d.parameters()); norm = slope", "fails on a D"),
    "changes-d": ("norm = slope", "d.__self__[1].weight.data.mul_(1.1); norm = slope", "second|changes D's|differs"),
    "marks-inputs": ("x = (real + t * (fake - real)).requires_grad_()", "x = real.requires_grad_()", "leaves requires_grad"),
    "no-penalty": ("class Mine(Penalty)", "class Mine(object)", "subclass ganzoo.Penalty"),
}  # fmt: skip


def made(source):
    namespace = {}
    exec(compile(source, "sketch.py", "exec"), namespace)
    return namespace["Mine"]


def test_the_passing_loss_and_penalty():
    check_loss(made(LOSS))
    check_penalty(made(PENALTY))
    check_penalty("gp", weight=3.0)
    check_loss("wasserstein", clip=0.5)


@pytest.mark.parametrize("mistake", LOSS_MISTAKES)
def test_a_mistake_in_a_loss_is_caught(mistake):
    old, new, message = LOSS_MISTAKES[mistake]
    with pytest.raises(ganzoo.CheckError, match=message):
        check_loss(made(one_line(LOSS, old, new)))


@pytest.mark.parametrize("mistake", PENALTY_MISTAKES)
def test_a_mistake_in_a_penalty_is_caught(mistake):
    old, new, message = PENALTY_MISTAKES[mistake]
    with pytest.raises(ganzoo.CheckError, match=message):
        check_penalty(made(one_line(PENALTY, old, new)))


def test_a_check_fails_as_an_assertion_does():
    assert issubclass(ganzoo.CheckError, AssertionError)
    with pytest.raises(ganzoo.UnknownNameError, match="did you mean 'hinge'"):
        check_loss("hige")
