"""The optimizers against torch's own classes: Adam and SGD bit for bit."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from ganzoo import TrainConfig
from ganzoo.training.optimizers import Optimizer

OURS = {
    "adam": ({"betas": [0.5, 0.99]}, lambda p: torch.optim.Adam(p, 1e-2, (0.5, 0.99), fused=True)),
    "sgd": ({"betas": [0.9, 0.0]}, lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, fused=True)),
    "sgd without momentum": ({"betas": [0.0, 0.0]}, lambda p: torch.optim.SGD(p, 1e-2, fused=True)),
    "rmsprop": ({}, lambda p: torch.optim.RMSprop(p, 1e-2, foreach=True)),
}


def make(name):
    settings, _ = OURS[name]
    return TrainConfig("tiny", data="gaussian", optimizer=name.partition(" ")[0], out="run", **settings)


def parameters():
    """Three, of which the second lies in memory as convolutions do on images, and the third is not used at first."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 3), (4, 3, 3, 3), (7,))
    first, second, third = (torch.randn(*shape, generator=generator) for shape in shapes)
    return [nn.Parameter(x) for x in (first, second.to(memory_format=torch.channels_last), third)]


def give_gradients(params, step):
    generator = torch.Generator().manual_seed(step)
    for i, p in enumerate(params):
        gradient = torch.empty_like(p).copy_(torch.randn(*p.shape, generator=generator))
        p.grad = None if i == 2 and step < 2 else gradient


@pytest.mark.parametrize("name", OURS)
def test_the_steps_are_those_of_torch(name):
    ours, theirs = parameters(), parameters()
    optimizer, reference = Optimizer(make(name), ours, 1e-2), OURS[name][1](theirs)
    for step in range(5):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        if name == "sgd" and step < 2:  # torch's class wants all momenta to begin in the same step
            theirs[2].grad = torch.zeros_like(theirs[2])
        optimizer.step()
        reference.step()
        for mine, other in zip(ours, theirs, strict=True):
            if name == "rmsprop":  # by the kernel of Adam, which rounds in another order
                torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)
            else:
                assert torch.equal(mine, other), step
    optimizer.zero_grad()
    assert all(p.grad is None for p in ours)


@pytest.mark.parametrize("name", OURS)
def test_the_state_goes_on_where_it_was(name):
    whole, halved = parameters(), parameters()
    optimizer, first = (Optimizer(make(name), p, 1e-2) for p in (whole, halved))
    for step in range(6):
        if step == 3:
            kept = {key: value.clone().contiguous() for key, value in first.tensors().items()}
            first = Optimizer(make(name), halved, 1e-2)
            assert not first.fault(kept)
            first.load(kept)
        for params, one in ((whole, optimizer), (halved, first)):
            give_gradients(params, step)
            one.step()
    for mine, other in zip(whole, halved, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc alone does so")
def test_steps_get_no_fresh_memory_from_the_system():
    """Page faults while blocks of 20 MB are taken and freed again: 5,000 each time without `keep_freed_memory`."""
    script = (
        "import resource, sys, torch\n"
        "from ganzoo.devices import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "def step(): [torch.zeros(5 << 20, dtype=torch.uint8) for _ in range(4)]\n"
        "for _ in range(10): step()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): step()\n"
        "sys.exit(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before > 1000)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "work",
    [
        "ganzoo.train('dcgan', steps=2, batch_size=8, generator={'width': 4}, discriminator={'width': 4}, out='run')",
        "ganzoo.sample(ganzoo.from_pretrained('stylegan2.nouns'), 1)",
    ],
)
def test_nothing_waits_for_the_compiler(work):
    """Its import takes a second, and torch's own optimizers import it at their first call."""
    script = f"import sys, ganzoo\n{work}\nsys.exit('torch._dynamo' in sys.modules)\n"
    subprocess.run([sys.executable, "-c", script], check=True)
