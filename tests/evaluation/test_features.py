"""Whose features are compared: the default, weights from a file and where they are kept, and weights out of reach."""

import logging

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import ganzoo
from ganzoo import Data, EvaluationError, Evaluator
from ganzoo.data.loading import load
from ganzoo.evaluation import features
from ganzoo.evaluation.features import GENERAL, choose_features
from ganzoo.files import weights_hash
from ganzoo.training.distributed import World
from ganzoo.training.recorder import make_evaluator

PHOTOS = Data(torch.randint(256, (12, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte())


@pytest.fixture
def general_file(tmp_path):
    """Random weights of the general features, with the head that classifies."""
    torch.manual_seed(0)
    path = tmp_path / "general.safetensors"
    save_file(timm.create_model(GENERAL).state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["digits", "mnist", "qmnist", "stacked_mnist"])
def test_the_digits_of_mnist_have_features_of_their_own(name):
    for features_ in (None, "auto", "auto=weights.safetensors"):
        assert choose_features(features_, name) == "mnist"
    assert choose_features("inception", name) == "inception"


@pytest.mark.parametrize("data", ["fashion_mnist", "kmnist", "usps", "photos/", "digits.zip", "hf:ORG/NAME", PHOTOS])
def test_everything_else_has_general_ones(data):
    assert choose_features(None, data) == f"timm:{GENERAL}"
    assert choose_features("auto=weights.safetensors", data) == f"timm:{GENERAL}=weights.safetensors"
    assert choose_features("mnist", data) == "mnist"


def test_data_registered_with_features_is_measured_by_them():
    """Also in training, where options of the data leave only the images."""
    config = ganzoo.TrainConfig("dcgan", eval_every=1, eval_samples=20)
    data = Data(load("digits").items[:50])
    evaluator = make_evaluator(config.replace(data_options={"n": 50}), data, torch.device("cpu"), World())
    assert evaluator.extractor.name == "mnist"


def test_weights_from_a_file_are_kept_for_later(general_file, tmp_path, caplog):
    caplog.set_level(logging.INFO, "ganzoo")
    first = Evaluator(PHOTOS, features=f"auto={general_file}", metrics=["prdc"], n=12, use_cache=False)
    kept = tmp_path / ".cache" / "features" / f"{GENERAL}.safetensors"
    assert f"a copy of {general_file} is kept in {kept}" in caplog.text
    general_file.unlink()
    again = Evaluator(PHOTOS, metrics=["prdc"], n=12, use_cache=False)
    assert f"by the weights in {kept}" in caplog.text
    assert again.protocol["features"]["sha256"] == first.protocol["features"]["sha256"]
    assert torch.equal(again._reference["features"], first._reference["features"])

    other = tmp_path / "other.safetensors"  # another file takes the place of the first one
    save_file({name: tensor + 1 for name, tensor in load_file(kept).items()}, other)
    changed = weights_hash(features.extractor(f"timm:{GENERAL}={other}"))
    assert changed != first.protocol["features"]["sha256"]
    assert weights_hash(features.extractor(f"timm:{GENERAL}")) == changed

    kept.write_bytes(b"damaged")
    with pytest.raises(EvaluationError, match=rf"{kept} cannot be read .*--features timm:{GENERAL}=FILE"):
        features.extractor(f"timm:{GENERAL}")
    features.extractor(f"timm:{GENERAL}={other}")
    assert weights_hash(features.extractor(f"timm:{GENERAL}")) == changed


def test_only_what_fits_is_kept(general_file, tmp_path):
    save_file({"stranger": torch.zeros(1)}, general_file)
    with pytest.raises(EvaluationError, match="does not hold the weights"):
        features.extractor(f"timm:{GENERAL}={general_file}")
    assert not (tmp_path / ".cache" / "features").exists()


def test_weights_that_cannot_be_kept_can_be_used(general_file, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file"))
    features.extractor(f"timm:{GENERAL}={general_file}")
    assert "later measurements need" in caplog.text


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = (
        rf"weights of {GENERAL} cannot be fetched: .*\. Download model.safetensors from "
        rf"https://huggingface.co/timm/{GENERAL}.in1k .*--features auto=FILE .*--features mnist"
    )
    with pytest.raises(EvaluationError, match=message):
        Evaluator(PHOTOS, metrics=["prdc"], n=12)


def test_chunks_change_nothing(general_file, monkeypatch):
    extractor = features.extractor(f"timm:{GENERAL}={general_file}")
    sizes = []
    extractor.net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        rows, _ = extractor(PHOTOS.items)
        monkeypatch.setattr(features, "CHUNK", 100)
        together, _ = extractor(PHOTOS.items)
    assert sizes == [4, 4, 4, 12]
    torch.testing.assert_close(rows, together, rtol=1e-4, atol=1e-4)
