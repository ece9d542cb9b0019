"""The perceptual distance that objectives minimise. What it computes: test_translations.py."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from ganzoo import EvaluationError, perceptual_distance
from ganzoo.data.loading import load

NAME = "test_efficientnet"


@pytest.fixture(params=["mnist", "timm"])
def distance(request, workplace):
    if request.param == "mnist":
        return perceptual_distance("mnist")
    torch.manual_seed(0)
    save_file(timm.create_model(NAME).state_dict(), workplace / "weights.safetensors")
    return perceptual_distance(f"timm:{NAME}=weights.safetensors")


def digits(n, start=0):
    return load("digits").items[start : start + n].float() / 127.5 - 1


def test_its_gradient_brings_images_closer(distance):
    target, image = digits(2), nn.Parameter(digits(2, 7) * 0.5)
    before = distance(image, target)
    assert before.shape == (2,)
    before.sum().backward()
    assert not any(p.requires_grad for p in distance.parameters())
    with torch.no_grad():
        moved = image - 0.1 * image.grad / image.grad.abs().max()
        assert (distance(moved, target) < before).all()
        assert distance(target, target).abs().max() < 1e-6


def test_it_is_frozen_and_in_evaluation_mode(distance):
    before = {key: value.clone() for key, value in distance.state_dict().items()}
    first = distance(digits(2), digits(2, 5))
    assert torch.equal(distance(digits(2), digits(2, 5)), first)
    assert not any(module.training for module in distance.features.modules())
    assert all(torch.equal(value, before[key]) for key, value in distance.state_dict().items())


@pytest.mark.parametrize("unknown", ["inception", "none", "mnist=weights.safetensors", "resnet18"])
def test_other_features_are_refused(unknown):
    with pytest.raises(EvaluationError, match=r"takes auto\[=FILE\], timm:NAME\[=FILE\], mnist or none, not '"):
        perceptual_distance(unknown)
