"""What must hold on a CUDA device too; skipped where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ganzoo
from crash import interrupted_run
from ganzoo import TrainConfig
from ganzoo.store import runs
from ganzoo.store.networks import load_run

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

SMALL = {
    "device": "cuda",
    "batch_size": 16,
    "generator": {"width": 8},
    "discriminator": {"width": 8},
    "checkpoint_every": 4,
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_train_and_resume_are_exact(precision):
    settings = {"steps": 8, "precision": precision, **SMALL}
    whole = ganzoo.train(TrainConfig("dcgan", out="whole", **settings))
    parts = interrupted_run(TrainConfig("dcgan", out="parts", **settings), at=4)
    left, right = (runs.load_newest(run.folder) for run in (whole, parts))
    assert left.step == right.step == 8
    assert left.tensors.keys() == right.tensors.keys()
    assert all(torch.equal(value, right.tensors[key]) for key, value in left.tensors.items())


@pytest.mark.parametrize("penalty", ["gp", "r1", "r2", "dragan"])
def test_penalties(penalty):
    run = ganzoo.train(TrainConfig("dcgan", steps=2, penalties=[penalty], **SMALL))
    assert penalty in run.metrics


def test_a_seed_means_the_same_on_every_device():
    run = ganzoo.train(TrainConfig("dcgan", steps=2, **SMALL))
    g = load_run(run.folder)
    there, here = ganzoo.sample(g.to("cuda"), 8, seed=1).cpu(), ganzoo.sample(g.to("cpu"), 8, seed=1)
    assert torch.allclose(there, here, atol=2e-3)


def test_a_compiled_run_and_bf16_samples():
    run = ganzoo.train(TrainConfig("dcgan", steps=4, precision="bf16", compile=True, **SMALL))
    assert torch.isfinite(ganzoo.sample(load_run(run.folder).to("cuda"), 8)).all()


def test_data_that_fits_is_kept_on_the_device():
    from ganzoo.data.dataset import Batches
    from ganzoo.data.loading import load

    data = load("digits")
    kept = Batches(data, 16, 0, torch.device("cuda"))
    assert kept.items.device.type == "cuda"
    there, _, _ = kept.get(3)
    here, _, _ = Batches(data, 16, 0, torch.device("cpu")).get(3)
    assert torch.equal(there.cpu(), here)


def test_every_gpu_takes_part():
    """As many processes as GPUs, over NCCL."""
    count = torch.cuda.device_count()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    arguments = ["-m", "ganzoo", "train", "dcgan", "--steps", "4", "--batch-size", str(8 * count), "--out", "run"]
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert runs.load_newest(Path("run")).step == 4
