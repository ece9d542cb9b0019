"""The model folder: round trip, strictness, and what hostile ones are refused for."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ganzoo
from ganzoo import WeightsError
from ganzoo.files import JSON_LIMIT, weights_hash
from ganzoo.store import manifest, models, save
from ganzoo.store.manifest import CONFIG, MODEL

SMALL = {"steps": 3, "batch_size": 16, "generator": {"hidden": [16], "activation": "relu", "output": "sigmoid"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "vanilla"
    run = ganzoo.train(ganzoo.TrainConfig("vanilla", out=str(out), **SMALL))
    protocol = {
        "data": "digits",
        "reference": {"n": 9},
        "features": {"name": "mnist"},
        "generated": {"n": 9, "seed": 0},
    }
    measured = {"sha256": weights_hash(run.generator), "kind": "ema"}
    save.record(run.folder / "model", ganzoo.Result("run", measured, {"fid": 1.5}, None, protocol))
    return run


@pytest.fixture
def model(run, tmp_path):
    return ganzoo.save_pretrained(run, tmp_path / "model", discriminator=True, license="mit")


def rewrite(folder, change):
    """Change config.json's content, keeping hashes and digest right: what someone with bad intent would do."""
    content = json.loads((folder / CONFIG).read_text())
    change(content)
    (folder / CONFIG).write_text(manifest.config_text(content))


def reweigh(folder, change):
    """Change the tensors, keeping the hash right."""
    tensors = load_file(folder / MODEL)
    tensors = {key: value.clone() for key, value in tensors.items()}
    change(tensors)
    save_file(tensors, folder / MODEL)
    manifest.write_config(folder, json.loads((folder / CONFIG).read_text()))


def test_round_trip_of_a_customised_network(run, model):
    g = ganzoo.from_pretrained(str(model))
    assert not g.training
    assert g.config == run.generator.config
    assert torch.equal(ganzoo.sample(g, 70, seed=4), ganzoo.sample(run.generator, 70, seed=4))
    assert sorted(p.name for p in model.iterdir()) == sorted([CONFIG, *manifest.FILES])
    assert len({p.stat().st_mode for p in model.iterdir()}) == 1, "some files are their owner's alone"
    report = models.verify(model)
    assert report == {"files": 8, "difference": 0.0}


def test_a_finished_run_holds_its_model_folder(run):
    models.verify(run.folder / "model")
    for source in (run.folder, run.folder / "model"):
        assert torch.equal(ganzoo.sample(ganzoo.from_pretrained(str(source)), 3), ganzoo.sample(run.generator, 3))


def test_saving_never_overwrites(run, model):
    with pytest.raises(WeightsError, match="exists already"):
        ganzoo.save_pretrained(run, model)
    with pytest.raises(WeightsError, match="cannot be written"):
        ganzoo.save_pretrained(run, model / CONFIG / "deeper")


def test_the_path_of_the_data_is_not_published(tmp_path):
    from PIL import Image

    (tmp_path / "secret place").mkdir()
    for i in range(4):
        Image.effect_noise((28, 28), 30 + i).save(tmp_path / "secret place" / f"{i}.png")
    config = ganzoo.TrainConfig("vanilla", data=str(tmp_path / "secret place"), out="run", **{**SMALL, "batch_size": 4})
    model = ganzoo.train(config).folder / "model"
    for path in model.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
    assert '"secret_place"' in (model / "training.json").read_text()


@pytest.mark.parametrize("name", [CONFIG, *manifest.FILES])
def test_verify_notices_one_flipped_bit_anywhere(model, name):
    content = (model / name).read_bytes()
    for position in np.random.default_rng(0).integers(0, len(content), 12):
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position % 7)
        (model / name).write_bytes(flipped)
        with pytest.raises(WeightsError):
            models.verify(model)
    (model / name).write_bytes(content)
    models.verify(model)


def test_verify_notices_weights_that_draw_something_else(model):
    reweigh(model, lambda t: t["layers.3.bias"].add_(0.5))
    with pytest.raises(WeightsError, match="differ from the golden ones"):
        models.verify(model)


CONFIGS = {
    "newer format": (lambda c: c.update(format=3), "upgrade ganzoo"),
    "no format": (lambda c: c.pop("format"), "no format number"),
    "boolean format": (lambda c: c.update(format=True), "no format number"),
    "unknown key": (lambda c: c.update(auto_map="evil.module:Evil"), "unknown key 'auto_map'"),
    "missing key": (lambda c: c.pop("generator"), "'generator' must be an object"),
    "wrong type": (lambda c: c.update(generator=[1]), "'generator' must be an object"),
    "import path": (lambda c: c.update(architecture="os:system"), "'os:system', which is not installed"),
    "missing plugin": (
        lambda c: c.update(architecture="stylegan9", requires={"package": "ganzoo-style", "version": "3.1"}),
        r"pip install ganzoo-style \(3.1\)",
    ),
    "unknown setting": (lambda c: c["generator"].update(hiden=3), "did you mean 'hidden'"),
    "huge width": (lambda c: c["generator"].update(hidden=[10**9]), "larger than any network needs"),
    "wide enough to hurt": (lambda c: c["generator"].update(hidden=[60000] * 200), "lacks the tensor"),
    "endless list": (lambda c: c["generator"].update(hidden=[1] * 1000), "larger than any network needs"),
    "string for a number": (lambda c: c["generator"].update(z_dim="many"), "must be a whole number"),
    "another width": (lambda c: c["generator"].update(hidden=[17]), r"is F32 \(16,\), the network has F32 \(17,\)"),
    "foreign file": (lambda c: c["files"].update({"../evil": {"size": 1, "sha256": "0" * 64}}), r"\.\./evil"),
    "file without hash": (lambda c: c["files"].update({MODEL: {"size": 1}}), "size and a sha256"),
    "no weights": (lambda c: c["files"].pop(MODEL), f"names no {MODEL}"),
    "control characters": (lambda c: c.update(requires={"package": "\x1b[2J", "version": ""}), "package and a version"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_hostile_config(model, case):
    change, message = CONFIGS[case]
    rewrite(model, change)
    with pytest.raises(WeightsError, match=message) as caught:
        ganzoo.from_pretrained(str(model))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


RAW = {
    "not json": (b"{", "damaged"),
    "not an object": (b"[]", "object"),
    "empty": (b"", "damaged"),
    "not text": (b"\xff\xfe\x00", "damaged"),
    "nan": (b'{"format": NaN}', "NaN is not a JSON number"),
    "repeated key": (b'{"format": 1, "format": 1}', "a key is repeated"),
    "deep": (b"[" * 100_000, "damaged"),
    "large": (b" " * (JSON_LIMIT + 1), "more than the limit"),
}


@pytest.mark.parametrize("case", RAW)
def test_damaged_config(model, case):
    content, message = RAW[case]
    (model / CONFIG).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        ganzoo.from_pretrained(str(model))


TENSORS = {
    "missing": (lambda t: t.pop("layers.0.bias"), r"lacks the tensor 'layers\.0\.bias'"),
    "extra": (lambda t: t.update(backdoor=torch.zeros(1)), "a tensor 'backdoor' that the network lacks"),
    "misshapen": (lambda t: t.update({"layers.0.bias": torch.zeros(17)}), r"layers\.0\.bias is F32 \(17,\)"),
    "another dtype": (lambda t: t.update({"layers.0.bias": torch.zeros(16).half()}), r"is F16 \(16,\)"),
    "nan": (lambda t: t["layers.0.bias"].fill_(float("nan")), r"layers\.0\.bias holds NaN"),
    "infinite": (lambda t: t["layers.0.bias"].fill_(float("inf")), "infinite"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit(model, case):
    change, message = TENSORS[case]
    reweigh(model, change)
    with pytest.raises(WeightsError, match=message):
        ganzoo.from_pretrained(str(model))


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04K\x01.", struct.pack("<Q", 10**11) + b"{}", struct.pack("<Q", 2) + b"[]"]
)
def test_a_file_that_is_no_safetensors(model, content):
    """A pickle under the right name, a header that claims 100 GB, nothing at all: with a hash that fits."""
    (model / MODEL).write_bytes(content)
    manifest.write_config(model, json.loads((model / CONFIG).read_text()))
    with pytest.raises(WeightsError, match=r"damaged|claims a header"):
        ganzoo.from_pretrained(str(model))


def test_missing_and_changed_files(model, tmp_path):
    (model / MODEL).write_bytes((model / MODEL).read_bytes() + b"x")
    with pytest.raises(WeightsError, match="fetch it again"):
        ganzoo.from_pretrained(str(model))
    (model / MODEL).unlink()
    with pytest.raises(WeightsError, match="is missing"):
        ganzoo.from_pretrained(str(model))
    with pytest.raises(WeightsError, match="nor a model folder"):
        ganzoo.from_pretrained(str(tmp_path))
    with pytest.raises(WeightsError, match="no folder"):
        ganzoo.from_pretrained("./gone")


def test_weights_that_are_not_finite_are_not_saved(run, tmp_path):
    g = ganzoo.from_pretrained(str(run.folder))
    with torch.no_grad():
        g.layers[0].bias[0] = float("nan")
    with pytest.raises(WeightsError, match="NaN"):
        save.write_model(tmp_path / "bad", "vanilla", "x", g, discriminator_config={})
    assert not (tmp_path / "bad").exists()


def test_half_precision_halves_the_file_and_loads_as_fp32(run, model, tmp_path, ganzoo_cli):
    half = tmp_path / "half"
    code, _, err = ganzoo_cli("save", str(run.folder), "-o", str(half), "--half", "--discriminator")
    assert code == 0, err
    for name in (MODEL, manifest.DISCRIMINATOR):
        assert (half / name).stat().st_size < 0.55 * (model / name).stat().st_size
    g = ganzoo.from_pretrained(str(half))
    assert {tensor.dtype for tensor in g.state_dict().values()} == {torch.float32, torch.int64}
    exact, rounded = ganzoo.sample(run.generator, 8), ganzoo.sample(g, 8)
    assert 0 < (exact - rounded).abs().max() < 0.02
    assert models.verify(half)["difference"] == 0.0
    assert not (half / manifest.SCORES).exists(), "scores of other weights"
    assert json.loads((half / CONFIG).read_text())["format"] == 2


def test_weights_too_large_for_half_precision_are_not_saved(run, tmp_path):
    g = ganzoo.from_pretrained(str(run.folder))
    with torch.no_grad():
        g.layers[0].bias[0] = 1e6
    with pytest.raises(WeightsError, match=r"layers\.0\.bias has values too large for fp16: .* without --half"):
        save.write_model(tmp_path / "bad", "vanilla", "x", g, discriminator_config={}, half=True)
    assert not (tmp_path / "bad").exists()


def test_registered_weights_load_by_name(model):
    class Plugin:
        @ganzoo.hookimpl
        def register_weights(self, register):
            register("vanilla.shipped", path=model, license="mit")

    ganzoo.register(Plugin(), "shipped")
    try:
        g = ganzoo.from_pretrained("vanilla.shipped")
        with pytest.raises(ganzoo.UnknownNameError, match=r"did you mean 'vanilla\.shipped'"):
            ganzoo.from_pretrained("vanilla.shiped")
    finally:
        ganzoo.unregister("shipped")
    assert g.config["hidden"] == [16]


# Fine-tuning


def test_fine_tuning_starts_from_the_weights(model, run, ganzoo_cli):
    code, _, err = ganzoo_cli("train", "vanilla", "--from", model, "--steps", 1, "--lr", 1e-9, "--out", "tuned")
    assert code == 0, err
    tuned = ganzoo.from_pretrained("./tuned")
    assert torch.allclose(ganzoo.sample(tuned, 3), ganzoo.sample(run.generator, 3), atol=1e-4)
    assert "discriminator" not in err
    code, _, err = ganzoo_cli("train", "vanilla", "--resume", "--out", "tuned", "--steps", 3)
    assert code == 0, err


def test_a_script_that_fine_tunes_can_simply_be_started_again(model):
    """With the very configuration that began the run, which does not name the settings of the weights."""
    settings = {"start": str(model), "out": "tuned"}
    ganzoo.train(ganzoo.TrainConfig("vanilla", steps=1, **settings), resume=True)
    run = ganzoo.train(ganzoo.TrainConfig("vanilla", steps=3, **settings), resume=True)
    assert run.step == 3
    assert run.config.generator["hidden"] == [16]
    with pytest.raises(ganzoo.ConfigError, match="generator="):
        ganzoo.train(ganzoo.TrainConfig("vanilla", steps=4, generator={"hidden": [9]}, **settings), resume=True)


def test_fine_tuning_without_the_discriminator_says_so(run, tmp_path, ganzoo_cli):
    ganzoo.save_pretrained(run, tmp_path / "alone")
    code, _, err = ganzoo_cli("train", "vanilla", "--from", "./alone", "--steps", 1)
    assert code == 0
    assert "without its discriminator" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dcgan",), "is a vanilla, not a dcgan"),
        (("vanilla", "--set", "generator.hidden=8"), "generator.hidden=[16]"),
    ],
)
def test_fine_tuning_refuses_what_does_not_fit(model, ganzoo_cli, workplace, arguments, message):
    code, _, err = ganzoo_cli("train", *arguments, "--from", model, "--steps", 1)
    assert code == 1
    assert message in err
    assert not (workplace / "runs").exists()


def test_control_characters_of_a_stranger_never_reach_the_terminal(model, ganzoo_cli):
    rewrite(model, lambda c: c["generator"].update({"\x1b[2Jz": [10**9]}))
    code, _, err = ganzoo_cli("verify", model)
    assert code == 1
    assert "\x1b" not in err
    assert err.count("\n") == 1


def test_commands_on_a_folder(model, run, ganzoo_cli, tmp_path):
    code, out, _ = ganzoo_cli("verify", model)
    assert code == 0
    assert "8 files match" in out
    assert ganzoo_cli("verify", run.folder)[0] == 0
    assert ganzoo_cli("save", run.folder, "-o", tmp_path / "saved", "--tag", "mine")[0] == 0
    assert json.loads((tmp_path / "saved" / CONFIG).read_text())["tag"] == "mine"
    (model / "samples.png").write_bytes(b"x")
    code, out, err = ganzoo_cli("verify", model)
    assert (code, out) == (1, "")
    assert "samples.png" in err
