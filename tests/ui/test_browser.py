"""The workshop and the page of a run in a real browser: Chromium without a window, driven by Playwright."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ganzoo
from ganzoo.latent.directions import directions
from ganzoo.latent.latents import render, sampled
from ganzoo.sampling.pictures import to_uint8

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"),
]
EVIL = "<img src=x onerror=alert(1)>"
PATIENCE = 60_000
"""Milliseconds until something that should happen has not happened: other tests may keep the machine busy."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs, one of which has a hostile name, and pictures to upload."""
    folder = tmp_path_factory.mktemp("place")
    settings = {"steps": 6, "batch_size": 8, "sample_every": 2, "log_every": 1}
    thin = {"generator": {"width": 4}, "discriminator": {"width": 4}}
    styles = {"z_dim": 8, "w_dim": 8, "channel_base": 128, "channel_max": 16}
    style = {"generator": styles, "discriminator": {"channel_base": 128, "channel_max": 16}, "image_size": 16}
    runs = {
        "first": ("dcgan", thin),
        "second": ("dcgan", {**thin, "seed": 1}),
        "styles": ("stylegan2", {**style, "data": "sprites"}),
        "translation": ("pix2pix", {**thin, "data": "sprites", "inputs": "grey"}),
        EVIL: ("dcgan", thin),
    }
    for name, (architecture, own) in runs.items():
        ganzoo.train(ganzoo.TrainConfig(architecture, **settings, **own, out=str(folder / "runs" / name)))
    g = ganzoo.from_pretrained("dcgan.mnist")
    Image.fromarray(to_uint8(ganzoo.sample(g, 1, seed=77))[0, :, :, 0]).resize((280, 280)).save(folder / "digit.png")
    (folder / "bad.png").write_text("This is no picture.")
    return folder


@pytest.fixture(scope="module")
def address(place):
    """The workshop as `ganzoo ui` serves it, from a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ganzoo", "ui", "dcgan.mnist", "--no-open", "--port", "0"], cwd=place, text=True,
        stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1", "GANZOO_CACHE": str(place / ".cache")},
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        yield process.stdout.readline().strip()
        process.terminate()
        assert process.wait(30) is not None


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens pages, and says at the end whether one of them logged an error or asked another machine."""
    problems, contexts = [], []

    def opened(url, width=1400, height=1000, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: None if local(request.url) else problems.append(f"asked {request.url}"))
        page.goto(url)
        return page

    def local(url):
        return url.startswith(("http://127.0.0.1:", "data:", "blob:", "file:", "about:"))

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def workshop(open_page, address):
    """Opens the workshop, with the first generator loaded."""

    def opened(**settings):
        page = open_page(address, **settings)
        button(page, "Draw").wait_for()
        return page

    return opened


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def choose(page, label, name):
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=name, exact=True).click()


def field(page, label):
    return page.get_by_label(label, exact=True).locator("visible=true").first


def pixels(page, image):
    """The pixels of a picture on the page, as they came from the server."""
    answer = page.request.get(image.get_attribute("src"))
    assert answer.ok
    with Image.open(io.BytesIO(answer.body())) as opened:
        return np.array(opened)


def drawn(page, n=16):
    """Press Draw, and wait for the pictures."""
    button(page, "Draw").click()
    page.locator("#samples .thumbnail-item img").nth(n - 1).wait_for()
    return page.locator("#samples .thumbnail-item img")


def test_samples_are_those_of_the_command(workshop):
    page = workshop()
    field(page, "Number").fill("20")
    field(page, "Seed").fill("5")
    images = drawn(page, 20)
    expected = to_uint8(ganzoo.sample(ganzoo.from_pretrained("dcgan.mnist"), 20, seed=5))[..., 0]
    for i in (0, 19):
        assert np.array_equal(pixels(page, images.nth(i)), expected[i])
    with page.expect_download() as download:
        page.locator("#files a", has_text="KB").last.click()
    assert download.value.suggested_filename == "latents.safetensors"


def test_class_and_call_options(workshop, place):
    page = workshop()
    choose(page, "Generator", "dcgan.nouns")
    page.get_by_text("in 23 classes").wait_for()
    choose(page, "Class", "square-teal")
    images = drawn(page, 16)
    g = ganzoo.from_pretrained("dcgan.nouns")
    expected = to_uint8(ganzoo.sample(g, 16, labels="square-teal"))
    page.wait_for_function("document.querySelector('#samples .caption-label').textContent.includes('square-teal')")
    assert np.array_equal(pixels(page, images.nth(3)), expected[3])
    choose(page, "Generator", "runs/styles (run)")
    field(page, "truncation").wait_for()
    field(page, "truncation").fill("0")
    choose(page, "noise", "none")
    images = drawn(page)
    assert np.array_equal(pixels(page, images.nth(0)), pixels(page, images.nth(9)))


def test_a_slider_moves_a_sample(workshop):
    page = workshop()
    drawn(page)
    tab(page, "Directions")
    moved = page.locator("#moved img")
    moved.wait_for()
    before = moved.get_attribute("src")
    page.locator("#direction-1 input[type=range]").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#direction-1 input[type=number]').value === '2'")
    g = ganzoo.from_pretrained("dcgan.mnist")
    expected = to_uint8(render(g, directions(g, 6).move(sampled(g, 1), 1, 2.0)))[0, :, :, 0]
    page.wait_for_function("src => document.querySelector('#moved img').src !== src", arg=before)
    deadline = time.monotonic() + 20
    while np.abs(pixels(page, moved).astype(int) - expected).max() > 1:
        assert time.monotonic() < deadline, "the slider's picture did not come"
        time.sleep(0.2)


def test_a_walk_between_chosen_pictures(workshop):
    page = workshop()
    drawn(page)
    tab(page, "Walk")
    field(page, "Samples to walk between").fill("0")
    tab(page, "Samples")
    page.locator("#samples .thumbnail-item").nth(3).click()
    tab(page, "Walk")
    page.wait_for_function("document.querySelector('#numbers textarea').value === '0, 3'")
    field(page, "Frames from one to the next").fill("15")
    button(page, "Walk").click()
    page.locator("#video video").wait_for()
    page.wait_for_function("document.querySelector('#video video').duration > 0")
    assert page.evaluate("document.querySelector('#video video').duration") == pytest.approx(1.0, abs=0.1)


def test_upload_and_invert(workshop, place):
    page = workshop()
    drawn(page)
    tab(page, "Your picture")
    page.locator("#upload input[type=file]").set_input_files(place / "digit.png")
    page.locator("#seen img").wait_for()
    button(page, "Find its latents").click()
    page.locator("#pair").get_by_text(re.compile(r"\d+ of 200 steps of 1 image")).first.wait_for()
    page.get_by_text("It is sample 16 now").wait_for()
    distance = float(re.search(r"distance is (\d\.\d+)", page.locator("#inverted").inner_text())[1])
    assert distance < 0.3
    tab(page, "Samples")
    assert page.locator("#samples .thumbnail-item").count() == 17


def test_a_bad_upload_is_explained_and_costs_nothing(workshop, place):
    page = workshop()
    drawn(page)
    tab(page, "Your picture")
    page.locator("#upload input[type=file]").set_input_files(place / "bad.png")
    page.get_by_text("bad.png cannot be read as an image").first.wait_for()
    tab(page, "Samples")
    assert page.locator("#samples .thumbnail-item").count() == 16
    drawn(page)


def test_a_request_for_a_file_that_was_not_uploaded_is_refused(workshop, place, address):
    """A page or a person that writes a path of this machine where an upload belongs."""
    page = workshop()
    tab(page, "Your picture")
    answers = []

    def forged(route):
        body = route.request.post_data or ""
        if "digit.png" in body:
            content = json.loads(body)
            for value in content["data"]:
                if isinstance(value, dict) and "path" in value:
                    value["path"] = str(place / "runs" / "first" / "samples" / "step-0000002.png")
            route.continue_(post_data=json.dumps(content))
            answers.append(True)
        else:
            route.continue_()

    page.route("**/queue/join*", forged)
    page.locator("#upload input[type=file]").set_input_files(place / "digit.png")
    page.locator(".toast-body.error").first.wait_for()
    assert answers
    assert page.locator("#seen img").count() == 0
    page.unroute("**/queue/join*")


def start_long_inversion(page, place):
    tab(page, "Your picture")
    page.locator("#upload input[type=file]").set_input_files(place / "digit.png")
    page.locator("#seen img").wait_for()
    page.get_by_role("spinbutton", name="Steps").locator("visible=true").fill("1000")
    page.keyboard.press("Tab")
    button(page, "Find its latents").click()
    page.locator("#pair").get_by_text(re.compile(r"\d+ of 1000 steps")).first.wait_for()


def test_two_tabs_take_turns_and_a_stopped_job_ends(workshop, place):
    first, second = workshop(), workshop()
    start_long_inversion(first, place)
    button(second, "Draw").click()
    second.get_by_text("queue:").first.wait_for()
    assert second.locator("#samples .thumbnail-item").count() == 0
    first.locator("button:visible", has_text="Stop").click()
    first.get_by_text("The job was stopped.").first.wait_for()
    second.locator("#samples .thumbnail-item").nth(15).wait_for()


def test_a_closed_tab_stops_its_job(workshop, place):
    first, second = workshop(), workshop()
    start_long_inversion(first, place)
    left = re.search(r"about (\d+) s left", first.locator("body").inner_text())
    first.close()
    began = time.monotonic()
    drawn(second)
    assert left is None or time.monotonic() - began < int(left[1])


def test_side_by_side(workshop):
    page = workshop()
    tab(page, "Side by side")
    choose(page, "The other", "dcgan.nouns")
    button(page, "Draw both").click()
    page.locator("#side-1 img").nth(15).wait_for()
    g = ganzoo.from_pretrained("dcgan.nouns")
    assert np.array_equal(pixels(page, page.locator("#side-1 img").nth(2)), to_uint8(ganzoo.sample(g, 16))[2])


def test_translation(workshop, place):
    page = workshop()
    choose(page, "Generator", "runs/translation (run)")
    button(page, "Translate").wait_for()
    page.locator("#uploads input[type=file]").set_input_files([place / "digit.png"])
    page.locator("#uploads").get_by_text("KB").first.wait_for()
    choose(page, "Inputs made from the pictures", "grey")
    button(page, "Translate").click()
    image = page.locator("#translated img").first
    image.wait_for()
    assert pixels(page, image).shape == (284, 566, 3)


def test_an_error_of_the_generator_is_explained(workshop):
    page = workshop()
    page.get_by_label("Generator", exact=True).fill("dcgan.nuns")
    page.keyboard.press("Enter")
    page.get_by_text("did you mean 'dcgan.nouns'").wait_for()
    page.get_by_label("Generator", exact=True).fill("../elsewhere")
    page.keyboard.press("Enter")
    page.get_by_text("this page does not offer ../elsewhere").wait_for()


def test_the_keyboard_alone(workshop):
    page = workshop()
    focused = "document.activeElement.textContent.trim() || document.activeElement.getAttribute('aria-label')"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "Draw":
            break
    else:
        pytest.fail("Draw was not reached")
    page.keyboard.press("Enter")
    page.locator("#samples .thumbnail-item").nth(15).wait_for()
    page.get_by_role("tab", name="Samples", exact=True).focus()
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "Directions":
            break
    page.keyboard.press("Enter")
    page.locator("#moved img").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_telephone(workshop, scheme):
    page = workshop(width=400, height=800, scheme=scheme)
    drawn(page)
    for name in ("Samples", "Directions", "Walk", "Your picture", "Side by side", "Training runs"):
        tab(page, name)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, name
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = np.mean([int(part) for part in re.findall(r"\d+", background)[:3]]) < 128
    assert dark == (scheme == "dark")


def test_following_runs(workshop, place):
    page = workshop()
    tab(page, "Training runs")
    frame = page.frame_locator("#run-frame iframe")
    frame.locator("h1", has_text="onerror=alert").wait_for()  # the newest one, as text
    page.get_by_label("Runs", exact=True).click()
    for name in ("runs/first", "runs/second"):
        if page.get_by_role("option", name=name, exact=True).get_attribute("aria-selected") != "true":
            page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")
    frame.locator("h1", has_text="first").wait_for()
    assert "second" in frame.locator("h1").inner_text()
    assert frame.locator("#reload").is_checked()
    for picture in (place / "runs" / "first" / "samples").glob("step-0000006.png"):
        shutil.copyfile(picture, picture.with_name("step-0000008.png"))
    frame.locator("body").evaluate("() => location.reload()")  # as it does itself every 30 seconds
    frame.get_by_text("step 8").first.wait_for()
    (place / "runs" / "first" / "samples" / "step-0000008.png").unlink()
    shutil.copytree(place / "runs" / "first", place / "runs" / "later")
    later = page.get_by_role("option", name="runs/later", exact=True)
    deadline = time.monotonic() + 30
    while not later.is_visible():  # the list opens when it gets the focus
        assert time.monotonic() < deadline, "the new run did not appear"
        page.get_by_role("heading", name="ganzoo workshop").click()
        page.get_by_label("Runs", exact=True).click()
        page.wait_for_timeout(2000)


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_run(open_page, place, width, scheme):
    page = open_page((place / "runs" / "first" / "report.html").as_uri(), width=width, scheme=scheme)
    slider, image = page.locator("#slider"), page.locator("figure img")
    last = image.get_attribute("src")
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator("#at").inner_text() == f"step {sorted(steps(place))[0]}"
    assert image.get_attribute("src") != last
    page.keyboard.press("End")
    assert image.get_attribute("src") == last
    button(page, "Play").click()
    button(page, "Pause").wait_for()
    button(page, "Play").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".plot canvas").count() > 1
    assert re.search(r"step\s*6\s*discriminator\s*\d", page.locator(".u-legend").first.inner_text())  # the last values


def steps(place: Path) -> list[int]:
    return [int(path.stem[5:]) for path in (place / "runs" / "first" / "samples").glob("*.png")]
