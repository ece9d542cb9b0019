"""Loaders behind the names. Each takes `data_dir` and its own options and gives a `ganzoo.Data`."""

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ganzoo import Composed, Data, DataError, Rng

Split = Literal["train", "test"]


def digits() -> Data:
    """The first 10,000 images and labels of MNIST's training set; see ATTRIBUTION.md beside this file."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return Data(file["images"][:, None], file["labels"])


def _torchvision(class_name: str, data_dir: str = "data", split: Split = "train") -> Data:
    """A torchvision data set from `data_dir`, downloaded there if it is not there yet.

    Raises:
        DataError: neither found nor downloadable.
    """
    import torchvision.datasets

    if split not in ("train", "test"):
        raise DataError(f"data.split must be train or test, not {split!r}")
    dataset = getattr(torchvision.datasets, class_name)
    part = {"split": split} if class_name in ("SVHN", "STL10") else {"train": split == "train"}
    try:
        try:
            found = dataset(data_dir, download=False, **part)
        except RuntimeError:  # torchvision's way to say that the files are not there
            found = dataset(data_dir, download=True, **part)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{class_name} is not in {data_dir!r} and cannot be downloaded: {str(error).strip()}. "
            f"Put torchvision's files there, or name their folder with --data-dir"
        ) from error
    images = np.asarray(found.data)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)
    labels = np.asarray(found.labels if hasattr(found, "labels") else found.targets)
    if labels.ndim == 2:  # QMNIST: the class is the first of eight columns
        labels = labels[:, 0]
    return Data(np.ascontiguousarray(images), labels)


def stacked_mnist(data_dir: str = "data", split: Split = "train", n: int = 128_000) -> Data:
    """Stacked MNIST (Metz et al. 2016; as many triples as PacGAN's authors use): three random digits as the channels of
    one image. They are drawn by counter and put together when a batch asks for them.

    Raises:
        DataError: MNIST is neither found nor downloadable.
    """
    digits = mnist(data_dir, split)
    if n < 1:
        raise DataError(f"data.n must be at least 1, not {n}")
    table = Rng(0, 0, f"stacked_mnist/{split}").randint(len(digits.items), n, 3)
    labels = (digits.labels[table] * torch.tensor([100, 10, 1])).sum(1)
    return Data(Composed(digits.items, table), labels)


mnist = partial(_torchvision, "MNIST")
fashion_mnist = partial(_torchvision, "FashionMNIST")
kmnist = partial(_torchvision, "KMNIST")
qmnist = partial(_torchvision, "QMNIST")
usps = partial(_torchvision, "USPS")
cifar10 = partial(_torchvision, "CIFAR10")
cifar100 = partial(_torchvision, "CIFAR100")
svhn = partial(_torchvision, "SVHN")
stl10 = partial(_torchvision, "STL10")
