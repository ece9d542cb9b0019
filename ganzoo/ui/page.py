"""The page of the workshop: choosing a generator, what can be done with it, and following training runs."""

import html
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from torch import nn

from ganzoo.errors import GanzooError
from ganzoo.sampling.classes import class_names
from ganzoo.sampling.draw import class_count
from ganzoo.sampling.options import takes_inputs
from ganzoo.sampling.sound import rate_of
from ganzoo.ui import tabs
from ganzoo.ui.jobs import Jobs, Stopped
from ganzoo.ui.offers import Offers, settings

Values = dict[Any, Any]
"""The values of components, by component."""
TURN = "turn"
"""The queue of all jobs, of which one runs at a time."""
LOOK = 5
"""Seconds between two looks at the folder of runs."""
COMPARED = 4
"""Runs that are shown side by side at most."""
RUN_PAGE = "/run-page"
"""The path of the page of runs, whose names it takes as `run`."""
SHOWN_FOR = 30
"""Seconds that a message about something that did not work is shown."""

CSS = """
.pictures img, .picture img { image-rendering: pixelated; }
iframe.run { width: 100%; height: 75vh; min-height: 480px; border: 1px solid var(--border-color-primary); border-radius: 6px; }
footer { display: none !important; }
"""


class Workshop:
    """The parts of the page, and what its events share.

    Args:
        offers: what can be chosen.
        jobs: the jobs of all tabs of the browser.
        folder: where files for download are written.
    """

    def __init__(self, offers: Offers, jobs: Jobs, folder: Path) -> None:
        self.offers, self.jobs, self.folder = offers, jobs, folder

    def build(self) -> gr.Blocks:
        """The page."""
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

    def job(
        self, work: Callable[[Values], Any], generators: Callable[[Values], Sequence[nn.Module]], what: str
    ) -> Callable[..., Any]:
        """An event that computes. Errors are shown, and what the page showed before stays.

        Args:
            work: takes the values of the inputs and returns those of the outputs.
            generators: those that it calls.
            what: what it does, as progress says it before the first step is done.
        """

        def run(values: Values, request: gr.Request, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
            def tell(done: int, total: int, text: str) -> None:
                progress((done, total), desc=text)

            try:
                with self.jobs.running(str(request.session_hash), list(generators(values)), tell):
                    progress(0, desc=f"{what} on {self._device()}")
                    return work(values)
            except Stopped:
                gr.Info("The job was stopped.", duration=5, title="Stopped")
            except GanzooError as error:
                gr.Warning(html.escape(str(error)), duration=SHOWN_FOR, title="That did not work")
            return gr.skip()

        return run

    def stop(self, request: gr.Request) -> None:
        """Stop the job of the tab."""
        if not self.jobs.stop(str(request.session_hash)):
            gr.Info("Nothing of this page is running.", duration=5, title="Stop")

    def new_folder(self) -> Path:
        """An empty folder for files to download."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def _closed(self, request: gr.Request) -> None:
        self.jobs.close(str(request.session_hash))

    def _device(self) -> str:
        return "the CPU" if self.offers.device.type == "cpu" else str(self.offers.device)

    def _generator(self, page: gr.Blocks) -> None:
        choices = self.offers.choices()
        with gr.Row():
            source = gr.Dropdown(
                choices, value=choices[0][1] if choices else None, label="Generator", scale=4, elem_id="source",
                allow_custom_value=self.offers.hub,
                info="A run, pretrained weights" + (", or hf-hub:ORG/NAME" if self.offers.hub else ""),
            )  # fmt: skip
            again = gr.Button("Load again", scale=0, min_width=120, size="sm")
        about = gr.Markdown("Loading the generator.", elem_id="about")
        loaded = gr.State("")

        def load(name: str | None, *, again: bool = False) -> Any:
            if not name:
                return "", "There is nothing to choose yet: train a generator first."
            try:
                g = self.offers.load(name, again=again)
            except GanzooError as error:
                return "", f"⚠ {_plain(str(error))}"
            return name, self._about(g)

        shared: dict[str, Any] = {
            "inputs": source, "outputs": [loaded, about], "concurrency_id": TURN, "concurrency_limit": 1,
            "api_visibility": "private",
        }  # fmt: skip
        page.load(load, **shared)
        source.change(load, **shared)
        again.click(lambda name: load(name, again=True), **shared)
        if self.offers.has_runs:  # a run that has its first checkpoint becomes a generator
            self._refreshed(source, self.offers.choices)

        @gr.render(inputs=loaded, triggers=[loaded.change], concurrency_limit=None)
        def show(name: str) -> None:
            if name:
                tabs.build(self, name)

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
        return f"This generator {makes}{classes} and has {size:,} weights. It computes on {self._device()}{slow}."

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


def _plain(text: str) -> str:
    """A text as Markdown in which nothing is markup."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|~#$&" else c for c in text)
