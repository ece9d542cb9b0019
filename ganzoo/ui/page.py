"""The page of the workshop: choosing a generator, what can be done with it, and following training runs."""

import html
import itertools
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from torch import nn

from ganzoo.errors import GanzooError
from ganzoo.sampling.draw import class_count
from ganzoo.sampling.options import takes_inputs
from ganzoo.sampling.sound import rate_of
from ganzoo.ui import tabs
from ganzoo.ui.desk import TURN, Desk
from ganzoo.ui.fields import plain
from ganzoo.ui.offers import settings

LOOK = 5
"""Seconds between two looks at the folder of runs."""
COMPARED = 4
"""Runs that are shown side by side at most."""
RUN_PAGE = "/run-page"
"""The path of the page of runs, whose names it takes as `run`."""

CSS = """
.pictures img, .pictures .grid-container { grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)) !important; }
.pictures .grid-wrap { max-height: 80vh !important; }
.picture img { image-rendering: pixelated; }
.pictures .grid-container { grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)) !important; }
.pictures .grid-wrap { max-height: 80vh !important; }
.picture img { width: 100% !important; height: 100% !important; object-fit: contain !important; }
.pictures.wide .grid-container { grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)) !important; }
.pictures.wide .thumbnail-lg { aspect-ratio: auto !important; }
iframe.run { width: 100%; height: 75vh; min-height: 480px; border: 1px solid var(--border-color-primary); }
footer { display: none !important; }
"""


class Workshop:
    """The page.

    Args:
        desk: what its events share.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk, self.offers = desk, desk.offers

    def build(self) -> gr.Blocks:
        """The page."""
        page: gr.Blocks
        with gr.Blocks(title="ganzoo workshop", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
            gr.Markdown("# ganzoo workshop")
            if self.offers.has_runs:
                with gr.Tab("Generator"):
                    self._generator(page)
                with gr.Tab("Training runs"):
                    self._runs(page)
            else:
                self._generator(page)
            page.unload(self._closed)
        page.queue(default_concurrency_limit=1, max_size=64)
        return page

    def _closed(self, request: gr.Request) -> None:
        self.desk.jobs.close(str(request.session_hash))

    def _generator(self, page: gr.Blocks) -> None:
        choices = self.offers.choices()
        with gr.Row():
            source = gr.Dropdown(
                choices, value=choices[0][1] if choices else None, label="Generator", scale=4, interactive=True,
                elem_id="source", allow_custom_value=self.offers.hub,
                info="A run, pretrained weights" + (", or hf-hub:ORG/NAME" if self.offers.hub else ""),
            )  # fmt: skip
            again = gr.Button("Load again", scale=0, min_width=120, size="sm")
        about = gr.Markdown("Loading the generator.", elem_id="about")
        loaded = gr.State()
        count = itertools.count()

        def load(name: str | None, *, again: bool = False) -> Any:
            if not name:
                return None, "There is nothing to choose yet: train a generator first."
            try:
                g = self.offers.load(name, again=again)
            except GanzooError as error:
                return None, f"⚠ {plain(str(error))}"
            return (name, next(count)), self._about(g)  # counted, so that the tabs are built anew each time

        shared: dict[str, Any] = {
            "inputs": source, "outputs": [loaded, about], "concurrency_id": TURN, "concurrency_limit": 1,
            "api_visibility": "private",
        }  # fmt: skip
        page.load(load, **shared)
        source.change(load, **shared)
        again.click(lambda name: load(name, again=True), **shared)
        if self.offers.has_runs:  # a run that has its first checkpoint becomes a generator
            self._refreshed(source, self.offers.choices)

        @gr.render(inputs=loaded, triggers=[loaded.change], concurrency_limit=None)  # type: ignore[untyped-decorator]
        def show(chosen: tuple[str, int] | None) -> None:
            if chosen:
                tabs.build(self.desk, chosen[0])

    def _about(self, g: nn.Module) -> str:
        """A sentence about a generator."""
        config, count, rate = settings(g), class_count(g), rate_of(g)
        makes = f"makes pictures of {config.get('image_size')} pixels"
        if takes_inputs(g):
            makes = "translates pictures"
        elif rate is not None:
            makes = f"makes sounds at {rate:,} Hz"
        elif "image_size" not in config:
            makes = "makes neither pictures nor sounds"
        classes = "" if count is None else f" in {count} classes"
        size = sum(parameter.numel() for parameter in g.parameters())
        slow = ""
        if self.offers.device.type == "cpu":
            slow = ", where a large one takes its time: each job says how far it is, and can be stopped"
        return f"This generator {makes}{classes} and has {size:,} weights. It computes on {self.desk.place}{slow}."

    def _refreshed(self, component: gr.Dropdown, choices: Callable[[], Sequence[Any]]) -> None:
        """Keep the choices of a dropdown up to date."""
        shown = gr.State(list(component.choices))

        def look(before: list[Any]) -> Any:
            now = [tuple(choice) if isinstance(choice, list | tuple) else (choice, choice) for choice in choices()]
            return (gr.skip(), gr.skip()) if now == [tuple(one) for one in before] else (gr.update(choices=now), now)

        gr.Timer(LOOK).tick(
            look, shown, [component, shown], queue=False, show_progress="hidden", api_visibility="private"
        )

    def _runs(self, page: gr.Blocks) -> None:
        names = list(self.offers.runs())
        runs = gr.Dropdown(
            names, value=names[:1], multiselect=True, max_choices=COMPARED, label="Runs", elem_id="runs",
            interactive=True,
            info=f"Up to {COMPARED} side by side, the newest first. The page follows them as they go.",
        )  # fmt: skip
        frame = gr.HTML(elem_id="run-frame", apply_default_css=False)

        def show(chosen: list[str] | None) -> str:
            if not chosen:
                return "<p>Choose a run. One that starts later appears in the list by itself.</p>"
            query = html.escape(urlencode([("run", name) for name in chosen]))
            title = html.escape(" and ".join(chosen))
            return f'<iframe class="run" src="{RUN_PAGE}?{query}#follow" title="The page of {title}"></iframe>'

        shared: dict[str, Any] = {"inputs": runs, "outputs": frame, "queue": False, "api_visibility": "private"}
        page.load(show, **shared)
        runs.change(show, **shared)
        self._refreshed(runs, lambda: list(self.offers.runs()))
