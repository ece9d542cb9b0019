"""The sampling rate of sounds, from the data to a published generator and back into training."""

import json
import logging
import runpy
import shutil
import sys
import wave
from pathlib import Path

import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo import ConfigError, WeightsError
from ganzoo.data.loading import load
from ganzoo.store import manifest
from ganzoo.store.models import verify

SMALL = {"generator": {"width": 2}, "discriminator": {"width": 2}, "steps": 2, "batch_size": 4}
EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_sample.py"


@ganzoo.hookimpl
def register_data(register):
    register("blips", lambda: tones(8000))
    register("slow_blips", lambda: tones(4000))
    register("numbers", lambda: ganzoo.Data(tones(8000).items))


def tones(rate):
    data = load("tones", options={"n": 40, "length": 256})
    return ganzoo.Data(data.items, data.labels, classes=data.classes, rate=rate)


@pytest.fixture(autouse=True, scope="module")
def data():
    ganzoo.register(sys.modules[__name__], "blips")
    yield
    ganzoo.unregister("blips")


def config(**settings):
    return ganzoo.TrainConfig("wavegan", **{"data": "blips", **SMALL, **settings})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ganzoo.train(config(out=str(tmp_path_factory.mktemp("runs") / "run")))


def rate_of(source):
    return ganzoo.from_pretrained(str(source)).sampling_rate


def test_a_run_and_its_model_folder_know_the_rate(run):
    assert run.generator.sampling_rate == run.raw_generator.sampling_rate == 8000
    assert "sampling_rate" not in run.generator.config
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    for source in (run.folder, checkpoint, run.folder / "model"):
        assert rate_of(source) == 8000
    assert verify(run.folder / "model")["difference"] == 0
    for picture in (run.folder / "samples" / "step-0000002.png", run.folder / "model" / "samples.png"):
        with Image.open(picture) as image:
            assert image.mode == "RGB"
            assert image.width > image.height > 400
    half = ganzoo.save_pretrained(run, "half", half=True)
    assert rate_of(f"./{half}") == 8000


def test_images_have_no_rate():
    assert ganzoo.from_pretrained("dcgan.mnist").sampling_rate is None


def test_a_version_without_sounds_is_told_to_upgrade(run):
    content = json.loads((run.folder / "model" / "config.json").read_text())
    assert (content["format"], content["rate"]) == (2, 8000)
    assert "classes" not in content


def test_the_card_speaks_of_sounds(run):
    text = (run.folder / "model" / "README.md").read_text()
    assert "| sounds | 0.032 s at 8000 Hz |" in text
    assert "pipeline_tag" not in text
    assert "- audio\n" in text
    for word in ("image", "pixel"):
        assert word not in text.replace("architecture", "").lower().replace("(samples.png)", "").replace(
            "![samples", ""
        )
    (snippet,) = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    namespace = {}
    exec(snippet, namespace)
    assert namespace["sounds"].shape == (16, 1, 256)
    image = ganzoo.train(ganzoo.TrainConfig("vanilla", steps=1, batch_size=4, generator={"hidden": [4]}))
    text = (image.folder / "model" / "README.md").read_text()
    assert "pipeline_tag: unconditional-image-generation" in text
    assert "sound" not in text
    assert "audio" not in text


def test_resuming_keeps_the_rate(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    more = ganzoo.train(config(out="run", steps=3), resume=True)
    assert more.generator.sampling_rate == rate_of("./run/model") == 8000


@pytest.mark.parametrize("part", ["", "/model"])
def test_fine_tuning_takes_the_rate_of_the_data_and_warns_of_another(run, part, caplog):
    caplog.set_level(logging.WARNING, "ganzoo")
    start = f"{run.folder}{part}"
    assert ganzoo.train(config(start=start, out="same")).generator.sampling_rate == 8000
    assert "Hz" not in caplog.text
    tuned = ganzoo.train(config(start=start, data="slow_blips", out="tuned"))
    assert tuned.generator.sampling_rate == rate_of("./tuned/model") == 4000
    assert f"the sounds of {start} have 8000 Hz, and those of the data 4000 Hz" in caplog.text


def test_sizes_that_do_not_fit_are_explained(run):
    for settings, message in (
        (
            {"data": "digits"},
            r"\(1, 28, 28\): it takes no image_size, so take another architecture, or take other data",
        ),
        ({"data": "numbers", "generator.length": 64}, r"\(1, 64\), the data has \(1, 256\): "),
        ({"generator.length": 64}, r"\(1, 64\), the data has \(1, 256\): set data.length, or take other data"),
        ({"channels": 2}, "'blips' holds sounds, which have no image_size, and 1 as channels: leave both out"),
        ({"flip": True}, "flip mirrors images"),
        ({"augment": ["color"]}, "augment changes images"),
    ):
        with pytest.raises(ConfigError, match=message):
            ganzoo.train(config(**settings))
    with pytest.raises(ConfigError, match="it takes no length, so take another architecture"):
        ganzoo.train(ganzoo.TrainConfig("dcgan", data="blips", batch_size=4))


def test_packs_of_sounds():
    packed = ganzoo.train(config(pack=2))
    assert packed.discriminator.config["channels"] == 2


CONFIGS = {
    "format 1 had none": (lambda c: c.update(format=1), "unknown key 'rate'"),
    "a string": (lambda c: c.update(rate="8000"), "'rate' must be a whole number of Hz .*, not '8000'"),
    "true": (lambda c: c.update(rate=True), "'rate' must be"),
    "zero": (lambda c: c.update(rate=0), "'rate' must be"),
    "huge": (lambda c: c.update(rate=10**12), "'rate' must be"),
    "none": (lambda c: c.update(rate=None), "'rate' must be"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_hostile_rates(run, tmp_path, case):
    change, message = CONFIGS[case]
    shutil.copytree(run.folder / "model", tmp_path / "model")
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    change(content)
    (tmp_path / "model" / "config.json").write_text(manifest.config_text(content))
    with pytest.raises(WeightsError, match=message):
        ganzoo.from_pretrained("./model")


def test_the_onnx_file_holds_the_rate(run, ganzoo_cli, monkeypatch):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    code, _, err = ganzoo_cli("export", str(run.folder), "-o", "g.onnx")
    assert code == 0, err
    session = runtime.InferenceSession("g.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["ganzoo.rate"]) == 8000
    assert [output.name for output in session.get_outputs()] == ["sounds"]
    z = torch.randn(3, 100)
    (sounds,) = session.run(None, {"z": z.numpy()})
    assert (torch.from_numpy(sounds) - run.generator(z)).abs().max() < 1e-5
    monkeypatch.setattr("sys.argv", ["onnx_sample.py", "g.onnx", "-n", "3"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    with wave.open("sounds.wav") as file:
        assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (8000, 3 * 256, 1)
