"""The server of `catdog web`: the page, and one image after another that it asks about.

The page is a client of the running server, as any other program is, and this is its hand: it
passes images on, and writes nothing to disk. It decodes none, but for the formats that the
server does not take, if the operator allows them. All that visitors send is bounded before it is
read: each body and all together in bytes, and in time; what is asked for at once in number.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from catdog.decode import HTTP_FORMATS, format_name
from catdog.overlay import overlay_style
from catdog.results import Explanation, Prediction
from catdog.structure import detect_format
from catdog_serving.asgi.http_server import Answer, Bodies
from catdog_serving.client import CatDogClient
from catdog_serving.errors import CatDogError, InvalidImageError
from catdog_serving.folder.image_result import FileInfo, ImageFailure, ImageResult
from catdog_serving.folder.outputs import csv_row, to_csv
from catdog_serving.image_formats import folder_decoder
from catdog_serving.sample_images import SAMPLES
from catdog_serving.viewer.gallery import make_thumbnail, shown_row
from catdog_serving.viewer.page import page_parts
from catdog_serving.web.guard import Guard
from catdog_serving.web.server import CONCURRENCY, WebSettings
from catdog_serving.web.service import Service, server_problem

_Found = TypeVar("_Found", Prediction, Explanation)

AT_ONCE = 4  # of one page; browsers open six connections to a server
MAX_IMAGES = 1000  # of one page, which keeps 15 kB of each
_ALL_BODIES = 8  # times max_request_size: what all visitors together may have here, in bytes
_WAIT_S = 30.0  # a body waits so long for room among the others


def make_application(settings: WebSettings, client: CatDogClient) -> ASGIApp:
    """The page and what it asks for, behind its guard."""
    page = _Page(settings, client)
    application = Starlette(
        routes=[
            Route("/", page.show),
            Route("/predictions", partial(page.answer, ask=page.classified), methods=["POST"]),
            Route("/explanations", partial(page.answer, ask=page.explained), methods=["POST"]),
            Route("/service", page.service),
            Mount("/samples", StaticFiles(directory=SAMPLES)),
        ]
    )
    return Guard(application, settings)


class _Page:
    """What the routes answer."""

    def __init__(self, settings: WebSettings, client: CatDogClient) -> None:
        limit = settings.config.max_request_size
        self._client = client
        self._settings = settings
        self._service = Service(settings.config)
        self._looking = asyncio.Lock()  # so that tabs wait for one look, and none for a thread
        self._bodies = Bodies(limit, _ALL_BODIES * limit, _WAIT_S)
        self._turns = asyncio.Semaphore(CONCURRENCY)
        limits = {
            "max_bytes": limit,
            "max_images": MAX_IMAGES,
            "at_once": AT_ONCE,
            "samples": sorted(path.name for path in SAMPLES.iterdir()),
            "csv_header": b"".join(to_csv(())).decode(),
        }
        data = {"overlay": overlay_style(), "limits": limits}
        values = {"title": "catdog", "model": None, "data": data}
        self._html = b"".join(page_parts("web/page.html", values))

    async def show(self, request: Request) -> Response:
        # The rest of the policy is in the page itself, where it cannot say this.
        headers = {"Content-Security-Policy": "frame-ancestors 'none'"}
        return HTMLResponse(self._html, headers=headers)

    async def service(self, request: Request) -> Response:
        async with self._looking:
            return JSONResponse(await run_in_threadpool(self._service.view))

    async def answer(self, request: Request, ask: Callable[[bytes, str], Any]) -> Response:
        """What became of one image, which is the body; its name is in a header."""
        body = bytearray()
        size = 0  # of a body that came
        try:
            refusal = await self._bodies.read(request, body)
            size, content = len(body), bytes(body)
            body.clear()  # once in memory is enough
            if refusal is not None:
                return refusal.to_response()
            name = unquote(request.headers.get("x-file-name", "")) or "image"
            async with self._turns:
                return JSONResponse(await run_in_threadpool(ask, content, name))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except CatDogError as error:
            sentence = server_problem(error, self._client.url)
            return Answer.error(503, type(error).__name__, sentence).to_response()
        finally:
            self._bodies.release(size or len(body))

    def classified(self, content: bytes, name: str) -> dict[str, Any]:
        """A row of `catdog classify`: to be shown, as JSON, and as a line of CSV."""
        outcome = self._outcome(content, partial(self._client.classify, with_map=True))
        file = FileInfo(Path(name), len(content), sha256=hashlib.sha256(content).hexdigest())
        result = ImageResult(file, outcome)
        item, row = shown_row(result), result.to_dict()
        if isinstance(outcome, Prediction):
            item["model"] = f"{outcome.model}, version {outcome.version}"
            if detect_format(content) not in HTTP_FORMATS:  # few browsers show it
                item["thumbnail"] = make_thumbnail(content, folder_decoder())
        row.pop("map", None)
        return item | {"row": row, "csv": csv_row(result).decode()}

    def explained(self, content: bytes, _: str) -> dict[str, Any]:
        """Map and box of the whole image, and whether the animal fills it; or why there is none."""
        found = self._outcome(content, self._client.explain)
        if isinstance(found, ImageFailure):
            return {"error": asdict(found)}
        fills = bool(found.box and found.box.fills(found.map.size))
        return {"map": found.map.to_dict(), "box": found.box, "fills": fills}

    def _outcome(self, content: bytes, ask: Callable[[bytes], _Found]) -> _Found | ImageFailure:
        name = detect_format(content)
        if not self._settings.all_formats and name not in (None, *HTTP_FORMATS):
            text = (
                f"the page does not take {format_name(name)}; save it as JPEG, or start the page "
                "with: catdog web --all-formats"
            )
            return ImageFailure.refused(text)
        try:
            return ask(content)
        except InvalidImageError as error:
            return ImageFailure.refused(error.message)
