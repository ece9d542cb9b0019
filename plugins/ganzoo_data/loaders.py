"""The loaders of the registered data sets. Each returns a `ganzoo.Data`; most take a `data_dir` and options."""

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ganzoo import Composed, Data, DataError, Rng

Split = Literal["train", "test"]

DIGITS = list("0123456789")
"""The names of classes that are digits: torchvision's, such as "0 - zero", are not what anyone would type."""


def digits() -> Data:
    """The first 10,000 images and labels of MNIST's training set; see ATTRIBUTION.md beside this file."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return Data(file["images"][:, None], file["labels"], classes=DIGITS)


def _torchvision(class_name: str, data_dir: str = "data", split: Split = "train") -> Data:
    """A data set of torchvision from `data_dir`, downloaded to it first if it is missing.

    Raises:
        DataError: it is missing and cannot be downloaded, or there is no such split.
    """
    import torchvision.datasets  # type: ignore[import-untyped]

    if split not in ("train", "test"):
        raise DataError(f"data.split must be train or test, not {split!r}")
    dataset = getattr(torchvision.datasets, class_name)
    part = {"split": split} if class_name in ("SVHN", "STL10") else {"train": split == "train"}
    try:
        try:
            source = dataset(data_dir, download=False, **part)
        except RuntimeError:  # what torchvision raises when the files are missing
            source = dataset(data_dir, download=True, **part)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{class_name} is not in {data_dir!r} and cannot be downloaded: {str(error).strip()}. "
            f"Put torchvision's files into that folder, or name another one with --data-dir"
        ) from error
    images = np.asarray(source.data)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)
    labels = torch.as_tensor(source.labels if hasattr(source, "labels") else source.targets)
    if labels.dim() == 2:  # in QMNIST the class is the first of eight columns
        labels = labels[:, 0]
    classes = DIGITS if class_name in ("MNIST", "QMNIST", "USPS", "SVHN") else getattr(source, "classes", None)
    return Data(torch.as_tensor(np.ascontiguousarray(images)), labels, classes=classes)


def stacked_mnist(data_dir: str = "data", split: Split = "train", n: int = 128_000) -> Data:
    """Stacked MNIST (Metz et al. 2016, with as many images as in PacGAN): three random digits are the channels of one
    image. The images are composed when a batch needs them.

    Args:
        n: number of images.

    Raises:
        DataError: MNIST is missing and cannot be downloaded, or a setting is out of range.
    """
    digits = mnist(data_dir, split)
    if n < 1:
        raise DataError(f"data.n must be at least 1, not {n}")
    images, classes = torch.as_tensor(digits.items), torch.as_tensor(digits.labels)
    table = Rng(0, 0, f"stacked_mnist/{split}").randint(len(images), n, 3)
    return Data(Composed(images, table), (classes[table] * torch.tensor([100, 10, 1])).sum(1))


mnist = partial(_torchvision, "MNIST")
fashion_mnist = partial(_torchvision, "FashionMNIST")
kmnist = partial(_torchvision, "KMNIST")
qmnist = partial(_torchvision, "QMNIST")
usps = partial(_torchvision, "USPS")
cifar10 = partial(_torchvision, "CIFAR10")
cifar100 = partial(_torchvision, "CIFAR100")
svhn = partial(_torchvision, "SVHN")
stl10 = partial(_torchvision, "STL10")
