"""The page of a run: what it shows, what it costs, and that nothing in a run folder can run on it."""

import base64
import io
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import ganzoo
from ganzoo import CheckpointError
from ganzoo.report.page import PICTURES, SHOWN, RunPage, render, write_page
from ganzoo.report.record import POINTS, read_record
from ganzoo.store.runs import create_run, save_picture


def make_run(folder, lines=10, pictures=3, size=64, **settings):
    """A run folder as training writes it, without the training."""
    config = ganzoo.TrainConfig("dcgan", out=str(folder), steps=max(1, 100 * lines), **settings)
    run = create_run(config, {"hardware": "2 threads", "fingerprint": "f" * 64})
    with open(run / "metrics.jsonl", "w") as file:
        for i in range(lines):
            line = {
                "step": 100 * (i + 1),
                "d_loss": 1 / (i + 1),
                "g_loss": i,
                "accuracy": 0.5,
                "r1": 0.1,
                "seconds": 60 * i,
            }
            file.write(json.dumps({**line, "images_per_second": 500.0, "diversity": 0.9}) + "\n")
    for i in range(pictures):
        noise = np.random.default_rng(i).integers(0, 256, (size, size, 3), dtype=np.uint8)
        save_picture(run, 100 * (i + 1), Image.fromarray(noise))
    return run


class Page(HTMLParser):
    """The tags, the visible text and the data of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.scripts = [], "", 0
        self.inside = []
        self.feed(text)
        self.charts = json.loads(re.search(r"^const charts = (.*);$", text, re.M)[1])
        self.pictures = json.loads(re.search(r"^const runs = (.*);$", text, re.M)[1])

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = [*self.inside, tag] if tag in ("script", "style") else self.inside

    def handle_endtag(self, tag):
        self.inside = self.inside[:-1] if tag in ("script", "style") else self.inside

    def handle_data(self, data):
        if not self.inside:
            self.text += " ".join(data.split()) + "\n"

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(*folders):
    return Page(render([read_record(folder) for folder in folders], {}))


def test_a_page_shows_the_run(workplace):
    run = make_run(workplace / "run", lr=0.01)
    page = page_of(run)
    assert "step 1,000 of 1,000, 9.0 minutes, finished" in page.text
    assert [picture["step"] for picture in page.pictures[0]] == [100, 200, 300]
    shown = Image.open(io.BytesIO(base64.b64decode(page.pictures[0][1]["url"].partition(",")[2])))
    assert np.array_equal(np.asarray(shown), np.asarray(Image.open(run / "samples" / "step-0000200.png")))
    assert {chart["title"] for chart in page.charts} == {
        "Losses", "Discriminator", "Diversity", "Images a second", "Penalties and other terms",
    }  # fmt: skip
    losses = next(chart for chart in page.charts if chart["title"] == "Losses")
    assert losses["curves"][1] == {
        "label": "generator",
        "x": [100.0 * i for i in range(1, 11)],
        "y": [*map(float, range(10))],
    }
    assert "generator goes from 0 to 9" in losses["summary"]
    assert "ganzoo train dcgan --steps 1000 --lr 0.01\n" in page.text
    assert f"ganzoo train dcgan --resume --out {run}" in page.text
    assert "2 threads" in page.text
    rows = re.findall(r'<tr class="own"><th scope="row">(.*?)</th><td>(.*?)</td>', render([read_record(run)], {}))
    assert rows == [("steps", "1000"), ("lr", "0.01")]


def test_a_page_needs_no_network_and_is_accessible(workplace):
    text = render([read_record(make_run(workplace / "run"))], {})
    page = Page(text)
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.all("img"))
    assert not page.all("link")
    assert not [tag for tag in page.all("script") if "src" in tag]
    policy = next(tag["content"] for tag in page.all("meta") if tag.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert page.all("html") == [{"lang": "en"}]
    assert all("aria-label" in section for section in page.all("section"))
    assert all(plot["aria-label"] for plot in page.all("div") if plot.get("class") == "plot")
    assert re.search(r"prefers-color-scheme: dark", text)


def test_several_runs_side_by_side(workplace):
    first, second = make_run(workplace / "a"), make_run(workplace / "b", lines=5, lr=0.5, generator={"width": 8})
    page = page_of(first, second)
    losses = next(chart for chart in page.charts if chart["title"] == "Losses: generator")
    assert [curve["label"] for curve in losses["curves"]] == ["a", "b"]
    assert [len(curve["x"]) for curve in losses["curves"]] == [10, 5]
    text = render([read_record(folder) for folder in (first, second)], {})
    rows = re.findall(r'<tr class="own"><th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', text)
    assert rows == [("generator.width", "32", "8"), ("steps", "1000", "500"), ("lr", "0.002", "0.5")]
    assert len(page.pictures) == 2
    (workplace / "deep").mkdir()
    twin = make_run(workplace / "deep" / "a")
    assert f"{first} and {twin}" in page_of(first, twin).text  # folders of one name get their paths


def test_a_page_stays_small_however_long_the_run(workplace):
    run = make_run(workplace / "run", lines=30_000, pictures=200, size=300)
    text = render([read_record(run)], {})
    page = Page(text)
    steps = [picture["step"] for picture in page.pictures[0]]
    assert len(steps) == SHOWN
    assert steps[0] == 100
    assert steps[-1] == 20_000
    assert max(len(curve["x"]) for chart in page.charts for curve in chart["curves"]) <= POINTS
    assert sum(len(picture["url"]) for picture in page.pictures[0]) <= PICTURES
    assert len(text) < 10_000_000


def test_averages_of_a_long_log(workplace):
    record = read_record(make_run(workplace / "run", lines=4 * POINTS))
    assert record.curves["g_loss"][:2] == [1.5, 5.5]  # of 0, 1, 2, 3 and of 4, 5, 6, 7
    assert record.steps[0] == 250.0


HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(1)">'


def test_a_hostile_folder_shows_what_can_be_shown_and_runs_nothing(workplace):
    run = make_run(workplace / "<script>alert(2)<")
    (run / "samples" / "step-0000050.png").write_bytes(b"no picture")
    (run / "samples" / "step-0000060.png").symlink_to("/etc/passwd")
    (run / "samples" / "step-x.png").write_bytes(b"")
    training = json.loads((run / "training.json").read_text())
    training["config"] |= {HOSTILE: HOSTILE, "data": HOSTILE, "steps": HOSTILE}
    training["hardware"] = HOSTILE
    (run / "training.json").write_text(json.dumps(training))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 2000, "d_loss": NaN, "g_loss": Infinity, "diversity": 1e999, "warnings": 5}\n')
        file.write(json.dumps({"step": 2100, HOSTILE: 1.0, "warnings": [HOSTILE], "fid": 10**400}) + "\n")
        file.write('[]\n1\n"x"\n{"step": "3"}\n{"step": 50}\n' + "[" * 10_000 + "\n\xff\n")
        file.write('{"step": 2200, "d_loss": 0.')  # cut off
    page = page_of(run)
    own = list(page.all("script"))
    assert len(own) == 2
    assert not [image for image in page.all("img") if "onerror" in image]
    assert HOSTILE in page.text.replace("\n", "")  # as text, in the warning
    d_loss = page.charts[0]["curves"][0]
    assert d_loss["y"][-2:] == [None, None]
    assert d_loss["x"][-1] == 2100
    assert [picture["step"] for picture in page.pictures[0]] == [100, 200, 300]


@pytest.mark.parametrize(
    "damage", ["", "[]", '{"config": 3}', "[" * 5000, '{"config": {"architecture": "gone", "recipe": []}}']
)
def test_damaged_settings(workplace, damage):
    run = make_run(workplace / "run")
    (run / "training.json").write_text(damage)
    assert len(page_of(run).pictures[0]) == 3


def test_names_that_are_not_utf_8(workplace):
    """Linux allows any bytes in the name of a folder, which Python holds as halves of surrogate pairs."""
    run = make_run(workplace / "run", data="pictures\udcff/")
    write_page([run], workplace / "page.html")
    assert "pictures?/" in (workplace / "page.html").read_text(encoding="utf-8")


def test_missing_parts(workplace):
    run = make_run(workplace / "run", lines=0, pictures=0)
    (run / "metrics.jsonl").unlink()
    (run / "samples").rmdir()
    text = page_of(run).text
    assert "no step has been logged yet" in text
    assert "There are no pictures yet." in text
    with pytest.raises(CheckpointError, match="is not a run folder"):
        write_page([workplace], workplace / "page.html")


def test_training_writes_its_page(workplace, tiny_config, caplog):
    run = ganzoo.train(ganzoo.TrainConfig("vanilla", steps=6, batch_size=8, log_every=2, sample_every=3, out="run"))
    page = Page((run.folder / "report.html").read_text())
    assert "step 6 of 6" in page.text
    assert "finished" in page.text
    assert [picture["step"] for picture in page.pictures[0]] == [3, 6]
    points = ganzoo.train(tiny_config(out="points"))  # no images
    assert "There are no pictures yet." in Page((points.folder / "report.html").read_text()).text


def test_a_page_that_cannot_be_written_costs_no_run(workplace, caplog):
    (workplace / "run").mkdir()
    page = RunPage(workplace / "run")
    page.write()  # there is no run yet
    assert "report.html cannot be written" in caplog.text


def test_a_page_takes_its_share_of_time_at_most(workplace):
    run = make_run(workplace / "run")
    page = RunPage(run)
    page.write(force=True)
    page.path.unlink()
    page.write()
    assert not page.path.exists()  # a hundred times what the first one took has not passed
    page._due = time.perf_counter()
    page.write()
    assert page.path.exists()


def test_warnings_are_logged_with_their_step(workplace):
    run = make_run(workplace / "run")
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 1100, "warnings": ["the samples are nearly alike"]}) + "\n")
    assert "step 1,100: the samples are nearly alike" in page_of(run).text


# The command


def test_the_command(ganzoo_cli, workplace):
    make_run(workplace / "a")
    make_run(workplace / "b")
    assert ganzoo_cli("report", "a")[:2] == (0, "a/report.html\n")
    assert ganzoo_cli("report", "a")[0] == 0  # its own page is written again
    assert ganzoo_cli("report", "a", "b")[:2] == (0, "report.html\n")
    code, _, err = ganzoo_cli("report", "a", "b")
    assert code == 1
    assert "report.html exists already" in err
    assert ganzoo_cli("report", "a", "--gif", "-o", "x/grown.gif", "--fps", "5")[:2] == (0, "x/grown.gif\n")
    with Image.open("x/grown.gif") as gif:
        assert gif.n_frames >= 3
        assert gif.size == (256, 256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a run folder"),
        (["a", "-o", "x.txt"], "a page is an .html"),
        (["a", "b", "--gif"], "an animation shows one run"),
        (["a", "--gif", "-o", "x.html"], "an animation is a"),
        (["empty", "--gif"], "has no pictures yet"),
        (["a"] * 9, "at most 8 runs"),
    ],
)
def test_what_the_command_refuses(ganzoo_cli, workplace, arguments, message):
    make_run(workplace / "a")
    make_run(workplace / "b")
    make_run(workplace / "empty", pictures=0)
    code, _, err = ganzoo_cli("report", *arguments)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1
