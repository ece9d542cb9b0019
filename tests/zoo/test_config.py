"""Precedence, types and ranges of the training configuration; the torch-free zoo."""

import pytest

import ganzoo
from ganzoo import ConfigError, TrainConfig, UnknownNameError
from ganzoo.zoo.command import parse_assignment
from ganzoo.zoo.config import PenaltySpec, merge, read_file
from ganzoo.zoo.networks import build


def test_precedence():
    assert TrainConfig("tiny").lr == 2e-4
    assert TrainConfig("tiny", recipe="slow").lr == 1e-5
    assert TrainConfig("tiny", recipe="slow", lr=0.5).lr == 0.5
    assert TrainConfig("wgan").loss == "wasserstein"
    assert TrainConfig("wgan", loss="hinge").loss == "hinge"


def test_dictionaries_merge_key_by_key():
    values = {"generator": {"width": 1, "z_dim": 2}}
    merge(values, {"generator": {"width": 3}, "generator.norm": True}, "test")
    assert values == {"generator": {"width": 3, "z_dim": 2, "norm": True}}


def test_options_of_a_loss_do_not_outlive_it():
    values = {"loss": "wasserstein", "loss_options": {"clip": 1}}
    merge(values, {"loss": "hinge"}, "test")
    assert "loss_options" not in values


def test_round_trip():
    config = TrainConfig("tiny", steps=7, penalties=["r1=1@4"], betas=(0.0, 0.9), generator={"width": 8})
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert config.replace(steps=9).steps == 9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stps": 3}, "did you mean 'steps'"),
        ({"steps": 0}, "at least 1"),
        ({"steps": -5}, "at least 1"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"steps": "many"}, "whole number"),
        ({"batch_size": 0}, "at least 1"),
        ({"lr": 0}, "above 0"),
        ({"lr": -1e-3}, "above 0"),
        ({"lr": float("nan")}, "finite"),
        ({"lr": float("inf")}, "finite"),
        ({"n_critic": 0}, "at least 1"),
        ({"ema_decay": 1.0}, "below 1"),
        ({"betas": [0.5]}, "two numbers"),
        ({"betas": [0.5, 1.0]}, "two numbers"),
        ({"betas": ["a", 0.1]}, "each of betas"),
        ({"optimizer": "adan"}, "one of adam"),
        ({"precision": "fp8"}, "one of auto"),
        ({"generator": 3}, "object"),
        ({"recipe": "papr"}, "no recipe 'papr'"),
        ({"penalties": ["r1=x"]}, "NAME"),
        ({"networks.width": 3}, "no setting 'networks.width'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig("tiny", **settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainConfig("dcgn"), "did you mean 'dcgan'"),
        (lambda: TrainConfig("dcgan", loss="hing"), "did you mean 'hinge'"),
        (lambda: TrainConfig("dcgan", penalties=["r3"]), "no penalty is called 'r3'"),
        (lambda: ganzoo.create("vanila"), "did you mean 'vanilla'"),
    ],
)
def test_misspelt_names_are_answered_with_the_nearest(make, message):
    with pytest.raises(UnknownNameError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("gp", PenaltySpec("gp", None, 1)),
        ("r1=0.5", PenaltySpec("r1", 0.5, 1)),
        ("r1=1@4", PenaltySpec("r1", 1.0, 4)),
        ("r1@8", PenaltySpec("r1", None, 8)),
    ],
)
def test_penalty_spec(text, spec):
    assert PenaltySpec.parse(text) == spec


@pytest.mark.parametrize(
    "text", ["", "=1", "r1=", "r1=a", "r1=1@", "r1=1@0", "r1=1@x", "r1=-1", "r1=nan", "r1=inf", "r1@"]
)
def test_bad_penalty_spec(text):
    with pytest.raises(ConfigError, match="NAME"):
        PenaltySpec.parse(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("n_critic=5", ("n_critic", 5)),
        ("lr=3e-4", ("lr", 3e-4)),
        ("generator.hidden=128,256", ("generator.hidden", [128, 256])),
        ("generator.hidden=[128]", ("generator.hidden", [128])),
        ("generator.output=sigmoid", ("generator.output", "sigmoid")),
        ("loss.clip=none", ("loss.clip", None)),
        ("flip=true", ("flip", True)),
        ("data_dir=/a=b,c", ("data_dir", "/a=b,c")),
    ],
)
def test_assignment(text, pair):
    assert parse_assignment(text) == pair


@pytest.mark.parametrize("text", ["n_critic", "=5", ""])
def test_bad_assignment(text):
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_assignment(text)


@pytest.mark.parametrize(("content", "message"), [("[1]", "JSON object"), ("{", "not JSON"), (None, "cannot be read")])
def test_bad_file(tmp_path, content, message):
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_file(path)


def test_create_hands_out_what_each_network_takes():
    g, d = ganzoo.create("dcgan", image_size=32, channels=1, z_dim=7, discriminator={"width": 8})
    assert g.config == {
        "z_dim": 7, "image_size": 32, "channels": 1, "width": 64, "hidden": 0, "skip": False,
        "modulated": False, "fine": 0, "palette": 0, "affine": False, "num_classes": None,
    }  # fmt: skip
    assert d.config == {
        "image_size": 32, "channels": 1, "width": 8, "norm": "batch", "hidden": 0, "num_classes": None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_sise": 32}, "did you mean 'image_size'"),
        ({"generator": {"widht": 3}}, "did you mean 'width'"),
        ({"generator": {"width": -1}}, "cannot be built"),
        ({"generator": {"width": "wide"}}, "width of the generator of dcgan must be a whole number, not 'wide'"),
        ({"generator": {"width": 3.5}}, "must be a whole number, not 3.5"),
        ({"generator": {"width": True}}, "must be a whole number, not True"),
        ({"width": "wide"}, "width of the generator of dcgan must be a whole number, not 'wide'"),
        ({"num_classes": "ten"}, "must be a whole number or none, not 'ten'"),
        ({"generator": {"num_classes": "ten"}}, "must be a whole number or none, not 'ten'"),
        ({"generator": {"modulated": 1}}, "must be true or false, not 1"),
        ({"image_size": 33}, "nearest is --image-size 32"),
    ],
)
def test_create_refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        ganzoo.create("dcgan", **settings)


def test_settings_are_checked_by_the_signature_where_it_names_bools_and_numbers():
    def target(share: float = 0.5, count: "int | None" = None, any_size=3, sizes: str | int = "s"):
        return share, count, any_size, sizes

    taken = {"share": 1.5, "count": 4, "any_size": "large", "sizes": 2.5}
    assert build(target, {}, taken, "the target") == (tuple(taken.values()), taken)
    assert build(target, {}, {"share": 1}, "the target")[1]["share"] == 1
    for setting, value in {"share": "half", "count": 1.5}.items():
        with pytest.raises(ConfigError, match=f"{setting} of the target must be a"):
            build(target, {}, {setting: value}, "the target")
