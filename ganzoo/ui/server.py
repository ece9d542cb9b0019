"""The server of the workshop. It answers its own page alone, and serves no file but those that the page made."""

import os
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Read by gradio when it is imported: it must not call home.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from fastapi.middleware import Middleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse

from ganzoo.errors import ConfigError, GanzooError
from ganzoo.files import reason
from ganzoo.report.page import render
from ganzoo.report.record import read_record
from ganzoo.ui.desk import Desk
from ganzoo.ui.jobs import Jobs
from ganzoo.ui.offers import Offers
from ganzoo.ui.page import COMPARED, CSS, RUN_PAGE, Workshop

PORT, PORTS = 7860, 20
"""The first port that is tried, and how many."""
LARGEST_UPLOAD = "64mb"
LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names of this machine alone."""
GRACE = 2
"""Seconds that open connections get when the server ends."""


class OwnPageOnly:
    """Refuses requests that the page of another site sends, which a browser marks by their origin.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] in ("http", "websocket"):
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            origin = headers.get(b"origin")
            if origin is not None and urlsplit(origin).netloc != headers.get(b"host"):
                await PlainTextResponse("This page answers no other site.", 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def application(offers: Offers, jobs: Jobs, folder: Path, hosts: list[str] | None) -> FastAPI:
    """The application of the page.

    Args:
        offers: what the page offers.
        jobs: its jobs.
        folder: an empty folder for uploads and for files to download, which are the only ones that are served.
        hosts: the names under which it may be asked for, against pages that rebind their own name to this machine;
            None: any, and from the pages of any site, behind the proxy of a Space.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts or ["*"]), Middleware(OwnPageOnly)]
    app = FastAPI(middleware=guards[: 2 if hosts else 0], docs_url=None, redoc_url=None, openapi_url=None)
    encoded: dict[Path, str] = {}
    turn = threading.Lock()

    @app.get(RUN_PAGE)
    def run_page(request: Request) -> HTMLResponse:
        """The page of runs, as they are now."""
        names, known = request.query_params.getlist("run"), offers.runs()
        chosen = [known[name] for name in names if name in known][:COMPARED]
        headers = {"Content-Security-Policy": "sandbox allow-scripts", "Cache-Control": "no-store"}
        if not chosen:
            return HTMLResponse("There is no such run here.", 404, headers)
        try:
            with turn:
                return HTMLResponse(render([read_record(path) for path in chosen], encoded), headers=headers)
        except (GanzooError, OSError, ValueError):
            return HTMLResponse("The run cannot be read just now.", 503, headers)

    page = Workshop(Desk(offers, jobs, folder)).build()
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    gr.mount_gradio_app(
        app, page, path="/", theme=theme, css=CSS, ssr_mode=False, run_history=False, footer_links=[],
        max_file_size=LARGEST_UPLOAD, enable_monitoring=False, pwa=False, mcp_server=False, show_error=True,
    )  # fmt: skip
    page.has_launched = True  # gradio checks the paths in requests only once it believes that
    return app


def serve(
    offers: Offers,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    started: Callable[[str], Any] = print,
    open_browser: bool = False,
    public: bool = False,
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        offers: what it offers.
        host: the address to listen on.
        port: the port; 0: any free one; None: the first free one from 7860.
        started: is told the address of the page when it can be opened.
        open_browser: open it in a browser.
        public: answer under any name, behind a proxy.

    Raises:
        ConfigError: the address or the port cannot be used.
    """
    listener = _listen(host, port)
    number = listener.getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else name}:{number}/"
    hosts = None if public else [*LOCAL, "[::1]", host] if host in LOCAL else ["*"]
    jobs = Jobs()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started(address)
            if open_browser:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        def handle_exit(self, sig: int, frame: Any) -> None:
            jobs.end()
            super().handle_exit(sig, frame)

    with tempfile.TemporaryDirectory(prefix="ganzoo-ui-", ignore_cleanup_errors=True) as folder, listener:
        app = application(offers, jobs, Path(folder).resolve(), hosts)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE)
        Server(config).run(sockets=[listener])


def serve_space(source: str) -> None:
    """Serve the page of one generator as a Hugging Face Space expects it.

    Args:
        source: a SOURCE.
    """
    serve(Offers([source], pretrained=False), host="0.0.0.0", port=PORT, public=True)


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket on the first of the ports that is free.

    Raises:
        ConfigError: there is none, or the address is not one of this machine.
    """
    ports = range(PORT, PORT + PORTS) if port is None else [port]
    for number in ports:
        try:
            family, _, _, _, place = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                if os.name == "posix":
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(place)
            except OSError:
                listener.close()
                raise
        except (OSError, OverflowError) as error:
            if number == ports[-1]:
                raise ConfigError(
                    f"the page cannot listen on {host} port {number}: {reason(error)}. Choose another --port or --host"
                ) from error
        else:
            return listener
    raise ConfigError("there is no port to listen on")  # not reached: `ports` is never empty
