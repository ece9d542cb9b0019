"""The trainer: it learns, it resumes to the same bits, it stops well."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import ganzoo
import tiny
from crash import Crash, crash_at, interrupted_run
from ganzoo import TrainConfig
from ganzoo.data.dataset import Batches
from ganzoo.rng import stream_seed
from ganzoo.store import runs
from ganzoo.training import phases
from ganzoo.training.schedules import lr_factor
from ganzoo.zoo.plugins import registry

LOSSES = ["hinge", "lsgan", "minimax", "nonsaturating", "rpgan", "wasserstein"]
PENALTIES = ["dragan", "gp", "r1", "r2"]
# Several fast critic updates a step: gp and dragan at their usual weights learn slowly.
GAUSSIAN = {"steps": 300, "lr": 2e-3, "d_lr": 6e-3, "betas": [0, 0.9], "lr_schedule": "linear", "n_critic": 3}
GAUSSIAN |= {"log_every": 300, "checkpoint_every": 300}
STATEFUL = {
    "generator": {"norm": True, "dropout": 0.1},
    "discriminator": {"dropout": 0.2},
    "penalties": ["gp=1", "r1=1@4"],
}


def state(folder, step):
    """Every tensor of a checkpoint."""
    found = runs.load_newest(folder)
    assert found.step == step
    return found.tensors


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


# Learning


def pairs():
    """Each loss with each penalty; quick are each loss without one, and one loss with each."""
    for loss in LOSSES:
        for penalty in [None, *PENALTIES]:
            quick = penalty is None or loss == "nonsaturating"
            yield pytest.param(loss, penalty, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("loss", "penalty"), [*pairs()])
def test_each_loss_with_each_penalty_learns_a_gaussian(loss, penalty, tiny_config):
    """The distance between the generated and the real mean at least halves."""
    config = tiny_config(loss=loss, penalties=[penalty] if penalty else [], **GAUSSIAN)
    real = torch.tensor(tiny.MEAN)

    def distance(g):
        return (ganzoo.sample(g, 1000).mean(0) - real).norm().item()

    torch.manual_seed(stream_seed(config.seed, 0, "init"))
    before = distance(ganzoo.create("tiny")[0])
    run = ganzoo.train(config)
    assert distance(run.generator) < before / 2
    assert all(name in run.metrics for name in [penalty] if name)


def test_every_built_in_loss_and_penalty_is_tried():
    zoo = registry()
    assert sorted(n for n, e in zoo.losses.items() if e.plugin == "ganzoo:losses") == LOSSES
    assert sorted(n for n, e in zoo.penalties.items() if e.plugin == "ganzoo:losses") == PENALTIES


def test_same_seed_same_bits_and_another_seed_others(tiny_config):
    runs = [
        ganzoo.train(tiny_config(out=out, seed=seed, **STATEFUL)).folder for out, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    a, b, c = (state(folder, 30) for folder in runs)
    assert_same_bits(a, b)
    assert not torch.equal(a["generator.layers.0.weight"], c["generator.layers.0.weight"])


def test_the_callers_random_state_is_left_alone(tiny_config):
    torch.manual_seed(5)
    wanted = torch.randn(3)
    torch.manual_seed(5)
    run = ganzoo.train(tiny_config(steps=2))
    ganzoo.sample(run.generator, 3)
    assert torch.equal(torch.randn(3), wanted)


def test_n_critic_draws_a_new_batch_for_each_update(tiny_config, monkeypatch):
    drawn = []
    monkeypatch.setattr(Batches, "indices", lambda self, k: drawn.append(k) or torch.arange(self.batch_size))
    ganzoo.train(tiny_config(steps=3, n_critic=5))
    assert drawn == list(range(15))


def test_the_generator_step_leaves_the_discriminator_alone(tiny_config):
    """D has no gradients in G's phase, and a parameter that its author froze stays frozen."""
    seen = []

    class Spy(ganzoo.Objective):
        def generator_loss(self, g, d, batch):
            seen.append([p.requires_grad for p in d.parameters()])
            return super().generator_loss(g, d, batch)

        def discriminator_loss(self, g, d, batch):
            seen.append([p.requires_grad for p in d.parameters()])
            return super().discriminator_loss(g, d, batch)

    class HalfFrozen(tiny.Discriminator):
        def __init__(self):
            super().__init__()
            self.layers[0].weight.requires_grad_(False)

    class Plugin:
        @ganzoo.hookimpl
        def register_architectures(self, register):
            register("spied", generator=tiny.Generator, discriminator=HalfFrozen, objective=Spy)

    ganzoo.register(Plugin(), "spied")
    try:
        run = ganzoo.train(TrainConfig("spied", data="gaussian", steps=2))
    finally:
        ganzoo.unregister("spied")
    own = [False, True, True, True, True, True]
    assert seen == [own, [False] * 6] * 2
    assert [p.requires_grad for p in run.discriminator.parameters()] == own


def test_an_objective_with_parameters_trains_them_and_saves_them(tiny_config):
    class Weighted(torch.nn.Module):
        def __init__(self, loss, penalties, start=1.0):
            super().__init__()
            self.inner = ganzoo.Objective(loss, penalties)
            self.scale = torch.nn.Parameter(torch.tensor(start))

        def discriminator_loss(self, g, d, batch):
            return self.inner.discriminator_loss(g, d, batch)

        def generator_loss(self, g, d, batch):
            value, logs = self.inner.generator_loss(g, d, batch)
            return value + self.scale**2, logs

    class Plugin:
        @ganzoo.hookimpl
        def register_architectures(self, register):
            register("weighted", generator=tiny.Generator, discriminator=tiny.Discriminator, objective=Weighted)

    ganzoo.register(Plugin(), "weighted")
    try:
        settings = {"data": "gaussian", "objective_options": {"start": 2.0}, "lr": 0.01}
        whole = ganzoo.train(TrainConfig("weighted", out="whole", steps=20, **settings))
        ganzoo.train(TrainConfig("weighted", out="parts", steps=10, **settings))
        parts = ganzoo.train(TrainConfig("weighted", out="parts", steps=20, **settings), resume=True)
    finally:
        ganzoo.unregister("weighted")
    tensors = state(whole.folder, 20)
    assert tensors["objective.scale"].item() < 1.95
    assert_same_bits(tensors, state(parts.folder, 20))


def test_ema_recurrence(tiny_config):
    """ema_k = b_k ema_{k-1} + (1 - b_k) w_k with b_k = min(decay, (1 + k) / (10 + k)), exactly."""
    torch.manual_seed(stream_seed(0, 0, "init"))
    average = ganzoo.create("tiny")[0].layers[0].weight.detach().double()
    for step in range(12):
        run = ganzoo.train(tiny_config(steps=step + 1, out=f"run{step}", ema_decay=0.5, lr=0.01))
        weight = run.raw_generator.layers[0].weight.detach().double()
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
        assert torch.allclose(run.generator.layers[0].weight.double(), average, atol=1e-6)
    assert not torch.allclose(weight, average, atol=1e-3)


def test_no_averaging_keeps_the_raw_generator(tiny_config):
    run = ganzoo.train(tiny_config(ema_decay=0.0))
    assert_same_bits(dict(run.generator.named_parameters()), dict(run.raw_generator.named_parameters()))


def test_batchnorm_statistics_are_those_of_the_averaged_weights(tiny_config):
    """The mean that BatchNorm subtracts is the mean that the averaged layer before it gives."""
    run = ganzoo.train(tiny_config(generator={"norm": True}, steps=100, lr=0.01))
    before, norm = run.generator.layers[0], run.generator.layers[1]
    z = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(1))
    out = before(z).detach()
    assert torch.allclose(norm.running_mean, out.mean(0), atol=0.15)
    assert torch.allclose(norm.running_var, out.var(0), rtol=0.2)
    lagging = run.raw_generator.layers[1]
    assert not torch.allclose(norm.running_mean, lagging.running_mean, atol=1e-4)


def test_schedules():
    assert [lr_factor("linear", p) for p in (0, 0.25, 1)] == [1, 0.75, 0]
    assert [lr_factor("cosine", p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert lr_factor("constant", 0.9) == 1


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_optimizers_and_two_rates(tiny_config, optimizer):
    still = ganzoo.train(tiny_config(optimizer=optimizer, lr=1e-12, d_lr=1e-3, ema_decay=0.0))
    torch.manual_seed(stream_seed(0, 0, "init"))
    g, d = ganzoo.create("tiny")
    assert torch.allclose(still.generator.layers[0].weight, g.layers[0].weight, atol=1e-8)
    assert not torch.allclose(still.discriminator.layers[0].weight, d.layers[0].weight, atol=1e-5)


def test_bf16_trains(tiny_config):
    run = ganzoo.train(tiny_config(precision="bf16", penalties=["gp"]))
    assert run.config.precision == "bf16"
    assert all(p.dtype == torch.float32 for p in run.generator.parameters())


needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=[pytest.mark.slow, needs_a_compiler])])
def test_a_compiled_run_resumes_to_the_same_bits(tiny_config, monkeypatch, backend):
    """Penalties too, which torch.compile cannot differentiate twice. The backend `eager` captures the graphs and runs
    them as they are."""
    compiled = []
    true_compile = torch.nn.Module.compile

    def compile_with(self, **options):
        compiled.append(self)
        true_compile(self, backend=backend, **options)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_with)
    config = {"compile": True, "penalties": ["gp"], "log_every": 10, "generator": {"norm": True}}
    whole = ganzoo.train(tiny_config(out="whole", steps=20, **config))
    ganzoo.train(tiny_config(out="parts", steps=10, **config))
    resumed = ganzoo.train(tiny_config(out="parts", steps=20, **config), resume=True)
    assert len(compiled) == 6
    assert_same_bits(state(whole.folder, 20), state(resumed.folder, 20))
    eager = ganzoo.train(tiny_config(out="eager", steps=20, **{**config, "compile": False}))
    left, right = state(whole.folder, 20), state(eager.folder, 20)
    assert all(torch.allclose(value, right[key], rtol=1e-3, atol=1e-4) for key, value in left.items())


def test_auto_precision_is_recorded_as_what_it_became(tiny_config):
    run = ganzoo.train(tiny_config())
    stored = json.loads((run.folder / "training.json").read_text())
    assert stored["config"]["precision"] == "fp32"


# Files


def test_run_folder(tiny_config):
    entries = []
    run = ganzoo.train(tiny_config(), on_log=entries.append)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == entries
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 25, 30]
    assert {"d_loss", "g_loss", "accuracy", "images_per_second", "seconds"} <= lines[0].keys()
    assert sorted(p.name for p in (run.folder / "checkpoints").iterdir()) == ["step-0000020", "step-0000030"]
    assert not [
        path
        for path in run.folder.rglob("*")
        if path.suffix not in ("", ".html", ".json", ".jsonl", ".safetensors", ".png", ".md")
    ]


def test_run_folders_are_numbered_and_an_explicit_one_is_never_overwritten(tiny_config, workplace):
    names = [ganzoo.train(tiny_config(out=None, steps=1)).folder.name for _ in range(2)]
    assert names == ["tiny-gaussian-001", "tiny-gaussian-002"]
    (workplace / "mine").mkdir()
    (workplace / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ganzoo.CheckpointError, match="exists already"):
        ganzoo.train(tiny_config(out="mine"))
    assert [path.name for path in (workplace / "mine").iterdir()] == ["thesis.txt"]


def test_a_run_that_cannot_start_leaves_nothing(tiny_config, workplace):
    with pytest.raises(ganzoo.DataError):
        ganzoo.train(tiny_config(batch_size=1001))
    with pytest.raises(ganzoo.ConfigError, match=r"makes items of shape \(2,\), the data has \(1, 28, 28\)"):
        ganzoo.train(tiny_config(data="digits"))
    for settings in ({"batch_size": 1}, {"batch_size": 8, "accumulate": 8}):
        with pytest.raises(ganzoo.ConfigError, match=r"on batches of .*more than 1 value per channel"):
            ganzoo.train(TrainConfig("vanilla", **settings))
    with pytest.raises(
        ganzoo.ConfigError, match=r"the discriminator of dcgan cannot judge items of shape \(1, 28, 28\)"
    ):
        ganzoo.train(TrainConfig("dcgan", discriminator={"image_size": 14}))
    assert list(workplace.iterdir()) == []


def test_batches_of_one_where_nothing_needs_more(tiny_config):
    assert ganzoo.train(tiny_config(batch_size=1, steps=2)).step == 2


# Resume


def timeless_log(run):
    """The lines of metrics.jsonl but for what depends on the clock."""
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


@pytest.mark.parametrize(
    "settings",
    [
        STATEFUL,
        {"log_every": 7},  # a checkpoint in the middle of a log window
        {"optimizer": "rmsprop", "n_critic": 2, "loss": "wasserstein"},
        {"lr_schedule": "linear"},
    ],
)
def test_resume_is_exact(tiny_config, settings):
    whole = ganzoo.train(tiny_config(out="whole", **settings))
    resumed = interrupted_run(tiny_config(out="parts", **settings), at=17)
    assert_same_bits(state(whole.folder, 30), state(resumed.folder, 30))
    assert timeless_log(whole) == timeless_log(resumed)


def test_resume_is_exact_for_images_in_channels_last():
    settings = {
        "steps": 6,
        "batch_size": 16,
        "checkpoint_every": 2,
        "generator": {"width": 8},
        "discriminator": {"width": 8},
        "flip": True,
    }
    whole = ganzoo.train(TrainConfig("dcgan", out="whole", **settings))
    resumed = interrupted_run(TrainConfig("dcgan", out="parts", **settings), at=5)
    assert_same_bits(state(whole.folder, 6), state(resumed.folder, 6))
    pictures = [(r.folder / "samples" / "step-0000006.png").read_bytes() for r in (whole, resumed)]
    assert pictures[0] == pictures[1]


def forget(part, monkeypatch):
    """Break one thing about resuming from step 10."""
    if part in ("noise", "dropout"):
        true_seed, wrong = stream_seed, "z0" if part == "noise" else "g/torch"

        def shifted(seed, step, purpose):
            return true_seed(seed, step + (step == 12 and purpose == wrong), purpose)

        monkeypatch.setattr("ganzoo.rng.stream_seed", shifted)
        monkeypatch.setattr(phases, "stream_seed", shifted)
    elif part == "order":
        true_indices = Batches.indices
        monkeypatch.setattr(Batches, "indices", lambda self, k: true_indices(self, k - 10))
    else:
        true_part = runs.Checkpoint.part

        def without(self, name):
            if name != part:
                return true_part(self, name)
            return true_part(self, "generator") if part == "ema" else {}

        monkeypatch.setattr(runs.Checkpoint, "part", without)


@pytest.mark.parametrize("part", ["g_optimizer", "d_optimizer", "ema", "noise", "dropout", "order"])
def test_the_resume_test_would_notice(tiny_config, part):
    """Forget one thing on resume and the bits differ: so `test_resume_is_exact` can fail."""
    whole = ganzoo.train(tiny_config(out="whole", **STATEFUL))
    config = tiny_config(out="parts", **STATEFUL)
    with pytest.raises(Crash):
        ganzoo.train(config, on_step=crash_at(17))
    with pytest.MonkeyPatch.context() as monkeypatch:
        forget(part, monkeypatch)
        resumed = ganzoo.train(config, resume=True)
    left, right = state(whole.folder, 30), state(resumed.folder, 30)
    assert any(not torch.equal(value, right[key]) for key, value in left.items())


def test_resume_to_more_steps(tiny_config):
    whole = ganzoo.train(tiny_config(out="whole", steps=30))
    ganzoo.train(tiny_config(out="parts", steps=20))
    longer = ganzoo.train(tiny_config(out="parts", steps=30), resume=True)
    assert_same_bits(state(whole.folder, 30), state(longer.folder, 30))
    assert runs.read_training(longer.folder)[0].steps == 30


def test_resume_where_nothing_is_yet_starts(tiny_config):
    assert ganzoo.train(tiny_config(), resume=True).step == 30


def test_resume_of_a_finished_run_does_nothing(tiny_config):
    done = ganzoo.train(tiny_config())
    before = state(done.folder, 30)
    (done.folder / "model" / "README.md").write_text("my own words")
    again = ganzoo.train(tiny_config(), resume=True)
    assert again.step == 30
    assert (done.folder / "model" / "README.md").read_text() == "my own words"
    assert_same_bits(before, state(again.folder, 30))
    assert_same_bits(dict(done.generator.state_dict()), dict(again.generator.state_dict()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.1}, "lr=0.0002"),
        ({"steps": 20}, "only increase"),
        ({"seed": 3}, "seed=0"),
        ({"generator": {"width": 8}}, "generator="),
    ],
)
def test_resume_with_a_changed_setting_is_refused(tiny_config, change, message):
    folder = ganzoo.train(tiny_config()).folder
    before = (folder / "training.json").read_bytes()
    with pytest.raises(ganzoo.ConfigError, match=message):
        ganzoo.train(tiny_config(**change), resume=True)
    assert (folder / "training.json").read_bytes() == before


def test_resume_with_changed_data_is_refused(tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(8):
        Image.new("L", (28, 28), 30 * i).save(tmp_path / "photos" / f"{i}.png")
    config = TrainConfig("vanilla", data="photos", out="run", steps=2, batch_size=4)
    ganzoo.train(config)
    Image.new("L", (28, 28), 99).save(tmp_path / "photos" / "0.png")
    with pytest.raises(ganzoo.ConfigError, match="has changed"):
        ganzoo.train(config.replace(steps=4), resume=True)


def train_in_child(out, steps, every):
    """What a killed process runs: start or resume, noting each executed step."""
    torch.set_num_threads(1)
    if "tiny" not in ganzoo.list_architectures():
        ganzoo.register(tiny)
    config = TrainConfig(
        "tiny", data="gaussian", steps=steps, batch_size=64, checkpoint_every=every, out=out, **STATEFUL
    )
    with open(f"{out}.log", "a") as log:

        def note(step):
            log.write(f"{step}\n")
            log.flush()

        ganzoo.train(config, resume=True, on_step=note)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_kill_minus_nine_and_resume(workplace, kills, monkeypatch):
    """A run killed again and again ends with the bits of one never killed, and repeats at most an interval a kill."""
    every = 20
    steps = 40 * kills
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # else the server does not find what it preloads
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["test_training"])

    def start(out):
        child = forkserver.Process(target=train_in_child, args=(out, steps, every))
        child.start()
        return child

    def executed():
        log = workplace / "parts.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    whole = start("whole")
    whole.join()
    assert whole.exitcode == 0
    dice = random.Random(0)
    for _ in range(kills):
        child = start("parts")
        last = executed() + dice.randint(every // 2, 2 * every)
        while executed() < last:
            assert child.exitcode is None
            time.sleep(dice.uniform(0, 0.01))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    child = start("parts")
    child.join()
    assert child.exitcode == 0
    assert_same_bits(state(workplace / "whole", steps), state(workplace / "parts", steps))
    assert steps < executed() <= steps + kills * every
    assert [path.name for path in (workplace / "parts").rglob(".*")] == [".lock"]


# Stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_ends_well(tiny_config, number):
    def at_17(step):
        if step == 17:
            signal.raise_signal(number)

    before = signal.signal(number, signal.SIG_DFL)  # which background jobs of a shell may ignore
    handler = signal.getsignal(number)
    try:
        run = ganzoo.train(tiny_config(), on_step=at_17)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert run.interrupted
    assert run.signal == number
    assert run.step == 17 or run.step == 18
    assert runs.load_newest(run.folder).step == run.step
    whole = ganzoo.train(tiny_config(out="whole"))
    resumed = ganzoo.train(tiny_config(), resume=True)
    assert not resumed.interrupted
    assert_same_bits(state(whole.folder, 30), state(resumed.folder, 30))
    assert timeless_log(whole) == timeless_log(resumed)


def test_training_in_a_thread_leaves_signals_alone(tiny_config):
    result = []
    thread = threading.Thread(target=lambda: result.append(ganzoo.train(tiny_config(steps=2))))
    thread.start()
    thread.join()
    assert result[0].step == 2


class Explosive(ganzoo.Loss):
    """Finite for 12 steps, then NaN."""

    def discriminator(self, real_logits, fake_logits):
        return (fake_logits - real_logits).square()

    def generator(self, fake_logits, real_logits=None):
        self.calls = getattr(self, "calls", 0) + 1
        return fake_logits * (float("nan") if self.calls > 12 else 1.0)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_whole_checkpoint(tiny_config):
    class Plugin:
        @ganzoo.hookimpl
        def register_losses(self, register):
            register("explosive", Explosive)

    ganzoo.register(Plugin(), "explosive")
    try:
        with pytest.raises(ganzoo.TrainingError, match=r"_loss became NaN or infinite by step 15.*step-0000010"):
            ganzoo.train(tiny_config(loss="explosive"))
        with pytest.raises(ganzoo.TrainingError, match="by step 20"):  # caught before the checkpoint, not at the log
            ganzoo.train(tiny_config(loss="explosive", out="late", log_every=1000))
    finally:
        ganzoo.unregister("explosive")
    for folder in ("run", "late"):
        assert all(t.isfinite().all() for t in state(Path(folder), 10).values())


# Devices


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_cuda_without_a_device(tiny_config, workplace):
    with pytest.raises(ganzoo.ConfigError, match=r"--device cuda is not usable on this machine, which has: cpu"):
        ganzoo.train(tiny_config(device="cuda"))
    assert list(workplace.iterdir()) == []
