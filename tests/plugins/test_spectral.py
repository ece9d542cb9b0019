"""Spectral normalisation with one estimate for each update: torch's values, and how often it is made."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import ganzoo
from ganzoo.store import runs
from ganzoo_dcgan.spectral import SpectralNorms

NORMED = (0, 2, 4)
SMALL = {
    "generator": {"width": 4},
    "discriminator": {"width": 4},
    "image_size": 16,
    "batch_size": 8,
    "precision": "fp32",
}


class Network(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(64, 2), nn.Softplus()
        )


class Normed(Network):
    def __init__(self):
        super().__init__()
        self.spectral = SpectralNorms(self[i] for i in NORMED)

    def forward(self, x):
        self.spectral.update()
        return super().forward(x)


def vectors(d):
    return {name: value.clone() for name, value in d.state_dict().items() if name.endswith(("_u", "_v"))}


def moved(before, after):
    changed = {not torch.equal(before[name], after[name]) for name in before}
    assert len(changed) == 1  # all of them, or none
    return changed.pop()


@pytest.fixture
def pair():
    """The network, and one with torch's spectral_norm, with the same tensors, whose vectors are exact, in double."""
    torch.manual_seed(0)
    mine, theirs = Normed().double(), Network().double()
    for i in NORMED:
        spectral_norm(theirs[i])
    assert list(mine.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    for _ in range(300):
        theirs(x)
    mine.load_state_dict(theirs.state_dict())
    return mine, theirs, x


def close(left, right):
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(left, right, strict=True))


def test_values_and_gradients_are_torchs(pair):
    mine, theirs, x = pair
    results = []
    for d in (mine, theirs):
        points = x.clone().requires_grad_()
        output = d(points)
        (gradient,) = torch.autograd.grad(output.sum(), points, create_graph=True)
        loss = output.square().sum() + gradient.square().sum()  # as with R1
        results.append([output, gradient, *torch.autograd.grad(loss, [*d.parameters()])])
    assert close(*results)


def test_second_derivatives_with_respect_to_the_weights_are_torchs(pair):
    mine, theirs, x = pair
    results = []
    for d in (mine, theirs):
        gradients = torch.autograd.grad(d(x).sum(), [*d.parameters()], create_graph=True)
        loss = sum(gradient.square().sum() for gradient in gradients)
        results.append(torch.autograd.grad(loss, [*d.parameters()]))
    assert close(*results)


def test_evaluation_is_torchs_and_leaves_the_vectors_alone(pair):
    mine, theirs, x = pair
    with torch.no_grad():
        for d in (mine, theirs):
            d[0].parametrizations.weight.original.add_(0.1)
            d.eval()
    before = vectors(mine)
    assert close([mine(x)], [theirs(x)])
    assert not moved(before, vectors(mine))


@pytest.mark.parametrize("fused", [True, False])
def test_there_is_one_estimate_for_each_update(pair, fused):
    """A fused optimizer does not tell torch that it has changed the weights."""
    d, _, x = pair
    optimizer = torch.optim.Adam(d.parameters(), 0.01, fused=fused)
    d(x)
    for _ in range(3):
        before = vectors(d)
        d(x), d(-x)
        assert not moved(before, vectors(d))
        optimizer.zero_grad()
        d(x).sum().backward()
        optimizer.step()
        d.requires_grad_(False)  # as in G's phase
        d(x)
        d.requires_grad_(True)
        after = vectors(d)
        assert moved(before, after)
        weight = d[2].parametrizations.weight
        matrix, norm = weight.original.detach().flatten(1), weight[0]
        for vector, image in ((norm._v, matrix.T @ norm._u), (d[2].weight.detach().flatten(1).T @ norm._u, norm._v)):
            assert torch.allclose(vector, image / image.norm())


def test_a_change_by_hand_is_noticed(pair):
    d, _, x = pair
    d(x)
    before = vectors(d)
    with torch.no_grad():
        d[4].parametrizations.weight.original.mul_(torch.rand(2, 64) * 3)
    d(x)
    assert moved(before, vectors(d))


def test_a_copy_and_a_moved_network_compute_the_same(pair):
    d, _, x = pair
    expected = d(x)
    assert close([expected], [copy.deepcopy(d)(x)])
    assert torch.allclose(d.float()(x.float()), expected.float(), atol=1e-5)


def test_what_is_saved_belongs_to_the_saved_weights(pair):
    """So that it needs no iteration when it is loaded, even if none of the passes came after the update."""
    d, _, x = pair
    optimizer = torch.optim.Adam(d.parameters(), 0.01, fused=True)
    d(x).sum().backward()
    optimizer.step()
    saved = {name: value.clone() for name, value in d.state_dict().items()}
    resumed = Normed().double()
    resumed.load_state_dict(saved)
    assert torch.equal(resumed(x), d(x))
    assert not moved(vectors(resumed), saved)


@pytest.mark.parametrize("compile", [False, True])
def test_a_run_resumes_to_the_same_bits(monkeypatch, compile):
    true_compile = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: true_compile(self, backend="eager", **options))
    settings = {
        **SMALL,
        "lr_schedule": "constant",
        "compile": compile,
        "penalties": ["r1=0.1@2"],
        "checkpoint_every": 3,
    }
    whole = ganzoo.train(ganzoo.TrainConfig("sngan", **settings, steps=6, out="whole"))
    ganzoo.train(ganzoo.TrainConfig("sngan", **settings, steps=3, out="parts"))
    parts = ganzoo.train(ganzoo.TrainConfig("sngan", **settings, steps=6, out="parts"), resume=True)
    left, right = (runs.load_newest(run.folder).tensors for run in (whole, parts))
    assert left.keys() == right.keys()
    assert [name for name, value in left.items() if not torch.equal(value, right[name])] == []


def test_a_compiled_run_normalises_too(monkeypatch):
    true_compile = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: true_compile(self, backend="eager", **options))
    config = ganzoo.TrainConfig("sngan", **SMALL, compile=True, steps=30, lr=0.01, lr_schedule="constant")
    d = ganzoo.train(config).discriminator
    for layer in d.spectral.layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=0.15)
