"""What must hold on a CUDA device too; skipped where there is none."""

import pytest
import torch

import ganzoo
from ganzoo import TrainConfig, checkpoint
from ganzoo.sampling import load_run

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
    whole = ganzoo.train(TrainConfig("dcgan", out="whole", steps=8, precision=precision, **SMALL))
    ganzoo.train(TrainConfig("dcgan", out="parts", steps=4, precision=precision, **SMALL))
    parts = ganzoo.train(TrainConfig("dcgan", out="parts", steps=8, precision=precision, **SMALL), resume=True)
    left, right = (checkpoint.load_newest(run.folder).tensors for run in (whole, parts))
    assert all(torch.equal(value, right[key]) for key, value in left.items())


@pytest.mark.parametrize("penalty", ["gp", "r1", "r2", "dragan"])
def test_penalties(penalty):
    run = ganzoo.train(TrainConfig("dcgan", steps=2, penalties=[penalty], **SMALL))
    assert penalty in run.metrics


def test_a_seed_means_the_same_on_every_device():
    run = ganzoo.train(TrainConfig("dcgan", steps=2, **SMALL))
    g = load_run(run.folder)
    there, here = ganzoo.sample(g.to("cuda"), 8, seed=1).cpu(), ganzoo.sample(g.to("cpu"), 8, seed=1)
    assert torch.allclose(there, here, atol=2e-3)
