"""Losses and penalties against values and gradients worked out by hand, and against finite differences."""

import math

import pytest
import torch

import ganzoo
from ganzoo import Batch, Rng
from ganzoo.zoo.networks import resolve
from ganzoo.zoo.plugins import registry

LN2 = math.log(2)
LN3 = math.log(3)
# sigma(0) = 1/2, sigma(ln 3) = 3/4, sigma(-ln 3) = 1/4: so softplus(ln 3) = ln 4, softplus(-ln 3) = ln(4/3).
LN4, LN43 = math.log(4), math.log(4 / 3)


def make(kind, name, **options):
    return resolve(getattr(registry(), kind)[name].target)(**options)


# name: (real, fake), D's loss, its gradients on real and fake, G's loss, its gradient on fake
BY_HAND = {
    "minimax": [
        ((0.0, 0.0), 2 * LN2, (-0.5, 0.5), -LN2, -0.5),
        ((LN3, -LN3), 2 * LN43, (-0.25, 0.25), -LN43, -0.25),
    ],
    "nonsaturating": [
        ((0.0, 0.0), 2 * LN2, (-0.5, 0.5), LN2, -0.5),
        ((LN3, -LN3), 2 * LN43, (-0.25, 0.25), LN4, -0.75),
    ],
    "lsgan": [((3.0, 2.0), (4 + 4) / 2, (2.0, 2.0), 0.5, 1.0), ((1.0, 0.0), 0.0, (0.0, 0.0), 0.5, -1.0)],
    "hinge": [((0.5, 0.5), 0.5 + 1.5, (-1.0, 1.0), -0.5, -1.0), ((2.0, -3.0), 0.0, (0.0, 0.0), 3.0, -1.0)],
    "wasserstein": [((5.0, 2.0), -3.0, (-1.0, 1.0), -2.0, -1.0)],
    "rpgan": [((0.0, 0.0), LN2, (-0.5, 0.5), LN2, -0.5), ((LN3, 0.0), LN43, (-0.25, 0.25), LN4, -0.75)],
}  # fmt: skip


def test_every_built_in_loss_is_worked_out_by_hand():
    assert set(BY_HAND) == {n for n, e in registry().losses.items() if e.plugin == "ganzoo:losses"}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in BY_HAND.items() for case in cases])
def test_loss_by_hand(name, case):
    (r, f), d_value, d_gradients, g_value, g_gradient = case
    loss = make("losses", name)
    real, fake = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (r, f))
    value = loss.discriminator(real, fake).mean()
    assert value.item() == pytest.approx(d_value, abs=1e-12)
    gradients = torch.autograd.grad(value, (real, fake))
    assert [g.item() for g in gradients] == pytest.approx(d_gradients, abs=1e-12)
    value = loss.generator(fake, real.detach() if loss.needs_real else None).mean()
    assert value.item() == pytest.approx(g_value, abs=1e-12)
    (gradient,) = torch.autograd.grad(value, fake)
    assert gradient.item() == pytest.approx(g_gradient, abs=1e-12)


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_loss_finite_differences(name):
    loss = make("losses", name)
    rng = torch.Generator().manual_seed(1)
    real, fake = (torch.randn(7, dtype=torch.float64, generator=rng).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda r, f: loss.discriminator(r, f).mean(), (real, fake))
    assert torch.autograd.gradcheck(lambda f: loss.generator(f, real.detach()).mean(), (fake,))


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_loss_pushes_the_right_way(name):
    """D lowers its loss by raising r - f, G by raising f: the mistake that trained a well-known WGAN backwards."""
    loss = make("losses", name)
    real, fake = torch.tensor([0.2], requires_grad=True), torch.tensor([0.1], requires_grad=True)
    d_real, d_fake = torch.autograd.grad(loss.discriminator(real, fake).mean(), (real, fake))
    (g_fake,) = torch.autograd.grad(loss.generator(fake, real.detach()).mean(), fake)
    assert d_real < 0 < d_fake
    assert g_fake < 0


def test_relativistic_loss_says_that_it_needs_real_logits():
    loss = make("losses", "rpgan")
    assert loss.needs_real
    with pytest.raises(TypeError, match="real logits"):
        loss.generator(torch.zeros(1))


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({}, 0.01),
        ({"clip": 0.5}, 0.5),
        ({"penalized": True}, None),
        ({"clip": None}, None),
        ({"clip": 0.5, "penalized": True}, 0.5),
    ],
)
def test_weight_clipping(options, bound):
    critic = torch.nn.Linear(4, 1)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[-2.0, 0.001, 0.3, 2.0]]))
        critic.bias.fill_(3.0)
    before = [p.detach().clone() for p in critic.parameters()]
    make("losses", "wasserstein", **options).after_discriminator_step(critic)
    expected = before if bound is None else [p.clamp(-bound, bound) for p in before]
    assert all(torch.equal(p, value) for p, value in zip(critic.parameters(), expected, strict=True))


@pytest.mark.parametrize("clip", [0, -1, "always"])
def test_senseless_clip(clip):
    with pytest.raises(ValueError, match="clip"):
        make("losses", "wasserstein", clip=clip)


# Penalties. D(x) = a . x has gradient a everywhere, D(x) = |x|^2 / 2 has gradient x.


def batch_of(real, seed=0):
    return Batch(real, torch.zeros(len(real), 1), 0, Rng(seed, 0, "d0"))


def linear(slope):
    a = torch.tensor(slope)
    return lambda x: (x.flatten(1) * a).sum(1)


def bowl(x):
    return x.flatten(1).square().sum(1) / 2


@pytest.mark.parametrize(
    ("name", "weight", "slope", "value"),
    [
        ("gp", 10.0, [3.0, 4.0], 10 * (5 - 1) ** 2),
        ("gp", 2.0, [0.6, 0.8], 0.0),
        ("dragan", 10.0, [3.0, 4.0], 10 * (5 - 1) ** 2),
        ("r1", 2.0, [3.0, 4.0], 2 / 2 * 25),
        ("r2", 0.5, [3.0, 4.0], 0.5 / 2 * 25),
    ],
)
def test_penalty_of_a_linear_critic(name, weight, slope, value):
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(6, 2, generator=rng), torch.randn(6, 2, generator=rng)
    penalty = make("penalties", name, weight=weight)(linear(slope), real, fake, batch=batch_of(real))
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(value, abs=1e-4)


def test_r1_looks_at_real_and_r2_at_fake():
    real, fake = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 2.0]])
    assert make("penalties", "r1")(bowl, real, fake, batch=batch_of(real)).item() == pytest.approx(25 / 2)
    assert make("penalties", "r2")(bowl, real, fake, batch=batch_of(real)).item() == pytest.approx(5 / 2)


def test_gp_looks_between_real_and_fake_at_one_epsilon_a_sample():
    """With D = |x|^2/2 the norm is |x'|, so the penalty gives epsilon away."""
    real, fake = torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2)
    epsilon = Rng(5, 0, "d0").rand(4, 1, 1, 1).flatten()
    penalty = make("penalties", "gp", weight=1.0)(bowl, real, fake, batch=batch_of(real, seed=5))
    assert penalty.item() == pytest.approx((epsilon * math.sqrt(12) - 1).square().mean().item(), rel=1e-5)


class GivenNumbers:
    """A stream that hands out given numbers instead of random ones, by the shape of the draw."""

    def __init__(self, *draws):
        self.draws = {tuple(draw.shape): draw for draw in draws}

    def rand(self, n, *shape):
        return self.draws[(n, *shape)]

    def randint(self, high, n, *shape):
        assert high == 2**32
        return self.draws[(n, *shape)]


# The values 0, 0, 8, 8 have the mean 4 and the standard deviation s = 4, so x' = x + 2 a u, where the numbers u are
# those of these seeds. D(x) = |x - c|^2 / 2 with c = (3.5, 5) has the gradient x - c there.
DRAGAN_REAL = [[0.0, 0.0], [8.0, 8.0]]
DRAGAN_SEEDS = [7, 2**32 - 1]
DRAGAN_A = [[0.5], [0.625]]


def around_a_point(x):
    return (x - torch.tensor([3.5, 5.0])).square().sum(1) / 2


def dragan_by_hand():
    """The penalty of each item."""
    penalties = []
    numbers = ganzoo.uniform_of(torch.tensor(DRAGAN_SEEDS), 0, 2).tolist()
    for x, a, u in zip(DRAGAN_REAL, DRAGAN_A, numbers, strict=True):
        gradient = [x[i] + 2 * a[0] * u[i] - c for i, c in enumerate((3.5, 5.0))]
        penalties.append(10 * (math.hypot(*gradient) - 1) ** 2)
    return penalties


def test_dragan_by_hand():
    real, seeds, a = (torch.tensor(values) for values in (DRAGAN_REAL, DRAGAN_SEEDS, DRAGAN_A))
    batch = Batch(real, torch.zeros(2, 1), 0, GivenNumbers(seeds, a))
    mean = sum(dragan_by_hand()) / 2
    for options, value in (({}, mean), ({"weight": 2.0}, mean / 5)):
        penalty = make("penalties", "dragan", **options)
        assert penalty(around_a_point, real, torch.full((2, 2), 1e6), batch=batch).item() == pytest.approx(value)


def test_dragan_takes_the_deviation_of_the_whole_batch():
    """Of item 1 alone, which is a part of the batch above, the penalty is that of item 1."""
    real, seeds, a = (torch.tensor(values) for values in (DRAGAN_REAL, DRAGAN_SEEDS, DRAGAN_A))
    part = Batch(real[:1], torch.zeros(1, 1), 0, GivenNumbers(seeds[:1], a[:1]), whole=lambda: real)
    value = make("penalties", "dragan")(around_a_point, real[:1], real[:1], batch=part)
    assert value.item() == pytest.approx(dragan_by_hand()[0])


def test_the_noise_of_dragan_is_uniform_and_that_of_each_item_by_itself():
    """Of a batch in two parts too, and little is drawn on the host: a seed and a factor for each item."""

    def noise(part, parts):
        points = []
        batch = Batch(real[: 8 // parts], torch.zeros(8 // parts, 1), 0, Rng(0, 0, "d0", part=part, parts=parts),
                      whole=lambda: real)  # fmt: skip
        make("penalties", "dragan")(lambda x: points.append(x) or x.flatten(1).sum(1), batch.real, None, batch=batch)
        return points[0].detach() / (real.std(correction=0) / 2) - batch.real / (real.std(correction=0) / 2)

    real = torch.zeros(8, 3, 64, 64)
    real[:, :, ::2] = 1
    whole = noise(0, 1)
    assert torch.allclose(whole, torch.cat([noise(0, 2), noise(1, 2)]), atol=1e-6)
    factors = Rng(0, 0, "d0")
    factors.randint(2**32, 8)
    uniform = whole / factors.rand(8, 1, 1, 1)
    assert -1e-4 < uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1.0001
    assert torch.allclose(uniform.mean((1, 2, 3)), torch.full((8,), 0.5), atol=0.01)
    assert torch.corrcoef(uniform.flatten(1)).fill_diagonal_(0).abs().max() < 0.05


def test_gp_by_hand():
    """Items at (0, 0) and (8, 0), fakes at (6, 8) and (8, 8): at e = 0.5 and 0.75 the points are (3, 4), of norm 5, and
    (8, 6), of norm 10. The mean of (5 - 1)^2 and (10 - 1)^2 is 48.5, and the weight is 10."""
    real, fake = torch.tensor([[0.0, 0.0], [8.0, 0.0]]), torch.tensor([[6.0, 8.0], [8.0, 8.0]])
    batch = Batch(real, torch.zeros(2, 1), 0, GivenNumbers(torch.tensor([[0.5], [0.75]])))
    assert make("penalties", "gp")(bowl, real, fake, batch=batch).item() == pytest.approx(485.0)
    assert make("penalties", "gp", weight=2.0)(bowl, real, fake, batch=batch).item() == pytest.approx(97.0)


def test_default_weights():
    weights = {name: make("penalties", name).weight for name in ("gp", "r1", "r2", "dragan")}
    assert weights == {"gp": 10.0, "r1": 1.0, "r2": 1.0, "dragan": 10.0}


def test_dragan_stays_near_real_items():
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(64, 2, generator=rng), torch.full((64, 2), 1e6)
    penalty = make("penalties", "dragan", weight=1.0)(bowl, real, fake, batch=batch_of(real))
    near = (real.norm(dim=1) - 1).square().mean().item()
    assert penalty.item() != pytest.approx(near, rel=1e-3)  # perturbed
    assert penalty.item() == pytest.approx(near, rel=1.0)  # but not by much


@pytest.mark.parametrize("name", ["gp", "r1", "r2", "dragan"])
def test_penalty_norm_runs_over_all_dimensions_but_the_first(name):
    """The same numbers as an image and as a vector: a norm over the channels alone would differ."""
    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(5, 3, 2, 2, generator=rng) for _ in range(2))
    penalty = make("penalties", name)
    image = penalty(bowl, real, fake, batch=batch_of(real))
    vector = penalty(bowl, real.flatten(1), fake.flatten(1), batch=batch_of(real))
    if name == "dragan":  # draws a number a value: the same count in another shape
        assert image.item() == pytest.approx(vector.item(), rel=0.2)
    else:
        assert image.item() == pytest.approx(vector.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["gp", "r1", "r2", "dragan"])
def test_penalty_gradient_against_finite_differences(name):
    """The gradient on the critic's weights goes through the gradient on its input: double backward."""
    rng = torch.Generator().manual_seed(3)
    real, fake = (torch.randn(6, 3, dtype=torch.float64, generator=rng) for _ in range(2))
    shapes = [(5, 3), (5,), (1, 5)]
    weights = [torch.randn(*s, dtype=torch.float64, generator=rng).requires_grad_() for s in shapes]

    def penalised(w1, b1, w2):
        def critic(x):
            return (torch.tanh(x @ w1.T + b1) @ w2.T).squeeze(1)

        return make("penalties", name)(critic, real, fake, batch=batch_of(real))

    assert torch.autograd.gradcheck(penalised, weights, atol=1e-4)


def test_penalty_leaves_no_graph_on_its_inputs():
    real, fake = torch.ones(2, 2), torch.ones(2, 2)
    for name in ganzoo.list_penalties():
        make("penalties", name)(bowl, real, fake, batch=batch_of(real))
    assert not real.requires_grad
    assert not fake.requires_grad


# The standard objective.


class Recorder(ganzoo.Loss):
    def discriminator(self, real_logits, fake_logits):
        return fake_logits - real_logits

    def generator(self, fake_logits, real_logits=None):
        return -fake_logits


class Constant(ganzoo.Penalty):
    def __call__(self, d, real, fake, *, batch):
        return d(real).sum() * 0 + self.weight


def test_lazy_penalty_runs_every_k_steps_and_counts_k_fold():
    d = torch.nn.Linear(2, 1)
    penalty = Constant(weight=0.5)
    penalty.every = 4
    objective = ganzoo.Objective(Recorder(), [penalty])
    totals = []
    for step in range(8):
        batch = Batch(torch.ones(3, 2), torch.ones(3, 2), step, Rng(0, step, "d0"))
        total, logs = objective.discriminator_loss(torch.nn.Identity(), d, batch)
        totals.append(round((total - logs["d_loss"]).item(), 5))
    assert totals == [2.0, 0, 0, 0, 2.0, 0, 0, 0]


def test_discriminator_phase_builds_no_graph_through_the_generator():
    g, d = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    batch = Batch(torch.ones(3, 2), torch.ones(3, 2), 0, Rng(0, 0, "d0"))
    total, _ = ganzoo.Objective(Recorder()).discriminator_loss(g, d, batch)
    total.backward()
    assert d.weight.grad is not None
    assert g.weight.grad is None


def test_accuracy_is_the_share_of_pairs_ranked_right():
    batch = Batch(torch.tensor([[1.0], [1.0], [-1.0], [1.0]]), torch.zeros(4, 1), 0, Rng(0, 0, "d0"))
    _, logs = ganzoo.Objective(Recorder()).discriminator_loss(torch.nn.Identity(), torch.nn.Identity(), batch)
    assert logs["accuracy"].item() == 0.75
