"""A plugin as somebody outside the project wrote it for version 0.1.0, by what its README and docstrings said. It must
go on working without a change: nothing in this file follows a later version."""

import dataclasses

import torch
from torch import nn

import ganzoo
from ganzoo import Batch, Data, Loss, Objective, Penalty, hookimpl


class Generator(nn.Module):
    def __init__(self, z_dim=8, image_size=14, channels=1, width=8, num_classes=None):
        super().__init__()
        if image_size % 2:
            raise ganzoo.ConfigError(f"stranger makes images of an even size, not {image_size}")
        self.z_dim, self.shape = z_dim, (channels, image_size, image_size)
        self.embed = None if num_classes is None else nn.Embedding(num_classes, z_dim)
        self.layers = nn.Sequential(
            nn.Linear(z_dim if num_classes is None else 2 * z_dim, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, channels * image_size**2), nn.Tanh(),
        )  # fmt: skip
        self.encoder = nn.Linear(channels * image_size**2, z_dim)

    def draw_latent(self, n, rng):
        return rng.randn(n, self.z_dim) * 0.5 + rng.rand(n, 1)

    def along(self, z, turn):
        return z.roll(round(turn * self.z_dim), 1)

    def encode(self, images):
        return self.encoder(images.flatten(1))

    def forward(self, z, labels=None):
        if self.embed is not None:
            z = torch.cat([z, self.embed(labels)], 1)
        return self.layers(z).unflatten(1, self.shape)


class Discriminator(nn.Module):
    def __init__(self, image_size=14, channels=1, width=16, num_classes=None):
        super().__init__()
        self.stored = {"width": width}
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, width), nn.LeakyReLU(0.2))
        self.score = nn.Linear(width, 1)
        self.embed = None if num_classes is None else nn.Embedding(num_classes, width)
        self.prepared = False

    def prepare(self):
        self.prepared = True

    def forward(self, images, labels=None):
        features = self.features(images)
        logits = self.score(features).squeeze(1)
        return logits if self.embed is None else logits + (features * self.embed(labels)).sum(1)


class Halves(Objective, nn.Module):
    """Every second fake is a reconstruction, as in the VAE/GAN that version 0.1.0 brought, and a scale is learned."""

    def __init__(self, loss, penalties=(), pack=1, augment=(), beta=0.5):
        nn.Module.__init__(self)
        Objective.__init__(self, loss, penalties, pack, augment)
        self.beta = beta
        self.scale = nn.Parameter(torch.ones(()))

    def _mixed(self, g, batch: Batch, *, graph):
        samples = batch.fake(g, graph=graph)
        with torch.set_grad_enabled(graph):
            rebuilt = g(g.encode(batch.real) + 0.1 * batch.rng.randn(*batch.z.shape), batch.fake_labels)
        odd = torch.arange(len(samples)) % 2 == 1
        return dataclasses.replace(batch, made=torch.where(odd[:, None, None, None], rebuilt, samples))

    def discriminator_loss(self, g, d, batch):
        value, logs = super().discriminator_loss(g, d, self._mixed(g, batch, graph=False))
        return value, {**logs, "real_mean": batch.whole_real().mean(), "prepared": torch.tensor(float(d.prepared))}

    def generator_loss(self, g, d, batch):
        mixed = self._mixed(g, batch, graph=True)
        value, logs = super().generator_loss(g, d, mixed)
        logits = batch.judge(d)(self.shown(mixed.fake(g), batch))
        total = value + self.beta * (self.scale - logits.mean()).square() + 0.0 * batch.step
        return total, {**logs, "scale": self.scale.detach(), "label": batch.labels.float().mean()}


class Relative(Loss):
    needs_real = True

    def __init__(self, margin=0.25, penalized=False):
        self.margin = margin / 2 if penalized else margin

    def discriminator(self, real_logits, fake_logits):
        return nn.functional.softplus(fake_logits - real_logits + self.margin)

    def generator(self, fake_logits, real_logits=None):
        return nn.functional.softplus(real_logits - fake_logits)

    def after_discriminator_step(self, d):
        with torch.no_grad():
            for parameter in d.parameters():
                parameter.clamp_(-0.5, 0.5)


class Slope(Penalty):
    """The squared gradient of D between the real and the fake items."""

    weight = 0.3

    def __call__(self, d, real, fake, *, batch):
        share = batch.rng.rand(len(real), *[1] * (real.dim() - 1))
        x = (share * real + (1 - share) * fake).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
        return self.weight * gradient.flatten(1).square().sum(1).mean()


def bars(n=96, image_size=None, channels=None):
    across = torch.arange(n)[:, None] + torch.arange(14)
    rows = (across // 2 % 2 * 255).byte()
    return Data(rows[:, None, None, :].repeat(1, 1, 14, 1), labels=torch.arange(n) % 2)


def colour_bars(n=64):
    """Three channels, each a grey picture of `bars`."""
    table = torch.stack([torch.arange(n), torch.arange(n).flip(0), torch.arange(n).roll(1)], 1)
    return Data(ganzoo.Composed(bars(n).items, table))


@hookimpl
def register_architectures(register):
    register(
        "stranger",
        generator=Generator,
        discriminator="stranger_plugin:Discriminator",
        loss="relative",
        objective=Halves,
        recipes={"default": {"steps": 6, "batch_size": 16}, "long": {"steps": 60}},
        summary="perceptrons that encode too",
        paper="Doe 2030, Halves, https://example.org/halves",
    )
    register("plain", generator=Generator, discriminator=Discriminator)


@hookimpl
def register_losses(register):
    register("relative", Relative, summary="the difference of the logits", paper="")


@hookimpl
def register_penalties(register):
    register("slope", Slope, summary="a flat discriminator", paper="")


@hookimpl
def register_data(register):
    register("bars", bars, summary="upright bars", license="CC0-1.0")
    register("colour_bars", colour_bars, summary="bars of three colours", license="CC0-1.0")
