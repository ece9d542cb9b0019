"""What the events of a page share: its offers, its jobs, and how a job shows progress and errors."""

import html
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from torch import nn

from ganzoo.errors import GanzooError
from ganzoo.ui.fields import Values
from ganzoo.ui.jobs import Jobs, Stopped
from ganzoo.ui.offers import Offers

TURN = "turn"
"""The queue of all jobs, of which one runs at a time."""
SHOWN_FOR = 30
"""Seconds that a message about something that did not work is shown."""


class Desk:
    """What the events of a page share.

    Args:
        offers: what can be chosen.
        jobs: the jobs of all tabs of the browser.
        folder: where files for download are written.
    """

    def __init__(self, offers: Offers, jobs: Jobs, folder: Path) -> None:
        self.offers, self.jobs, self.folder = offers, jobs, folder

    @property
    def place(self) -> str:
        """Where generators compute, in words."""
        return "the CPU" if self.offers.device.type == "cpu" else str(self.offers.device)

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
                    progress(0, desc=f"{what} on {self.place}")
                    return work(values)
            except Stopped:
                gr.Info("The job was stopped.", duration=5, title="Stopped")
            except GanzooError as error:
                gr.Warning(html.escape(str(error)), duration=SHOWN_FOR, title="That did not work")
            return gr.skip()

        return run

    def stop(self, request: gr.Request) -> None:
        """Stop the job of the tab."""
        self.jobs.stop(str(request.session_hash))

    def new_folder(self) -> Path:
        """An empty folder for files to download."""
        return Path(tempfile.mkdtemp(dir=self.folder))
