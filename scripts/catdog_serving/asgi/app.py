"""The HTTP API: predictions and explanations, /ping, the describe API, /metrics; as TorchServe's.

Bodies are bounded before they are read and while they are, all of them together and in time.
What asks for a change (registering, scaling) is answered 405: this server has one worker.
"""

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catdog_serving.asgi.forms import to_row
from catdog_serving.asgi.http_server import Answer, Bodies
from catdog_serving.asgi.metrics import Metrics
from catdog_serving.asgi.settings import AsgiSettings
from catdog_serving.asgi.tokens import Tokens
from catdog_serving.asgi.worker import Job, Worker

access_log = logging.getLogger("catdog.access")

_BAD_KEY = Answer.error(
    400,
    "InvalidKeyException",
    "Token Authorization failed. Token either incorrect, expired, or not provided correctly",
)
_NO_RESOURCE = Answer.error(
    404,
    "ResourceNotFoundException",
    "Requested resource is not found, please refer to API document.",
)
_NO_METHOD = Answer.error(
    405,
    "MethodNotAllowedException",
    "Requested method is not allowed, please refer to API document.",
)
_BUG = Answer.error(500, "InternalServerException", "a bug; the server's log says where")


class Refused(Exception):
    """Ends a request with an answer of its own."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class CatDogApi:
    """One ASGI application for the three addresses; a request's port says which it came by."""

    def __init__(
        self, settings: AsgiSettings, worker: Worker, metrics: Metrics, tokens: Tokens
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._metrics = metrics
        self._tokens = tokens
        limit = settings.max_request_size
        self._bodies = Bodies(limit, limit * settings.job_queue_size)
        self._started = datetime.now(UTC)
        self._ports: dict[int | None, ASGIApp] = {
            _port(settings.inference_address): self._inference(),
            _port(settings.metrics_address): _application(Route("/metrics", self._scrape)),
            _port(settings.management_address): self._management(),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an id of the server's own, and count the answer by its status."""
        scope["request_id"] = request_id = str(uuid.uuid4())
        began = time.perf_counter()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status: int = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
                self._metrics.add(f"Requests{status // 100}XX", 1, "Host")
                if status in (404, 405) or status >= 500:  # the handler has logged the others
                    path = scope["raw_path"].decode(errors="replace")
                    took_ms = (time.perf_counter() - began) * 1000
                    client = ":".join(map(str, scope["client"] or ("-",)))
                    line = '/%s "%s %s HTTP/%s" %d %.0f'
                    version = scope["http_version"]
                    access_log.info(line, client, scope["method"], path, version, status, took_ms)
            await send(message)

        address = scope["server"]  # None at a Unix socket
        await self._ports[address and address[1]](scope, receive, send_counted)

    # --- inference ------------------------------------------------------------------------------

    def _inference(self) -> ASGIApp:
        rests = ("", "/", "/{version}", "/{version}/{rest:path}")
        paths = (
            *(
                f"/{api}/{{model}}{rest}"
                for api in ("predictions", "explanations")
                for rest in rests
            ),
            *(f"/v1/models/{{model}}:{verb}" for verb in ("predict", "explain")),  # KServe's
            *(f"/v2/models/{{model}}/{verb}" for verb in ("infer", "explain")),
        )
        apis = [Route(path, _Endpoint(self, "expla" in path)) for path in paths]
        return _application(Route("/ping", self._ping, methods=["GET", "POST"]), *apis)

    async def _ping(self, request: Request) -> Response:
        self._check_token(request, "inference")
        if self._worker.overdue:
            return JSONResponse({"status": "Unhealthy"}, 500)
        return JSONResponse({"status": "Healthy"})

    async def answer(self, request: Request, explain: bool) -> Answer | None:
        """The answer of a prediction or an explanation; None if its client went away."""
        self._check_token(request, "inference")
        self._check_model(request.path_params)
        body = bytearray()
        try:
            if (refusal := await self._bodies.read(request, body)) is not None:
                return refusal
            return await self._ask_worker(request, body, explain)
        except ClientDisconnect:
            return None
        finally:
            self._bodies.release(len(body))

    async def _ask_worker(self, request: Request, body: bytearray, explain: bool) -> Answer | None:
        worker = self._worker
        headers = dict(request.headers.items())
        before = len(body)
        row = to_row(body, headers.get("content-type", ""))
        self._bodies.release(before - len(body))  # what of a form is no image
        # As TorchServe does: a client's own words of these names say nothing.
        headers |= {"explain": str(explain), "url_path": ""}
        job = Job(
            request.scope["request_id"], row, headers, asyncio.get_running_loop().create_future()
        )
        self._metrics.add("ts_inference_requests_total", 1, worker.name, worker.version)
        if not worker.submit(job):
            return Answer.error(
                503,
                "ServiceUnavailableException",
                f'Model "{worker.name}" has no worker to serve inference request. Please use scale '
                "workers API to add workers. If this is a sequence inference, please check if it "
                "is closed, or expired; or exceeds maxSequenceJobQueueSize",
            )
        gone = asyncio.ensure_future(_until_gone(request))
        either: set[asyncio.Future[Any]] = {job.answer, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if job.answer.done():
            return job.answer.result()
        worker.drop(job)
        return None

    def _check_token(self, request: Request, kind: str) -> None:
        if not self._tokens.allow(kind, request.headers.get("authorization")):
            raise Refused(_BAD_KEY)

    def _check_model(self, path: Mapping[str, str]) -> None:
        name, version = path["model"], path.get("version", self._worker.version)
        if name != self._worker.name:
            message = f"Model not found: {name}"
            raise Refused(Answer.error(404, "ModelNotFoundException", message))
        if version not in (self._worker.version, "all"):
            message = f"Model version: {version} does not exist for model: {name}"
            raise Refused(Answer.error(404, "ModelVersionNotFoundException", message))

    # --- management and metrics -----------------------------------------------------------------

    def _management(self) -> ASGIApp:
        return _application(
            Route("/models", self._list),
            Route("/models/{model}", self._describe),
            Route("/models/{model}/{version}", self._describe),
            Route("/token", self._renew),
        )

    async def _list(self, request: Request) -> Response:
        self._check_token(request, "management")
        model = {"modelName": self._worker.name, "modelUrl": self._settings.model_url}
        return JSONResponse({"models": [model]})

    async def _describe(self, request: Request) -> Response:
        self._check_token(request, "management")
        self._check_model(request.path_params)
        settings, worker = self._settings, self._worker
        has_gpu = settings.gpu_id is not None
        found: dict[str, Any] = {
            "modelName": worker.name,
            "modelVersion": worker.version,
            "modelUrl": settings.model_url,
            "runtime": "python",
            "minWorkers": 1,
            "maxWorkers": 1,
            "batchSize": settings.batch_size,
            "maxBatchDelay": settings.max_batch_delay_ms,
            "responseTimeout": settings.response_timeout_s,
            "startupTimeout": settings.startup_timeout_s,
            "deviceType": "gpu" if has_gpu else "cpu",
            "loadedAtStartup": True,
            "workers": [
                {
                    "id": worker.id,
                    "startTime": self._started.isoformat(timespec="milliseconds"),
                    "status": "UNLOADING" if worker.overdue else "READY",
                    "memoryUsage": 0,
                    "pid": os.getpid(),
                    "gpu": has_gpu,
                    "gpuUsage": f"gpuId::{settings.gpu_id}" if has_gpu else "N/A",
                }
            ],
            "jobQueueStatus": {
                "remainingCapacity": settings.job_queue_size - worker.pending,
                "pendingRequests": worker.pending,
            },
        }
        if request.query_params.get("customized") == "true":
            found["customizedMetadata"] = worker.facts()
        return JSONResponse([found])

    async def _renew(self, request: Request) -> Response:
        self._check_token(request, "API")
        kind = request.query_params.get("type")
        if kind not in ("inference", "management") or self._settings.key_file is None:
            raise Refused(_NO_RESOURCE)
        self._tokens.renew(kind)
        return JSONResponse({"status": "Token generated"})

    async def _scrape(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")


class _Endpoint:
    """An application of its own: it takes every method, and may end without an answer."""

    def __init__(self, api: CatDogApi, explain: bool) -> None:
        self._api = api
        self._explain = explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._api.answer(Request(scope, receive), self._explain)
        if answer is not None:
            await answer.to_response()(scope, receive, send)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _application(*routes: Route) -> Starlette:
    def refuse(_: Request, error: Exception) -> Response:
        return (error.answer if isinstance(error, Refused) else _NO_RESOURCE).to_response()

    handlers: dict[Any, Any] = {
        Refused: refuse,
        404: refuse,
        405: lambda *_: _NO_METHOD.to_response(),
        500: lambda *_: _BUG.to_response(),
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def _port(address: str) -> int | None:
    """The port of http://HOST:PORT; None for a Unix socket."""
    return None if address.startswith("unix:") else int(address.rpartition(":")[2])
