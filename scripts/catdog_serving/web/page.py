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
from typing import Any

from catdog_serving.errors import NotReadyError
from catdog_serving.extras import install_hint
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.tokens import open_client
from catdog_serving.web import views
from catdog_serving.web.dropped_images import MAX_FILES, Answer, Answers, Progress
from catdog_serving.web.server_tab import Service
from catdog_serving.web.visitor import Visitor

VISITORS = 4  # whose images are asked for at once; others wait
KEEP_FILES_S = 600  # what was uploaded
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
        token: The key that another server wants; None: see `open_client`.
    """

    host: str
    port: int
    auth: tuple[str, str] | None
    server_url: str
    config: ServingConfig
    token: str | None = None


@contextmanager
def running_page(settings: WebSettings) -> Iterator[str]:
    """Serve the page; gives its address, and ends it.

    Raises:
        NotReadyError: If Gradio is not installed, or the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="catdog-web-") as scratch:
        os.environ |= _environment(settings.host, scratch)
        try:
            import gradio as gr
        except ImportError as error:
            raise NotReadyError(
                f"the page needs {error.name}; run: {install_hint('web')}"
            ) from error
        with open_client(
            settings.server_url, settings.config.path, token=settings.token, retries=RETRIES
        ) as client:
            page = _page(gr, Answers(client), Service(settings.config))
            theme = gr.themes.Default(
                primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]
            )
            try:
                _, url, _ = page.launch(
                    server_name=f"[{settings.host}]" if ":" in settings.host else settings.host,
                    server_port=settings.port or None,
                    auth=settings.auth,
                    max_file_size=settings.config.max_request_size,
                    theme=theme,
                    css=_text("page.css"),
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
                    f"cannot listen on port {settings.port} of {settings.host}: it is taken, or "
                    "no address of this machine; choose another with --port or --host"
                ) from error
            try:
                yield url.rstrip("/")
            finally:
                page.close(verbose=False)


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _environment(host: str, scratch: str) -> dict[str, str]:
    """What Gradio reads when it is imported, launched, or given the first upload.

    When launched it asks its own page whether it is there, and must not ask a proxy.
    """
    direct = {"localhost", "127.0.0.1", "::1", host}
    names = ("no_proxy", "NO_PROXY")
    named = [name for value in map(os.environ.get, names) if value for name in value.split(",")]
    no_proxy = ",".join([*named, *sorted(direct - set(named))])
    return dict.fromkeys(names, no_proxy) | {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": scratch,
    }


def _page(gr: Any, answers: Answers, service: Service) -> Any:
    """Everything on the page. Events are private: the page is no second API."""

    def on(event: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return event(*arguments, api_visibility="private", **options)

    with gr.Blocks(
        title="catdog", analytics_enabled=False, delete_cache=(KEEP_FILES_S, KEEP_FILES_S)
    ) as page:
        gr.HTML(
            '<div class="cd-head"><h1>catdog</h1>'
            '<span class="cd-muted">cats from dogs in images, and where they are</span></div>'
        )
        with gr.Tab("Images") as images:
            files = gr.File(
                file_count="multiple",
                label=f"Drop or choose up to {MAX_FILES} images",
                height=110,
                elem_id="cd-drop",
            )
            with gr.Accordion("Use the camera", open=False):
                photo = gr.Image(sources=["webcam"], type="filepath", format="jpeg", label="Camera")
            message = gr.HTML(elem_id="cd-message")
            again = gr.Button("Try again", visible=False, elem_id="cd-again", scale=0)
            with gr.Row(visible=False, elem_id="cd-tools") as tools:
                opacity = gr.Slider(0, 100, 60, step=5, label="Map, in % of opacity")
                label = gr.Radio(["all", *views.LABELS], value="all", label="Show")
            result = gr.HTML(elem_id="cd-result")
            visitor, progress = gr.State(Visitor()), gr.State(Progress())
        with gr.Tab("Service") as tab:
            facts = gr.HTML(elem_id="cd-service")
            clock = gr.Timer(2, active=False)

        def set_tools(now: Progress) -> list[Any]:
            return [
                gr.Row(visible=now.shown > 0),
                gr.Radio(value="all", visible=now.many),
                gr.Button(visible=bool(now.unanswered)),
            ]

        def dropped(visitor: Visitor, paths: list[str] | None) -> None:
            visitor.drop(paths)  # the files leave the zone, so that it is ready for the next drop

        def taken(visitor: Visitor, path: str | None) -> None:
            if path:  # cleared, it says nothing about what is shown
                visitor.drop([path])

        def tried_again(visitor: Visitor, left: Progress) -> None:
            visitor.drop(left.unanswered)

        def look(visitor: Visitor) -> Iterator[Answer | tuple[Any, ...]]:
            yield from visitor.answers(answers)
            # Gradio ends with what came last, or with nothing: over a newer drop's answer.
            yield gr.skip(), gr.skip(), gr.skip()

        for event, fn, source, emptied in (
            (files.upload, dropped, files, files),
            (photo.change, taken, photo, None),
            (again.click, tried_again, progress, None),
        ):
            noted = on(event, fn, [visitor, source], emptied, trigger_mode="multiple")
            looked = on(
                noted.then,
                look,
                visitor,
                [message, result, progress],
                show_progress="minimal",
                concurrency_limit=VISITORS,
                trigger_mode="multiple",
            )
            on(looked.then, set_tools, progress, [tools, label, again], trigger_mode="multiple")
        on(opacity.input, None, opacity, None, js=_OPACITY)
        on(label.input, None, label, None, js=_FILTER)
        on(tab.select, service.view, None, facts)
        on(tab.select, lambda: gr.Timer(active=True), None, clock)
        on(images.select, lambda: gr.Timer(active=False), None, clock)
        on(clock.tick, service.view, None, facts, show_progress="hidden")
        on(page.load, None, None, None, js=_text("page.js"))
    return page
