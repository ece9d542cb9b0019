"""Training, sampling and evaluation on simulated devices (see simulated.py): what a GPU would refuse or wait for."""

import contextlib
import functools
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

import ganzoo
import offline
import tiny
from crash import Crash
from ganzoo import Data, Rng, TrainConfig
from ganzoo.data.dataset import Composed
from ganzoo.data.loading import load
from ganzoo.evaluation.features import Extractor
from ganzoo.rng import to_device
from ganzoo.sampling import statistics
from ganzoo.sampling.draw import walk
from ganzoo.store.networks import load_run
from ganzoo.store.runs import load_newest
from ganzoo.training import ada
from ganzoo.zoo.plugins import registry
from simulated import Machine, Simulated, UnsafeCopy

HALF, STEPS = 3, 6
"""A run stops after `HALF` steps, is resumed, and ends after `STEPS`."""
POINTS = {"architecture": "tiny", "data": "gaussian"}
IMAGES = {"architecture": "dcgan", "data": "few", "generator": {"width": 4}, "discriminator": {"width": 4}}
TRANSLATING = {"cyclegan": {"objective_options": {"pool": 8}, "generator": {"width": 4, "blocks": 1}}}
"""More settings of the architectures that take inputs."""
DROPOUT = {"generator": {"norm": True, "dropout": 0.5}, "discriminator": {"norm": True, "dropout": 0.5}}


def built_in(kind):
    return sorted(name for name, entry in getattr(registry(), kind).items() if entry.plugin.startswith("ganzoo:"))


def small(name):
    """Settings of an architecture as its recipe has it, but small, without penalties that only some steps have."""
    penalties = [penalty.partition("@")[0] for penalty in TrainConfig(name).penalties]
    size = {
        "vanilla": {"hidden": 16},
        "r3gan": {"width": 16},
        "stylegan2": {"channel_base": 128, "channel_max": 8},
    }.get(name, {"width": 4})
    networks = {"generator": size, "discriminator": size, **offline.SETTINGS.get(name, {})}
    data = "few_tones" if name == "wavegan" else "few"
    translating = {"inputs": offline.INPUTS.get(name), **TRANSLATING.get(name, {})}
    return {"architecture": name, "data": data, "penalties": penalties, **networks, **translating}


def configure(out, **settings):
    settings = {
        "steps": STEPS,
        "batch_size": 8,
        "precision": "fp32",
        "log_every": 100,
        "checkpoint_every": HALF,
        "augment": [],
        "out": out,
        **settings,
    }
    return TrainConfig(**settings)


def tensors(folder):
    checkpoint = load_newest(Path(folder))
    assert checkpoint is not None
    assert checkpoint.step == STEPS
    return checkpoint.tensors


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    differing = [name for name in left if not torch.equal(left[name], right[name])]
    assert differing == []


def train_in_halves(machine, device, out, **settings):
    """Train, stop, resume, end. Of the steps that neither begin nor log nor save anything, the waits by line, and the
    operators."""
    waits, operators = {}, {}

    def on_step(done):
        waits[done], operators[done] = dict(machine.waits), set(machine.operators)
        machine.waits.clear()
        machine.operators.clear()
        if done == HALF and 1 in waits:
            raise Crash

    config = configure(out, device=device, **settings)
    with pytest.raises(Crash):
        ganzoo.train(config, on_step=on_step)
    before = {**waits}
    waits.clear()
    run = ganzoo.train(config, resume=True, on_step=on_step)
    assert all(isinstance(p, Simulated) for p in run.raw_generator.parameters())
    return before[2] | waits[HALF + 2], operators[2] | operators[HALF + 2]


@functools.cache
def trained_on_the_cpu(settings):
    """The tensors of a run of these settings, which are JSON."""
    with patch.object(ada, "SETTLED", ()):  # the operators of a GPU
        run = ganzoo.train(configure("cached", device="cpu", **json.loads(settings)))
    return tensors(run.folder)


def assert_like_the_cpu(settings, device="cuda", memory=2**33):
    """Trained in halves on a simulated device, it has the CPU's bits; on CUDA, no step waits, and none uses an operator
    without a deterministic kernel. Returns the operators of a step."""
    with Machine(device, memory=memory) as machine:
        waits, operators = train_in_halves(machine, device, "simulated", **settings)
    assert_same_bits(trained_on_the_cpu(json.dumps(settings)), tensors("simulated"))
    if device != "mps":  # whose copies must wait, as it has no pinned memory
        assert waits == {}
        assert unsettled(operators) == set()
    return operators


@ganzoo.hookimpl
def register_data(register):
    register("few", few, summary="some digits", features="mnist")
    register("stacked", stacked, summary="three digits in one image")
    register("few_tones", few_tones, summary="some short tones")


@functools.cache
def few():
    digits = load("digits")
    return Data(digits.items[:300], digits.labels[:300])


def few_tones():
    return load("tones", options={"n": 100, "length": 256})


def stacked():
    return Data(Composed(few().items, torch.arange(300).view(-1, 3)))


@pytest.fixture(autouse=True)
def data(monkeypatch):
    monkeypatch.setattr(statistics, "BLOCKS", 2)  # two are as good as sixteen for telling a device from another
    ganzoo.register(sys.modules[__name__], "few digits")
    yield
    ganzoo.unregister("few digits")


# The simulation itself


def test_tensors_of_different_devices_do_not_meet():
    with Machine("cuda", 2):
        first, second = torch.ones(3, device="cuda"), torch.ones(3, device="cuda:1")
        assert (first.device, second.device) == (torch.device("cuda", 0), torch.device("cuda", 1))
        assert (first * torch.tensor(2.0)).tolist() == [2, 2, 2]
        for mix in (
            lambda: first + torch.ones(3),
            lambda: first + second,
            lambda: first[torch.zeros(2, dtype=torch.long, device="cuda:1")],
            lambda: torch.ones(3)[torch.zeros(2, dtype=torch.long, device="cuda")],
            lambda: torch.cat([first, torch.ones(1)]),
            lambda: torch.stack([first[0], torch.tensor(1.0)]),
            lambda: torch.zeros(()).add_(first[0]),
            lambda: nn.Linear(3, 1)(first),
        ):
            with pytest.raises(RuntimeError, match="same device, but found at least two devices"):
                mix()
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            first.numpy()
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            torch.ones(3, device="cuda:2")


def test_waits_are_counted_by_line():
    with Machine("cuda") as machine:
        x = torch.arange(4.0, device="cuda")
        mask = x > 1
        y = (x * 2 + torch.ones(4, device="cuda")).sum().sqrt()
        torch.ones(4).pin_memory().to("cuda", non_blocking=True)
        assert not machine.waits
        for wait in (
            lambda: y.item(),
            lambda: bool(y > 1),
            lambda: x.cpu(),
            lambda: x.tolist(),
            lambda: x[mask],
            lambda: x[torch.tensor([0, 1])],
            lambda: torch.ones(4).to("cuda"),
            lambda: torch.ones(4).to("cuda", non_blocking=True),
            lambda: torch.tensor([1.0], device="cuda"),
            lambda: x.copy_(torch.ones(4)),
            lambda: torch.zeros(4).copy_(x),
            lambda: torch.cuda.synchronize(),
        ):
            wait()
            assert machine.waits == {f"{__name__}:{wait.__code__.co_firstlineno}": 1}
            machine.waits.clear()
        to_device(torch.ones(1), torch.device("cuda"))
        Rng(0, 0, "x", "cuda").randn(3)
        assert not machine.waits
        g = Reading().to("cuda")
        machine.waits.clear()
        ganzoo.sample(g, 1)
        assert [line.startswith("ganzoo.sampling") for line in machine.waits] == [True]  # and not the line of `Reading`


class Reading(nn.Module):
    """A generator that waits for the device."""

    def __init__(self):
        super().__init__()
        self.weight, self.config = nn.Parameter(torch.ones(2)), {"z_dim": 2}

    def forward(self, z):
        return z * self.weight.sum().item()


def freed(device):
    return torch.ones(3).to(device, non_blocking=True)


def freed_before_the_use():
    copy = freed("mps")
    copy + 1


def freed_without_a_use():
    freed("mps")
    torch.mps.synchronize()  # the copy is made all the same


def overwritten():
    source = torch.ones(3)
    copy = source.to("mps", non_blocking=True)
    source.zero_()
    copy + 1


def pinned_and_overwritten():
    source = torch.ones(3).pin_memory()
    copy = source.to("cuda", non_blocking=True)
    copy + 1
    source.zero_()
    copy.sum().item()


@pytest.mark.parametrize("copy", [freed_before_the_use, freed_without_a_use, overwritten, pinned_and_overwritten])
def test_an_asynchronous_copy_needs_its_source(copy):
    end = "freed" if "freed" in copy.__name__ else "overwritten"
    with (
        pytest.raises(UnsafeCopy, match=rf"{__name__}:\d+: .* {end} before"),
        Machine("cuda" if "pinned" in copy.__name__ else "mps"),
    ):
        copy()


def test_an_asynchronous_copy_that_has_its_source():
    with Machine("mps"):
        source = torch.ones(3)
        assert (source.to("mps", non_blocking=True) + 1).tolist() == [2, 2, 2]
        source.zero_()  # after the wait
    with Machine("cuda"):
        assert torch.ones(3).pin_memory().to("cuda", non_blocking=True).tolist() == [1, 1, 1]
        assert freed("cuda").tolist() == [1, 1, 1]  # CUDA copies pageable memory before it returns
    with pytest.raises(UnsafeCopy, match="freed"), Machine("mps"):
        freed("mps")  # found on leaving at the latest


def test_each_device_has_a_generator_of_its_own():
    with Machine("cuda", 2):
        torch.manual_seed(0)
        host, first, second = (torch.randn(4, device=device).tolist() for device in ("cpu", "cuda:0", "cuda:1"))
        assert host == first == second
        torch.cuda.manual_seed(1)
        other, second = (torch.randn(4, device=device).tolist() for device in ("cuda:0", "cuda:1"))
        torch.manual_seed(1)
        assert torch.randn(4).tolist() == other != second
        state = torch.cuda.get_rng_state("cuda:1")
        third = nn.functional.dropout(torch.ones(9, device="cuda:1")).tolist()
        torch.cuda.set_rng_state(state, "cuda:1")
        assert nn.functional.dropout(torch.ones(9, device="cuda:1")).tolist() == third
        with torch.cuda.device(1):
            assert torch.ones(1, device="cuda").device.index == torch.cuda.current_device() == 1


def test_mps_has_no_float64():
    with Machine("mps"):
        for make in (
            lambda: torch.ones(3, dtype=torch.float64, device="mps"),
            lambda: torch.ones(3, device="mps").double(),
            lambda: torch.ones(3, dtype=torch.float64).to("mps"),
        ):
            with pytest.raises(TypeError, match="doesn't support float64"):
                make()


# Training


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("name", built_in("architectures"))
def test_each_architecture(name, device):
    assert "_fused_adam_" in assert_like_the_cpu(small(name), device)


OPTIONS = {
    **{f"loss {name}": {**POINTS, "loss": name} for name in built_in("losses")},
    **{f"penalty {name}": {**POINTS, "penalties": [name]} for name in built_in("penalties")},
    **{f"optimizer {name}": {**POINTS, "optimizer": name} for name in ("adam", "rmsprop", "sgd")},
    **{f"schedule {name}": {**POINTS, "lr_schedule": name} for name in ("linear", "cosine")},
    "batchnorm and dropout": {**POINTS, **DROPOUT},
    "joint batch": {**POINTS, **DROPOUT, "objective.joint": True, "loss": "rpgan", "penalties": ["r1"]},
    "critic": {**POINTS, "n_critic": 2, "d_lr": 1e-4},
    "accumulate": {**POINTS, "accumulate": 2, "penalties": ["dragan"]},
    "bf16": {**POINTS, **DROPOUT, "precision": "bf16", "penalties": ["r1"]},
    "no average": {**POINTS, "ema_decay": 0},
    "lazy penalty": {**POINTS, "penalties": ["r1=1@4"]},
    "bf16 images": {**IMAGES, "precision": "bf16"},
    "pack": {**IMAGES, "pack": 2},
    "flip": {**IMAGES, "flip": True},
    "conditional": {**IMAGES, "conditional": True},
    "composed images": {**IMAGES, "data": "stacked"},
    **{f"augment {name}": {**IMAGES, "augment": [name]} for name in ("color", "translation", "cutout", "ada")},
    "augment ada and r1": {**IMAGES, "augment": ["ada"], "augment.p": 0.5, "penalties": ["r1"]},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option(option):
    assert_like_the_cpu(OPTIONS[option])


@pytest.mark.parametrize("option", ["flip", "conditional", "composed images"])
def test_data_that_does_not_fit_on_the_device(option):
    assert_like_the_cpu(OPTIONS[option], memory=0)


@pytest.mark.parametrize("option", ["batchnorm and dropout", "penalty dragan", "flip", "conditional"])
def test_options_on_mps(option):
    assert_like_the_cpu(OPTIONS[option], "mps")


def test_measuring_while_training():
    settings = {**IMAGES, "eval_every": 3, "eval_samples": 64}
    ganzoo.train(configure("cpu", device="cpu", **settings))
    assert_like_the_cpu(settings)
    logs = [(Path(name) / "metrics.jsonl").read_text().splitlines() for name in ("cpu", "simulated")]
    fids = [[json.loads(line)["fid"] for line in lines] for lines in logs]
    assert len(fids[0]) == 2
    assert fids[0] == fids[1]


def test_fine_tuning():
    ganzoo.train(configure("start", device="cpu", **IMAGES))
    ganzoo.train(configure("cpu", device="cpu", start="./start", **IMAGES))
    with Machine("cuda"):
        ganzoo.train(configure("simulated", device="cuda", start="./start", **IMAGES))
    assert_same_bits(tensors("cpu"), tensors("simulated"))


# A second GPU


def test_a_second_gpu_has_the_bits_of_the_first_and_leaves_generators_alone():
    settings = {**POINTS, **DROPOUT}
    ganzoo.train(configure("cpu", device="cpu", **settings))
    with Machine("cuda", 2) as machine:
        states = [generator.get_state() for generator in machine.generators]
        waits, _ = train_in_halves(machine, "cuda:1", "second", **settings)
        ganzoo.train(configure("whole", device="cuda:1", **settings))
        left_alone = [torch.equal(a, b.get_state()) for a, b in zip(states, machine.generators, strict=True)]
    assert waits == {}
    assert_same_bits(tensors("second"), tensors("whole"))
    assert_same_bits(tensors("second"), tensors("cpu"))
    assert left_alone == [True, True]


class Noisy(nn.Module):
    """Draws from torch's own generator, as an author may."""

    def __init__(self):
        super().__init__()
        self.weight, self.config = nn.Parameter(torch.ones(2)), {"z_dim": 2}

    def forward(self, z):
        return z * self.weight + torch.randn_like(z)


def test_noise_of_a_generator_on_a_second_gpu():
    here = ganzoo.sample(Noisy(), 80, seed=3)
    with Machine("cuda", 2):
        there = Noisy().to("cuda:1")
        assert torch.equal(ganzoo.sample(there, 80, seed=3).cpu(), here)
        assert torch.equal(ganzoo.sample(there, 80, seed=3).cpu(), here)


# Two processes on two GPUs


def worker(rank, out):
    """One of two processes: trains on its own GPU, then on the CPU, and writes the waits that it saw."""
    torch.set_num_threads(1)
    ganzoo.register(tiny)
    os.chdir(out)
    settings = {**POINTS, **DROPOUT, "penalties": ["gp"], "lr_schedule": "constant"}
    waits = {}

    def on_step(done):
        waits[done] = dict(machine.waits)
        machine.waits.clear()

    with Machine("cuda", 2) as machine:
        ganzoo.train(configure("simulated", device="cuda", **{**settings, "steps": HALF}), on_step=on_step)
        run = ganzoo.train(configure("simulated", device="cuda", **settings), resume=True, on_step=on_step)
        places = {str(p.device) for module in (run.raw_generator, run.discriminator) for p in module.parameters()}
    ganzoo.train(configure("cpu", device="cpu", **settings))
    Path(f"seen-{rank}.json").write_text(json.dumps({"waits": [waits.get(2), waits.get(5)], "places": [*places]}))


def test_two_processes_on_two_gpus(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join(sys.path)  # of this process, which finds the modules beside this folder
    together = {
        "PYTHONPATH": path,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)],
            env={**os.environ, **together, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    seen = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(2)]
    assert [rank["places"] for rank in seen] == [["cuda:0"], ["cuda:1"]]
    assert_same_bits(tensors(tmp_path / "cpu"), tensors(tmp_path / "simulated"))
    assert seen[0]["waits"] == [{}, {}]


# Sampling and evaluation


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("conditional", [False, True])
def test_sampling_and_evaluation(device, conditional):
    run = ganzoo.train(configure("run", device="cpu", conditional=conditional, **IMAGES))
    reference = few()
    evaluation = {"n": 128, "metrics": ["fid", "prdc", "modes"] if conditional else ["fid", "prdc"]}
    here = load_run(run.folder)
    result = ganzoo.evaluate(here, reference, features="mnist", **evaluation)
    images, raw = ganzoo.sample(here, 70, seed=1), ganzoo.sample(load_run(run.folder, "generator"), 4)
    frames = list(walk(here, 2, 3))
    with Machine(device):
        there = load_run(run.folder).to(device)
        made = ganzoo.sample(there, 70, seed=1)
        assert made.device.type == device
        assert torch.equal(made.cpu(), images)
        assert torch.equal(ganzoo.sample(load_run(run.folder, "generator").to(device), 4).cpu(), raw)
        assert all(torch.equal(frame.cpu(), other) for frame, other in zip(walk(there, 2, 3), frames, strict=True))
        assert ganzoo.evaluate(there, reference, features="mnist", device=device, **evaluation).values == result.values


# Arithmetic: which switches are set while a network runs

FAST, EXACT = ("tf32", "tf32", True, False), ("ieee", "ieee", True, False)
"""Precision of matrix products and convolutions, cuDNN's `deterministic`, and its `benchmark`."""
OLD = ("_set_cudnn_allow_tf32", "_set_cublas_allow_tf32", "_set_float32_matmul_precision")


def switches():
    cudnn = torch.backends.cudnn
    matmul, conv = torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision
    return matmul, conv, cudnn.deterministic, cudnn.benchmark


@contextlib.contextmanager
def watched():
    """Sets of what is seen on the device: the switches at each pass of a network, with its class and whether it trains;
    and the older switches that are written, which torch does not let mix with these."""
    seen, old, before = set(), set(), switches()

    def recorded(name, write):
        return lambda value: (old.add(name), write(value))

    def assign(self, owner, value):  # torch.backends.cudnn.allow_tf32 = ...
        old.update({self.setter.__name__} & set(OLD))
        self.setter(value)

    def look(module, inputs):
        p = next(module.parameters(), None)
        if isinstance(p, Simulated) and (hasattr(module, "config") or isinstance(module, Extractor)):
            seen.add((type(module).__name__, module.training, switches()))

    with contextlib.ExitStack() as stack, Machine("cuda"):
        for name in OLD:
            stack.enter_context(patch.object(torch._C, name, recorded(name, getattr(torch._C, name))))
        stack.enter_context(patch.object(torch.backends.ContextProp, "__set__", assign))
        stack.callback(nn.modules.module.register_module_forward_pre_hook(look).remove)
        yield seen, old
    assert switches() == before


def test_training_may_round_to_tf32_and_what_it_samples_and_measures_may_not():
    with watched() as (seen, old):
        ganzoo.train(configure("run", device="cuda", eval_every=3, eval_samples=64, **IMAGES))
    assert seen == {
        ("Generator", True, FAST),
        ("Discriminator", True, FAST),
        ("Generator", False, EXACT),
        ("MnistFeatures", False, EXACT),
    }
    assert old == set()


def sample(g):
    ganzoo.sample(g, 2)


def walk_once(g):
    next(walk(g, 1, 2))


def measure(g):
    ganzoo.evaluate(g, few(), features="mnist", metrics=["fid"], n=64, device="cuda")


@pytest.mark.parametrize("use", [sample, walk_once, statistics.estimate_statistics, measure])
def test_sampling_and_evaluation_do_not_round_to_tf32(use):
    with watched() as (seen, old):
        use(ganzoo.create("dcgan", image_size=28, channels=1, width=4)[0].to("cuda"))
    networks = ["Generator", "MnistFeatures"] if use is measure else ["Generator"]
    assert seen == {(name, False, EXACT) for name in networks}
    assert old == set()


# Operators without a deterministic kernel

UNSETTLED = {
    # Convolutions are deterministic by cuDNN's switch, which is tested above.
    **{f"torch.nn.Conv{transposed}{n}d": () for transposed in ("", "Transpose") for n in (1, 2, 3)},
    **{f"torch.nn.ReplicationPad{n}d": (f"replication_pad{n}d_backward",) for n in (1, 2, 3)},
    **{f"torch.nn.ReflectionPad{n}d": (f"reflection_pad{n}d_backward",) for n in (1, 2, 3)},
    "torch.bmm": (),  # of sparse tensors alone
    "torch.cumsum": ("cumsum", "cumsum_"),
    "torch.Tensor.__getitem__": (),  # on the CPU alone
    "torch.Tensor.index_put": tuple(
        f"{name} accumulate=False" for name in ("index_put", "index_put_", "_index_put_impl_")
    ),
    "torch.Tensor.put_": ("put", "put_"),
    "torch.Tensor.scatter_add_": ("scatter_add", "scatter_add_"),
    "torch.gather": ("scatter_add", "scatter_add_"),  # its backward
    "torch.index_add": ("index_add", "index_add_"),
    "torch.index_select": ("index_add", "index_add_"),  # its backward
    "torch.repeat_interleave": ("index_add", "index_add_"),  # its backward
    "torch.Tensor.index_copy": ("index_copy", "index_copy_"),
    "torch.Tensor.scatter": ("scatter.src", "scatter_.src"),
    "torch.Tensor.scatter_reduce": ("scatter_reduce", "scatter_reduce_"),
    "torch.nn.MaxPool3d": ("max_pool3d_with_indices_backward",),
    "torch.nn.Embedding": ("embedding_dense_backward",),
    "torch.nn.AvgPool3d": ("avg_pool3d_backward",),
    "torch.nn.AdaptiveAvgPool2d": ("_adaptive_avg_pool2d_backward",),
    "torch.nn.AdaptiveAvgPool3d": ("_adaptive_avg_pool3d_backward",),
    "torch.nn.AdaptiveMaxPool2d": ("adaptive_max_pool2d_backward",),
    "torch.nn.FractionalMaxPool2d": ("fractional_max_pool2d_backward",),
    "torch.nn.FractionalMaxPool3d": ("fractional_max_pool3d_backward",),
    **{f"torch.nn.MaxUnpool{n}d": (f"max_unpool{max(n, 2)}d",) for n in (1, 2, 3)},
    "torch.nn.functional.interpolate": (
        "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
        "upsample_trilinear3d_backward", "_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward",
    ),
    "torch.nn.NLLLoss": ("nll_loss2d_forward",),  # that of one class for each pixel; for each item, it adds in order
    "torch.nn.CTCLoss": ("_ctc_loss_backward",),
    "torch.nn.EmbeddingBag": ("_embedding_bag_dense_backward",),
    "torch.histc": ("histc",),
    "torch.bincount": ("bincount",),
    "torch.median": ("median.dim", "nanmedian.dim"),
    "torch.nn.functional.grid_sample": ("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    "torch.Tensor.resize_": (),  # of quantized tensors alone
}  # fmt: skip
"""The operators that torch says are not deterministic on CUDA by default, as the operators of aten that are not."""
AVOIDED = {name for names in UNSETTLED.values() for name in names}


def unsettled(operators):
    """Of these operators, those that have no deterministic kernel on CUDA."""
    return {name for name in operators for short in (name, re.sub(r"\.\w+", "", name)) if short in AVOIDED}


def test_the_table_has_all_that_torch_lists():
    listed = set(re.findall(r"\* :(?:class|func):`([\w.]+)`", torch.use_deterministic_algorithms.__doc__ or ""))
    assert len(listed) > 30
    assert listed <= UNSETTLED.keys()
    assert all(hasattr(torch.ops.aten, re.split(r"[. ]", name)[0]) for name in AVOIDED)


def test_the_recording_would_notice():
    with Machine("cuda") as machine:
        x = torch.ones(1, 1, 4, 4, device="cuda", requires_grad=True)
        interpolate(x, scale_factor=2, mode="bilinear").sum().backward()
        index = torch.zeros(3, dtype=torch.long, device="cuda")
        x.flatten()[index].sum().backward()  # adds in order
        assert unsettled(machine.operators) == {"upsample_bilinear2d_backward"}
        torch.zeros(3, device="cuda")[index] = 1.0
        assert "index_put_ accumulate=False" in unsettled(machine.operators)


UNCONDITIONAL = ("cyclegan", "infogan", "srgan", "stylegan2_lucid", "vaegan", "vanilla", "wgan_gp")
CONDITIONAL = [name for name in built_in("architectures") if name not in UNCONDITIONAL]
TRAININGS = {
    **{name: {**small(name), "conditional": True} for name in CONDITIONAL},
    "augment": {**IMAGES, "augment": ["color", "translation", "cutout", "ada"], "pack": 2, "penalties": ["r1"]},
}


@pytest.mark.parametrize("name", TRAININGS)
def test_classes_and_augmentation_use_no_operator_without_a_deterministic_kernel(name):
    with Machine("cuda") as machine:

        def only_the_second_step(done):
            if done == 2:
                raise Crash
            machine.operators.clear()

        with pytest.raises(Crash):
            ganzoo.train(configure("run", device="cuda", **TRAININGS[name]), on_step=only_the_second_step)
    assert "_fused_adam_" in machine.operators
    assert unsettled(machine.operators) == set()


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2])
