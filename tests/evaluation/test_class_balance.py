"""A conditional generator is measured with the classes of the data, not with each as often as the next."""

import pytest
import torch
from torch import nn

import ganzoo
from ganzoo import Data, Evaluator
from ganzoo.data.loading import load

DIGITS = load("digits")


class Copies(nn.Module):
    """A conditional generator without fault: real digits of the class that is asked for, chosen by the latent."""

    def __init__(self, num_classes=2):
        super().__init__()
        self.config = {"z_dim": 1, "num_classes": num_classes}
        self.classes = [DIGITS.items[DIGITS.labels == k] for k in range(num_classes)]

    def forward(self, z, labels):
        rows = [self.classes[k] for k in labels.tolist()]
        places = (z[:, 0].sigmoid() * 0.999).tolist()
        images = torch.stack([row[int(place * len(row))] for row, place in zip(rows, places, strict=True)])
        return images.float() / 127.5 - 1


def unbalanced(ones):
    """Many zeros and few ones: the share of ones is 1 in 10."""
    zeros = DIGITS.items[DIGITS.labels == 0][: 9 * ones]
    items = torch.cat([zeros, DIGITS.items[DIGITS.labels == 1][:ones]])
    return Data(items, torch.tensor([0] * len(zeros) + [1] * ones))


def measure(data, g, n=400):
    return Evaluator(data, features="mnist", metrics=["fid"], n=n, use_cache=False)(g)


def test_classes_are_drawn_as_the_data_has_them():
    data = unbalanced(60)
    with_labels = measure(data, Copies())
    without = measure(Data(data.items), Copies())
    assert with_labels.protocol["generated"]["classes"] == "as in the data"
    assert without.protocol["generated"]["classes"] == "in turn"
    assert with_labels.values["fid"] < without.values["fid"] / 10


def test_their_shares():
    evaluator = Evaluator(unbalanced(60), features="mnist", metrics=["fid"], n=1000, use_cache=False)
    classes = evaluator._classes(Copies())
    assert classes.bincount()[1].item() == pytest.approx(100, abs=30)  # three standard deviations
    assert torch.equal(classes, evaluator._classes(Copies()))
    other_seed = Evaluator(unbalanced(60), features="mnist", metrics=["fid"], n=1000, seed=1, use_cache=False)
    assert not torch.equal(classes, other_seed._classes(Copies()))


def test_other_classes_than_the_datas_come_in_turn():
    evaluator = Evaluator(unbalanced(60), features="mnist", metrics=["fid"], n=50, use_cache=False)
    assert evaluator._classes(Copies(3)) is None


def test_an_unconditional_generator_has_no_classes_in_its_protocol():
    g = ganzoo.create("vanilla", generator={"hidden": 4})[0]
    assert "classes" not in measure(unbalanced(60), g, n=100).protocol["generated"]
