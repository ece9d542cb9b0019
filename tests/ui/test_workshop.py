"""The workshop without a browser: what it offers, its jobs, its work, and what its server refuses."""

import gc
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

import ganzoo
from ganzoo import ConfigError, DataError, SampleError, UnknownNameError, WeightsError
from ganzoo.latent.directions import directions
from ganzoo.latent.latents import Latents, render
from ganzoo.progress import counting
from ganzoo.sampling.pictures import to_uint8
from ganzoo.ui import fields, server, tabs, work
from ganzoo.ui.desk import Desk
from ganzoo.ui.jobs import Jobs, Stopped
from ganzoo.ui.offers import Offers
from ganzoo.ui.server import application
from ganzoo.ui.space import write_space
from hub_server import front_matter, space_faults

# gradio makes event loops that it does not close. They are collected here, where the warning about them is no error.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of images, one of styles, one of sounds and one of a translation."""
    folder = tmp_path_factory.mktemp("runs")
    small = {"steps": 2, "batch_size": 8, "sample_every": 1}
    thin = {"generator": {"width": 4}, "discriminator": {"width": 4}}
    styles = {"z_dim": 8, "w_dim": 8, "channel_base": 128, "channel_max": 16}
    style = {"generator": styles, "discriminator": {"channel_base": 128, "channel_max": 16}, "image_size": 16}
    made = {
        "images": ("dcgan", {**thin, "conditional": True}),
        "styles": ("stylegan2", {**style, "data": "sprites"}),
        "sounds": ("wavegan", {**thin, "conditional": True}),
        "deep/translation": ("pix2pix", {**thin, "data": "sprites", "inputs": "grey"}),
    }
    for name, (architecture, settings) in made.items():
        ganzoo.train(ganzoo.TrainConfig(architecture, **small, **settings, out=str(folder / name)))
    return folder


@pytest.fixture
def offers(runs):
    return Offers(["dcgan.mnist"], runs=runs)


# What is offered


def test_what_is_offered(offers, runs):
    listed = dict(offers.choices())
    assert next(iter(listed)) == "dcgan.mnist"
    assert listed["images (run)"] == str(runs / "images")
    assert "deep/translation (run)" in listed
    assert listed["dcgan.nouns"] == "dcgan.nouns"
    assert set(offers.runs()) == {"images", "styles", "sounds", "deep/translation"}
    named = Offers([str(runs / "sounds")], runs=runs).choices()  # listed once, and first
    assert [value for _, value in named].count(str(runs / "sounds")) == 1
    assert named[0][1] == str(runs / "sounds")
    g = offers.load(str(runs / "images"))
    assert offers.load(str(runs / "images")) is g
    assert offers.load(str(runs / "images"), again=True) is not g
    for name in ganzoo.list_pretrained():
        offers.load(name)
    assert offers.load(str(runs / "images")) is not g  # few are kept


def test_nobody_loads_what_is_not_offered(offers, runs, tmp_path):
    secret = tmp_path / "secret"
    ganzoo.save_pretrained(runs / "images", secret)
    for source in (str(secret), "../secret", "./secret", f"{runs}/images/../images/model"):
        with pytest.raises(UnknownNameError, match="does not offer"):
            offers.load(source)
    with pytest.raises(UnknownNameError, match=r"did you mean 'dcgan\.nouns'"):
        offers.load("dcgan.noun")
    with pytest.raises(UnknownNameError, match="no other models of the Hub"):
        offers.load("hf-hub:some/body")
    assert [value for _, value in Offers(["dcgan.mnist"], pretrained=False).choices()] == ["dcgan.mnist"]
    with pytest.raises(UnknownNameError):
        Offers(["dcgan.mnist"], pretrained=False).load("dcgan.nouns")
    with pytest.raises(WeightsError, match="no folder"):
        Offers(["./nowhere"])


def test_a_run_without_a_checkpoint_is_followed_but_not_offered(offers, runs, tmp_path):
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    (tmp_path / "new" / "training.json").write_text("{}")
    fresh = Offers([], runs=tmp_path, pretrained=False)
    assert list(fresh.runs()) == ["new"]
    assert fresh.choices() == []
    (tmp_path / "a" / "b" / "c" / "d" / "e" / "checkpoints").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "d" / "e" / "training.json").write_text("{}")
    (tmp_path / "linked").symlink_to(runs)
    assert list(Offers([], runs=tmp_path).runs()) == ["new"]


# Jobs


def test_one_job_at_a_time_and_stopping_one(offers):
    g, jobs, told, order = offers.load("dcgan.mnist"), Jobs(), [], []

    def long(session, seconds):
        try:
            with jobs.running(session, [g], lambda *facts: told.append(facts)), counting(1000, "blocks") as advance:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    ganzoo.sample(g, 1)
                    advance(1)
                    order.append(session)
        except Stopped:
            order.append(f"{session} stopped")

    first = threading.Thread(target=long, args=("a", 30))
    second = threading.Thread(target=long, args=("b", 0.3))
    first.start()
    while not order:
        time.sleep(0.01)
    second.start()
    time.sleep(0.2)
    assert "b" not in order
    jobs.stop("b")  # which is waiting, not running
    jobs.stop("a")
    first.join(10)
    second.join(10)
    assert order.index("a stopped") < order.index("b")
    assert "b stopped" not in order
    assert any("of 1000 blocks, about" in text for _, _, text in told)
    jobs.close("c")
    long("c", 30)
    assert order[-1] == "c stopped"
    assert not [handle for module in g.modules() for handle in module._forward_pre_hooks]


# Its work


def test_it_draws_what_the_command_draws(offers, tmp_path):
    g = offers.load("dcgan.mnist")
    drawn = work.draw(g, 5, 3, None, {})
    assert torch.equal(drawn.items, ganzoo.sample(g, 5, seed=3))
    assert torch.allclose(render(g, drawn.latents), drawn.items, atol=1e-5)
    picture, file = work.write(g, drawn, tmp_path)
    with Image.open(picture) as image:
        assert image.size == (92, 62)
    assert torch.equal(Latents.load(file).values, drawn.latents.values)
    for n in (0, 257):
        with pytest.raises(SampleError, match="from 1 to 256"):
            work.draw(g, n, 0, None, {})
    found = directions(g, 2)
    moved = work.move(g, drawn, 4, found, [2.0, 0.0])
    expected = render(g, found.move(drawn.latents[[4]], 0, 2.0))
    assert torch.allclose(moved.items, expected, atol=1e-5)
    with pytest.raises(SampleError, match="no picture 5: the drawn ones are 0 to 4"):
        work.move(g, drawn, 5, found, [1.0])
    with pytest.raises(SampleError, match="draw some first"):
        work.chosen(work.Drawn(drawn.items), [0])


def test_a_walk_is_a_video(offers, tmp_path):
    import av

    g = offers.load("dcgan.mnist")
    drawn = work.draw(g, 3, 0, None, {})
    work.walk(g, drawn, [0, 2], 5, 10, False, tmp_path / "walk.mp4")
    with av.open(str(tmp_path / "walk.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 6
    with pytest.raises(SampleError, match="more than 1000"):
        work.walk(g, drawn, [0, 1, 2], 500, 10, True, tmp_path / "long.mp4")
    assert work.parse_numbers(" 3,4 5,") == [3, 4, 5]
    with pytest.raises(SampleError, match="named by their numbers"):
        work.parse_numbers("1, two")


def test_uploads_are_decoded_as_data_sets_are(offers, runs, tmp_path):
    g = offers.load("dcgan.mnist")
    sent = to_uint8(ganzoo.sample(g, 1, seed=9))[0, :, :, 0]
    Image.fromarray(sent).resize((280, 280), Image.Resampling.NEAREST).save(tmp_path / "a.png")
    target = work.read_upload(str(tmp_path / "a.png"), g)
    assert target.shape == (1, 1, 28, 28)
    assert np.abs(to_uint8(target)[0, :, :, 0].astype(int) - sent).mean() < 5
    found, distance = work.invert(g, target, steps=30, label=None, features="none")
    assert distance < 0.2
    drawn = work.draw(g, 2, 0, None, {}).with_one(found.items, found.latents)
    assert len(drawn.latents) == len(drawn.items) == 3
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n but no more")
    with pytest.raises(DataError, match=r"bad\.png cannot be read as an image"):
        work.read_upload(str(tmp_path / "bad.png"), g)
    translator = offers.load(str(runs / "deep" / "translation"))
    options = {"make": "grey", "n": 2, "seed": 0, "label": None, "options": {}}
    (sheet,) = work.translate(translator, [str(tmp_path / "a.png")], **options)
    assert sheet.size == (3 * 282 + 2, 284)
    with pytest.raises(DataError, match=r"bad\.png"):
        work.translate(translator, [str(tmp_path / "bad.png")], **options)


def test_what_cannot_be_looked_at(tiny_config):
    g = ganzoo.train(tiny_config()).generator
    with pytest.raises(SampleError, match="neither images nor sounds"):
        work.pictures(g, ganzoo.sample(g, 2))


# The fields and tabs


class Request:
    session_hash = "tab"


class Tab:
    """The tabs of a generator as components, whose jobs are run in this process."""

    def __init__(self, offers, source, folder):
        self.desk = Desk(offers, Jobs(), folder)
        with gr.Blocks() as self.page:
            tabs.build(self.desk, source)
        parts = self.page.blocks.values()
        self.values = {
            part: getattr(part, "value", None) for part in parts if isinstance(part, gr.components.Component)
        }
        self.labels = {}
        for part in self.values:
            self.labels.setdefault(getattr(part, "label", None), part)

    def set(self, label, value):
        self.values[self.labels[label]] = value

    def press(self, text):
        """Run the job of a button, and keep what it returns. Returns the values of its outputs."""
        (button,) = [part for part in self.page.blocks.values() if isinstance(part, gr.Button) and part.value == text]
        (event,) = [event for event in self.page.fns.values() if (button._id, "click") in event.targets]
        return self.run(event)

    def change(self, label):
        part = self.labels[label]
        (event,) = [event for event in self.page.fns.values() if (part._id, "change") in event.targets]
        return self.run(event)

    def run(self, event):
        values = {part: self.values[part] for part in event.inputs}
        results = event.fn(values, Request(), lambda *args, **kwargs: None)
        if isinstance(results, dict):  # skipped
            return results
        results = list(results) if isinstance(results, list | tuple) else [results]
        for part, result in zip(event.outputs, results, strict=True):
            self.values[part] = result
        return results


@pytest.fixture
def said(monkeypatch):
    """What the page would show as messages, which need a queue."""
    messages = []
    for name in ("Info", "Warning"):
        monkeypatch.setattr(gr, name, lambda text, **kwargs: messages.append(text))
    return messages


def test_every_call_option_has_a_field(offers, runs, said, tmp_path):
    tab = Tab(offers, str(runs / "styles"), tmp_path)
    assert {"truncation", "noise"} <= set(tab.labels)
    assert tab.labels["noise"].choices[1:] == [("random", "random"), ("const", "const"), ("none", "none")]
    tab.set("truncation", 0.0)
    tab.set("noise", "none")
    drawn, gallery, files = tab.press("Draw")
    assert torch.allclose(drawn.items[0], drawn.items[1], atol=1e-5)
    assert len(gallery) == 16
    assert [Path(part["path"]).name for part in files.value] == ["samples.png", "latents.safetensors"]
    tab.set("Direction 0", 2.0)
    picture, _ = tab.change("Direction 0")
    assert picture.size == (16, 16)
    tab.set("truncation", "much")
    tab.press("Draw")
    assert "truncation is a number" in said[-1]


def test_classes_sounds_and_sides(offers, runs, said, tmp_path):
    tab = Tab(offers, str(runs / "images"), tmp_path)
    tab.set("Class", "3")
    drawn, gallery, _ = tab.press("Draw")
    assert set(drawn.latents.labels.tolist()) == {3}
    assert gallery[1][1] == "1 · 3"
    tab.set("Samples to walk between", "0, 1")
    tab.set("Frames from one to the next", 2)
    (path,) = tab.press("Walk")
    assert Path(path).stat().st_size > 500
    tab.set("The other", "dcgan.mnist")
    first, second, title = tab.press("Draw both")
    assert len(first) == len(second) == 16
    assert "dcgan.mnist" in title
    tab.press("Find its latents")
    assert said == ["Choose a picture first."]
    sounds = Tab(offers, str(runs / "sounds"), tmp_path)
    _, shown, _, heard = sounds.press("Draw")
    assert len(shown) == 1
    assert heard.endswith(".wav")
    assert "Samples to walk between" not in sounds.labels


def test_inverting_and_translating(offers, runs, said, tmp_path):
    Image.new("L", (80, 60), 90).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    tab = Tab(offers, "dcgan.mnist", tmp_path)
    tab.press("Draw")
    tab.set("A picture", str(tmp_path / "a.png"))
    (seen,) = tab.change("A picture")
    assert seen.size == (28, 28)
    tab.set("Steps", 10)
    pair, text, drawn, gallery, _ = tab.press("Find its latents")
    assert pair.size == (62, 32)
    assert "It is sample 16 now" in text
    assert len(drawn.items) == len(gallery) == 17
    tab.set("A picture", str(tmp_path / "b.png"))
    tab.press("Find its latents")
    assert "b.png cannot be read as an image" in said[-1]
    assert tab.press("Draw")[0].items.shape == (16, 1, 28, 28)  # it goes on
    translation = Tab(offers, str(runs / "deep" / "translation"), tmp_path)
    translation.press("Translate")
    assert said[-1] == "Choose pictures first."
    translation.set("Pictures", [str(tmp_path / "a.png")])
    translation.set("Inputs made from the pictures", "grey")
    gallery, _ = translation.press("Translate")
    assert gallery[0][1] == "a.png"


def test_fields_of_other_options():
    class Strange(torch.nn.Module):
        config = {"z_dim": 2}  # noqa: RUF012

        def forward(self, z, *, sharp: bool = False, steps: int = 3, name: str = "x", scale: float = 1.5):
            return z

    with gr.Blocks():
        own = fields.fields(Strange())
    values = {own.options["sharp"]: True, own.options["steps"]: 3, own.options["name"]: " y ", own.options["scale"]: 2}
    assert own.read(values) == (None, {"sharp": True, "name": "y", "scale": 2})
    assert fields.plain("<b>_x_</b>") == r"\<b\>\_x\_\</b\>"


# The server


@pytest.fixture
def address(offers, tmp_path):
    """A page that is served from this process."""
    listener = server._listen("127.0.0.1", 0)
    hosts = [*server.LOCAL, "[::1]"]
    (tmp_path / "files").mkdir()
    app = application(offers, Jobs(), tmp_path / "files", hosts)
    own = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=own.run, kwargs={"sockets": [listener]})
    thread.start()
    while not own.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    own.should_exit = True
    thread.join()


def ask(url, data=None, **headers):
    """The status and the text of an answer."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        data, headers = json.dumps(data).encode(), {"Content-Type": "application/json", **headers}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


def test_the_server_answers_its_own_page_alone(address, runs, tmp_path):
    port = address.rpartition(":")[2]
    assert ask(address)[0] == 200
    assert ask(address, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200
    assert ask(address, Host="evil.example")[0] == 400  # a name that was rebound to this machine
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert ask(f"{address}/gradio_api/queue/join", {"data": []}, Origin=origin)[0] == 403
    for path in ("/etc/passwd", str(runs / "images" / "training.json"), "pyproject.toml", "../../etc/passwd"):
        status, text = ask(f"{address}/gradio_api/file={path}")
        assert status in (403, 404)
        assert "root:" not in text
    assert ask(f"{address}/gradio_api/file=https://example.com/")[0] in (403, 404)
    assert ask(f"{address}/gradio_api/proxy=https://example.com/")[0] in (400, 403, 404)


def test_the_page_of_runs(address, runs):
    status, text = ask(f"{address}/run-page?run=images&run=styles")
    assert status == 200
    assert "images and styles" in text
    for name in ("nothing", "../images", "%2Fetc"):
        assert ask(f"{address}/run-page?run={name}")[0] == 404


def test_a_port_that_is_taken():
    with server._listen("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
            server._listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match="Choose another --port or --host"):
        server._listen("192.0.2.1", 0)


def test_the_command_refuses_what_is_no_folder(ganzoo_cli):
    code, _, err = ganzoo_cli("ui", "--runs", "nowhere")
    assert code == 1
    assert "--runs nowhere is no folder" in err


# The Space


def test_the_app_of_a_space_serves_its_own_generator_alone(tmp_path, runs):
    folder = write_space(str(runs / "images"), tmp_path / "space", title="Digits")
    card = front_matter((folder / "README.md").read_text())
    assert space_faults(card) == []
    assert (card["title"], card["sdk"], card["app_file"]) == ("Digits", "gradio", "app.py")
    assert card["sdk_version"] == gr.__version__
    pins = (folder / "requirements.txt").read_text().splitlines()
    assert f"ganzoo=={ganzoo.__version__}" in pins
    assert all("==" in line for line in pins if not line.startswith("--"))
    with socket.socket() as taken:  # a Space has one port
        taken.bind(("0.0.0.0", server.PORT))
        done = subprocess.run([sys.executable, "app.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert "ConfigError" in done.stderr
    assert f"port {server.PORT}" in done.stderr
