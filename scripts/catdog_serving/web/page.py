"""The page of `catdog web`, in Gradio: what is on it, and what happens when.

The page is a client of the running server, as any other program is. It needs no
network but that: fonts are the system's own, and nothing is reported to anybody.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from catdog_serving.client import CatDogClient
from catdog_serving.errors import NotReadyError, ServerError
from catdog_serving.folder.outputs import to_csv
from catdog_serving.operate.serving_config import ServingConfig
from catdog_serving.web import views
from catdog_serving.web.explained import LARGE_SIDE, SMALL_SIDE, ShownPicture, show_pictures
from catdog_serving.web.service import Service

MAX_FILES = 200  # at a time: the gallery of so many is about 5 MB
VISITORS = 4  # whose pictures are asked for at once; others wait
KEEP_FILES_S = 600  # what was uploaded, and tables that were made
RETRIES = 1  # a person waits
_OPACITY = """(percent) => {
  for (const page of document.querySelectorAll(".gradio-container"))
    page.style.setProperty("--cd-opacity", percent / 100);
}"""
_FILTER = """(label) => {
  const gallery = document.getElementById("cd-gallery");
  if (gallery) gallery.dataset.show = label;
}"""


@dataclass(frozen=True)
class WebSettings:
    """Where the page is, and for whom.

    Attributes:
        host, port: Where it listens; port 0 is a free one.
        auth: User and password, or None for everybody.
        server_url: The prediction server's address.
        config: The configuration of this machine's server, for tokens and the service tab.
    """

    host: str
    port: int
    auth: tuple[str, str] | None
    server_url: str
    config: ServingConfig


@contextmanager
def running_page(settings: WebSettings) -> Iterator[str]:
    """Serve the page; gives its address, and ends it.

    Raises:
        NotReadyError: If Gradio is not installed, or the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="catdog-web-") as scratch:
        # Read when Gradio is imported, or at the first upload.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": scratch}
        try:
            import gradio as gr
        except ImportError as error:
            raise NotReadyError(
                f"the page needs {error.name}; run: pip install 'catdog[web]'"
            ) from error
        with CatDogClient(
            settings.server_url, config=settings.config.path, retries=RETRIES
        ) as client:
            page = _page(gr, _Answers(client), Service(settings.config))
            theme = gr.themes.Default(
                primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]
            )
            try:
                _, url, _ = page.launch(
                    server_name=settings.host,
                    server_port=settings.port or None,
                    auth=settings.auth,
                    max_file_size=settings.config.max_request_size,
                    theme=theme,
                    css=resources.files(__package__).joinpath("page.css").read_text("utf-8"),
                    footer_links=[],
                    prevent_thread_lock=True,
                    quiet=True,
                    share=False,
                    ssr_mode=False,
                    mcp_server=False,
                    enable_monitoring=False,
                )
            except OSError as error:
                raise NotReadyError(
                    f"port {settings.port} on {settings.host} is taken; choose another with --port"
                ) from error
            try:
                yield url.rstrip("/")
            finally:
                page.close(verbose=False)


class _Answers:
    """What the page's events do."""

    def __init__(self, client: CatDogClient) -> None:
        self._client = client

    def dropped(self, files: list[str] | None) -> Iterator[tuple[str, str, list[Any]]]:
        """Message, result and rows, again as more pictures are done."""
        if not files:
            yield "", "", []
            return
        paths = [Path(file) for file in files]
        if len(paths) > MAX_FILES:
            yield (
                views.problem(
                    f"{len(paths)} pictures are too many for one go: drop at most {MAX_FILES}, "
                    "or use: catdog classify FOLDER"
                ),
                "",
                [],
            )
            return
        shown: list[ShownPicture] = []
        try:
            side = LARGE_SIDE if len(paths) == 1 else SMALL_SIDE
            for one in show_pictures(self._client, paths, side):
                shown.append(one)
                if len(shown) < len(paths) and len(shown) % 8 == 0:
                    yield (
                        views.message(f"{len(shown)} of {len(paths)} ..."),
                        views.gallery(shown),
                        [],
                    )
        except ServerError as error:
            yield views.server_problem(error, self._client.url), views.gallery(shown), []
            return
        if len(shown) == 1:
            yield "", views.alone(shown[0]), []
        else:
            yield views.summary(shown), views.gallery(shown), [one.row for one in shown]

    def taken(self, photo: str | None) -> Iterator[tuple[str, str, list[Any]]]:
        """The same for a photo of the camera."""
        yield from self.dropped([photo] if photo else None)


def write_table(rows: list[Any]) -> str | None:
    """The gallery as a CSV file."""
    if not rows:
        return None
    folder = tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"])
    path = Path(folder) / "catdog.csv"
    path.write_bytes(b"".join(to_csv(rows)))
    return str(path)


def _page(gr: Any, answers: _Answers, service: Service) -> Any:
    """Everything on the page. Events are private: the page is no second API."""

    def on(event: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return event(*arguments, api_visibility="private", **options)

    with gr.Blocks(
        title="catdog", analytics_enabled=False, delete_cache=(KEEP_FILES_S, KEEP_FILES_S)
    ) as page:
        gr.HTML(
            '<div class="cd-head"><h1>catdog</h1>'
            '<span class="cd-muted">cats from dogs in pictures, and where they are</span></div>'
        )
        with gr.Tab("Pictures"):
            files = gr.File(
                file_count="multiple",
                label=f"Drop one picture, or up to {MAX_FILES}",
                height=150,
                elem_id="cd-drop",
            )
            with gr.Accordion("Use the camera", open=False):
                photo = gr.Image(sources=["webcam"], type="filepath", format="jpeg", label="Camera")
            message = gr.HTML(elem_id="cd-message")
            with gr.Row(visible=False) as tools:
                opacity = gr.Slider(0, 100, 60, step=5, label="Map, in % of opacity")
                label = gr.Radio(["all", *views.LABELS], value="all", label="Show")
                table = gr.DownloadButton("Download the table (CSV)", size="md")
            result = gr.HTML(elem_id="cd-result")
            rows = gr.State([])
        with gr.Tab("Service") as tab:
            facts = gr.HTML(elem_id="cd-service")
            clock = gr.Timer(2, active=False)

        def set_tools(done: list[Any], shown: str) -> list[Any]:
            many = bool(done)
            return [
                gr.Row(visible=bool(shown)),
                gr.Radio(value="all", visible=many),
                gr.DownloadButton(value=write_table(done), visible=many),
            ]

        outputs = [message, result, rows]
        for event, source, fn in (
            (files.change, files, answers.dropped),
            (photo.change, photo, answers.taken),
        ):
            on(
                event, fn, source, outputs, show_progress="minimal", concurrency_limit=VISITORS
            ).then(set_tools, [rows, result], [tools, label, table], api_visibility="private")
        on(opacity.input, None, opacity, None, js=_OPACITY)
        on(label.input, None, label, None, js=_FILTER)
        on(tab.select, service.view, None, facts)
        on(tab.select, lambda: gr.Timer(active=True), None, clock)
        on(clock.tick, service.view, None, facts, show_progress="hidden")
    return page
