"""The loops that everyone copies, written out: what `run.py` measures ganzoo against.

They do what PyTorch's DCGAN tutorial and the most copied collections of GAN scripts do: a DataLoader over PIL images
that are transformed one by one in this process (`num_workers=0`, as MNIST scripts have it), plain layers and optimizers
in fp32, one batch of fakes with a graph that the discriminator gets detached, a discriminator whose weight gradients
are computed in the generator's step too, and both losses read with `.item()` every step. Nothing here imports ganzoo.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms  # type: ignore[import-untyped]

Z_DIM = 100
Networks = tuple[nn.Module, nn.Module]
OnStep = Callable[[int], None]
"""Called with the number of real images that D saw in the step."""


# Data.
def digits() -> np.ndarray:
    """The images that ganzoo ships, uint8 (10000, 28, 28)."""
    package = find_spec("ganzoo_data")
    if package is None or package.origin is None:
        raise SystemExit("the package ganzoo_data is not installed: pip install -e .")
    with np.load(Path(package.origin).with_name("digits.npz")) as file:
        return file["images"]


class Digits(Dataset):
    """As torchvision.datasets.MNIST: an array in memory, each image made a PIL one and transformed when asked for."""

    def __init__(self) -> None:
        self.data = torch.from_numpy(digits())
        self.transform = transforms.Compose(
            [transforms.Resize(28), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
        )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index].numpy())), 0


class Photos(Dataset):
    """As torchvision.datasets.ImageFolder, but with the files read and decoded already: colour images of 64x64."""

    def __init__(self) -> None:
        self.images = [Image.fromarray(image).resize((64, 64)).convert("RGB") for image in digits()]
        self.transform = transforms.Compose(
            [
                transforms.Resize(64),
                transforms.CenterCrop(64),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), 0


# Networks. A critic is a discriminator without the sigmoid.
def weights_init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def mlp(critic: bool = False) -> Networks:
    g = nn.Sequential(
        nn.Linear(Z_DIM, 128), nn.BatchNorm1d(128), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(128, 256), nn.BatchNorm1d(256), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(256, 512), nn.BatchNorm1d(512), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(512, 1024), nn.BatchNorm1d(1024), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(1024, 28 * 28), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)),
    )  # fmt: skip
    d = nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 512), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(512, 256), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(256, 1),
    )  # fmt: skip
    return g, d if critic else d.append(nn.Sigmoid())


def dcgan28(critic: bool = False) -> Networks:
    g = nn.Sequential(
        nn.Unflatten(1, (Z_DIM, 1, 1)),
        nn.ConvTranspose2d(Z_DIM, 128, 7, 1, 0, bias=False), nn.BatchNorm2d(128), nn.ReLU(True),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(True),
        nn.ConvTranspose2d(64, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    d = nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(128, 1, 7, 1, 0, bias=False), nn.Flatten(),
    )  # fmt: skip
    return g.apply(weights_init), (d if critic else d.append(nn.Sigmoid())).apply(weights_init)


def dcgan64(critic: bool = False) -> Networks:
    g = nn.Sequential(
        nn.Unflatten(1, (Z_DIM, 1, 1)),
        nn.ConvTranspose2d(Z_DIM, 512, 4, 1, 0, bias=False), nn.BatchNorm2d(512), nn.ReLU(True),
        nn.ConvTranspose2d(512, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(True),
        nn.ConvTranspose2d(256, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(True),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(True),
        nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    d = nn.Sequential(
        nn.Conv2d(3, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(128, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(256, 512, 4, 2, 1, bias=False), nn.BatchNorm2d(512), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(512, 1, 4, 1, 0, bias=False), nn.Flatten(),
    )  # fmt: skip
    return g.apply(weights_init), (d if critic else d.append(nn.Sigmoid())).apply(weights_init)


# Loops.
def epochs(dataset: Dataset, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    while True:
        for images, _ in loader:
            yield images.to(device)


def gan(networks: Networks, dataset: Dataset, batch_size: int, device: torch.device, on_step: OnStep) -> None:
    generator, discriminator = (network.to(device) for network in networks)
    criterion = nn.BCELoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    losses_g, losses_d = [], []
    for real in epochs(dataset, batch_size, device):
        ones = torch.ones(real.size(0), 1, device=device)
        zeros = torch.zeros(real.size(0), 1, device=device)

        # Train the discriminator.
        optimizer_d.zero_grad()
        loss_real = criterion(discriminator(real), ones)
        loss_real.backward()
        fake = generator(torch.randn(real.size(0), Z_DIM, device=device))
        loss_fake = criterion(discriminator(fake.detach()), zeros)
        loss_fake.backward()
        optimizer_d.step()

        # Train the generator.
        optimizer_g.zero_grad()
        loss_g = criterion(discriminator(fake), ones)
        loss_g.backward()
        optimizer_g.step()

        losses_d.append((loss_real + loss_fake).item())
        losses_g.append(loss_g.item())
        on_step(real.size(0))


def wgan(networks: Networks, dataset: Dataset, batch_size: int, device: torch.device, on_step: OnStep) -> None:
    generator, critic = (network.to(device) for network in networks)
    optimizer_g = torch.optim.RMSprop(generator.parameters(), lr=5e-5)
    optimizer_d = torch.optim.RMSprop(critic.parameters(), lr=5e-5)
    losses_g, losses_d, seen = [], [], 0
    for i, real in enumerate(epochs(dataset, batch_size, device)):
        seen += real.size(0)

        # Train the critic.
        optimizer_d.zero_grad()
        z = torch.randn(real.size(0), Z_DIM, device=device)
        fake = generator(z).detach()
        loss_d = -torch.mean(critic(real)) + torch.mean(critic(fake))
        loss_d.backward()
        optimizer_d.step()
        for p in critic.parameters():
            p.data.clamp_(-0.01, 0.01)

        # Train the generator every fifth time.
        if i % 5 == 4:
            optimizer_g.zero_grad()
            loss_g = -torch.mean(critic(generator(z)))
            loss_g.backward()
            optimizer_g.step()

            losses_d.append(loss_d.item())
            losses_g.append(loss_g.item())
            on_step(seen)
            seen = 0


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    alpha = torch.rand(real.size(0), 1, 1, 1, device=real.device)
    between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
    scores = critic(between)
    gradients = torch.autograd.grad(
        outputs=scores,
        inputs=between,
        grad_outputs=torch.ones_like(scores),
        create_graph=True,
        retain_graph=True,
        only_inputs=True,
    )[0]
    gradients = gradients.view(gradients.size(0), -1)
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean()


def wgan_gp(networks: Networks, dataset: Dataset, batch_size: int, device: torch.device, on_step: OnStep) -> None:
    generator, critic = (network.to(device) for network in networks)
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.999))
    losses_g, losses_d, seen = [], [], 0
    for i, real in enumerate(epochs(dataset, batch_size, device)):
        seen += real.size(0)

        # Train the critic.
        optimizer_d.zero_grad()
        z = torch.randn(real.size(0), Z_DIM, device=device)
        fake = generator(z).detach()
        penalty = gradient_penalty(critic, real, fake)
        loss_d = -torch.mean(critic(real)) + torch.mean(critic(fake)) + 10 * penalty
        loss_d.backward()
        optimizer_d.step()

        # Train the generator every fifth time.
        if i % 5 == 4:
            optimizer_g.zero_grad()
            loss_g = -torch.mean(critic(generator(z)))
            loss_g.backward()
            optimizer_g.step()

            losses_d.append(loss_d.item())
            losses_g.append(loss_g.item())
            on_step(seen)
            seen = 0
