"""Take the pictures of docs/workshop.md: the workshop and the page of a run, as Chromium shows them.

python docs/screenshots.py

It trains for a few seconds in a temporary folder, serves that folder, and needs the extra `test` and a Chromium.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import ganzoo

SIZE = {"width": 1100, "height": 760}
LARGEST = 150_000
"""Bytes of a picture at most."""
COLOURS = (256, 128, 64, 32)
"""Numbers of colours that are tried until a picture is small enough."""


def samples(page: Any) -> None:
    """Draw samples of a generator."""
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#samples .thumbnail-item").nth(15).wait_for()


def directions(page: Any) -> None:
    """Move a sample along two directions."""
    samples(page)
    page.get_by_role("tab", name="Directions").click()
    for number, turns in ((0, 25), (2, 12)):
        page.locator(f"#direction-{number} input[type=range]").focus()
        for _ in range(turns):
            page.keyboard.press("ArrowRight")
    page.locator("#moved img").wait_for()


def runs(page: Any) -> None:
    """Compare two runs."""
    page.get_by_role("tab", name="Training runs").click()
    page.get_by_label("Runs", exact=True).click()
    page.get_by_role("option").nth(1).click()
    page.keyboard.press("Escape")
    page.frame_locator("#run-frame iframe").locator("h1", has_text=" and ").wait_for()


SHOTS: dict[str, Callable[[Any], None]] = {"samples": samples, "directions": directions, "runs": runs}


def shoot(browser: Browser, address: str, act: Callable[[Any], None], out: Path) -> None:
    """Open the workshop, act on it, and write what it looks like then."""
    page: Any = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]  # a dict is as good
    page.goto(address)
    page.get_by_role("button", name="Draw", exact=True).wait_for()
    act(page)
    page.wait_for_timeout(1500)  # until what moves has come to rest
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    for colours in COLOURS:
        image.quantize(colours).save(out, optimize=True)
        if out.stat().st_size <= LARGEST:
            return
    sys.exit(f"{out} has {out.stat().st_size:,} bytes, more than {LARGEST:,}")


def train(folder: Path) -> None:
    """Two small runs, to have something to compare."""
    small = {"width": 16}
    for name, lr in (("faster", 1e-3), ("slower", 2e-4)):
        config = ganzoo.TrainConfig(
            "dcgan", steps=80, batch_size=16, lr=lr, sample_every=10, log_every=5, generator=small,
            discriminator=small, out=str(folder / "runs" / name),
        )  # fmt: skip
        ganzoo.train(config)


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of docs/workshop.md.")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "_static")
    out = parser.parse_args().out.resolve()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("there is no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder))
        command = [sys.executable, "-m", "ganzoo", "ui", "dcgan.nouns", "--no-open", "--port", "0"]
        environment = {**os.environ, "GANZOO_CACHE": f"{folder}/cache"}
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            try:
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                    for name, act in SHOTS.items():
                        shoot(browser, address, act, out / f"workshop-{name}.png")
                        print(out / f"workshop-{name}.png")
                    browser.close()
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
