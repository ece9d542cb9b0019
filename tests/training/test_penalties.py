"""What the trainer gives to penalties: D as a function of each item by itself, of the items before augmentation."""

import copy

import pytest
import torch
from torch import nn

import ganzoo
from ganzoo import Batch, Objective, Penalty, Rng
from ganzoo.training.batchnorm import item_by_item
from ganzoo_losses.losses import Hinge, NonSaturating
from ganzoo_losses.penalties import R1, gradient

DOUBLE = torch.float64


class Critic(nn.Module):
    """A D whose hidden layer is normalised over the batch."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before = nn.Linear(4, 6)
        self.norm = norm or nn.BatchNorm1d(6)
        self.after = nn.Linear(6, 1)
        self.double()

    def forward(self, x):
        return self.after(self.norm(self.before(x.flatten(1))).tanh()).squeeze(1)


def items(n=8, seed=1):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def frozen_norm(d, x):
    """A copy of `d` in which the batch statistics of `x` are written into BatchNorm, as constants: computed by hand."""
    twin = copy.deepcopy(d)
    hidden = d.before(x).detach()
    twin.norm.running_mean.copy_(hidden.mean(0))
    twin.norm.running_var.copy_(hidden.var(0, correction=0))
    return twin.eval()


def test_each_item_has_the_gradient_of_its_own_logit():
    d, x = Critic(), items()
    own = gradient(item_by_item(d, d), x)
    frozen = frozen_norm(d, x)
    for i in range(len(x)):  # one item at a time, so that no other can take part
        (alone,) = torch.autograd.functional.jacobian(frozen, x[i : i + 1])
        assert torch.allclose(own[i], alone.squeeze(0), atol=1e-12)
    coupled = gradient(d, x)
    assert not torch.allclose(own, coupled, rtol=0.1)


def test_the_logits_are_those_of_training():
    d, x = Critic(), items()
    before = copy.deepcopy(d.norm.state_dict())
    logits = item_by_item(d, d)(x)
    assert all(torch.equal(value, before[key]) for key, value in d.norm.state_dict().items())
    assert torch.allclose(logits, d(x), atol=1e-12)
    assert type(d.norm).forward is nn.BatchNorm1d.forward
    assert "forward" not in vars(d.norm)


def test_the_penalty_is_a_function_of_the_weights_through_the_statistics_too():
    """Its derivative by a weight, against finite differences; BatchNorm cancels the scale of the layer before it."""
    d, x = Critic(), items()

    def value():
        return gradient(item_by_item(d, d), x).square().sum(1).mean()

    (slope,) = torch.autograd.grad(value(), d.before.weight)
    step = 1e-6
    with torch.no_grad():
        d.before.weight[2, 1] += step
    after = value()
    with torch.no_grad():
        d.before.weight[2, 1] -= 2 * step
    assert slope[2, 1].item() == pytest.approx((after - value()).item() / (2 * step), rel=1e-5)
    with torch.no_grad():
        d.before.weight[2, 1] += step
    (radial,) = torch.autograd.grad(value(), d.before.weight)
    assert (radial * d.before.weight).sum().abs() < 1e-3 * radial.norm() * d.before.weight.norm()


@pytest.mark.parametrize("norm", [nn.Identity(), nn.LayerNorm(6)])
def test_without_batchnorm_d_is_called_once(norm):
    d = Critic(norm)
    assert item_by_item(d, d) is d


def test_a_batchnorm_in_evaluation_or_with_a_forward_of_its_own_is_left_alone():
    class Own(nn.BatchNorm1d):
        def forward(self, x):
            return super().forward(x)

    for d in (Critic(Own(6)), Critic().eval()):
        assert item_by_item(d, d) is d


# Augmentation


class Recorder(Penalty):
    """Keeps what it is given, and the gradient of D at the real items."""

    def __call__(self, d, real, fake, *, batch):
        self.real, self.fake = real, fake
        self.logits = [d(real) for _ in range(2)]
        self.gradient = gradient(d, real)
        return self.weight * self.gradient.square().sum()


def images(n=4, seed=0):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Generator(nn.Module):
    def forward(self, z):
        return z.reshape(-1, 1, 8, 8)


def discriminate(penalty, augment, pack=1):
    torch.manual_seed(3)
    d = nn.Sequential(nn.Flatten(), nn.Linear(pack * 64, 1), nn.Flatten(0))
    objective = Objective(Hinge(), [penalty], pack=pack, augment=augment)
    batch = Batch(images(), images(seed=1).flatten(1), 0, Rng(0, 0, "d0"))
    total, logs = objective.discriminator_loss(Generator(), d, batch)
    return d, batch, total, logs


def test_penalties_see_the_items_before_augmentation():
    penalty = Recorder()
    d, batch, _, _ = discriminate(penalty, ["translation"])
    assert torch.equal(penalty.real, batch.real)
    assert torch.equal(penalty.fake, batch.fakes)
    assert torch.equal(*penalty.logits)  # D is one function of the items, however often it is called
    assert not torch.allclose(penalty.logits[0], d(batch.real))


def test_the_gradient_goes_through_the_augmentation():
    """Cutout hides half of the side: D's gradient there is 0, and elsewhere that of a linear D, its weights."""
    penalty = Recorder()
    d, _, _, _ = discriminate(penalty, ["cutout"])
    weights = d[1].weight.view(1, 8, 8).expand(4, 1, 8, 8)
    hidden = penalty.gradient == 0
    assert 0 < hidden.sum() < hidden.numel()
    assert torch.equal(penalty.gradient[~hidden], weights[~hidden])


def test_the_contrast_scales_the_gradient():
    """Of the colour policies, contrast multiplies deviations from the mean by 0.5 to 1.5, so the gradient too."""
    plain, changed = Recorder(), Recorder()
    discriminate(plain, [])
    discriminate(changed, ["color"])
    deviation = [p.gradient - p.gradient.mean((1, 2, 3), keepdim=True) for p in (plain, changed)]
    factors = (deviation[1] / deviation[0]).flatten(1)
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-3)
    assert ((factors > 0.49) & (factors < 1.51)).all()
    assert factors[:, 0].unique().numel() == 4


def test_packs_are_augmented_image_by_image():
    penalty = Recorder()
    _, batch, _, _ = discriminate(penalty, ["cutout"], pack=2)
    assert penalty.real.shape == (2, 2, 8, 8)
    assert torch.equal(penalty.real.reshape(4, 1, 8, 8), batch.real)
    holes = (penalty.gradient == 0).reshape(4, -1)
    assert len({tuple(hole.tolist()) for hole in holes}) == 4


def test_r1_of_a_training_is_that_of_the_formula():
    """dcgan's D with BatchNorm under r1: the logged value, against one item at a time with the batch's statistics."""
    torch.manual_seed(0)
    _, d = ganzoo.create("dcgan", image_size=8, width=4, channels=1)
    objective = Objective(NonSaturating(), [R1(2.0)])
    batch = Batch(images(6), images(6, 1).flatten(1), 0, Rng(0, 0, "d0"))
    _, logs = objective.discriminator_loss(Generator(), d, batch)
    twin = copy.deepcopy(d).eval()
    hidden = batch.real
    with torch.no_grad():
        for layer, own in zip(d.layers, twin.layers, strict=True):
            if isinstance(layer, nn.BatchNorm2d):
                own.running_mean.copy_(hidden.mean((0, 2, 3)))
                own.running_var.copy_(hidden.var((0, 2, 3), correction=0))
            hidden = own(hidden.clone())
    squares = []
    for i in range(6):
        x = batch.real[i : i + 1].clone().requires_grad_()
        (slope,) = torch.autograd.grad(twin(x).sum(), x)
        squares.append(slope.square().sum())
    assert logs["r1"].item() == pytest.approx(torch.stack(squares).mean().item(), rel=1e-4)  # weight 2, halved
