"""TorchServe's management API, as far as catdog uses it.

What changes workers is always asked for asynchronously, for the caller to wait with
`poll`: TorchServe's `synchronous=true` blocks a thread that predictions need.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import psutil
import requests
from requests.auth import AuthBase

from catdog.results import MODEL_NAME
from catdog_serving.errors import ServerError, ServerUnavailableError, UsageError
from catdog_serving.http_session import open_session

TIMEOUT_S = 10.0
Found = TypeVar("Found")


def poll(look: Callable[[], Found], timeout_s: float, pause_s: float = 0.2) -> Found:
    """Look again and again until what is found is true, or time runs out.

    Args:
        look: Ends the wait by what it returns, or by what it raises.
        timeout_s: How long to wait; the last look is after that.
        pause_s: Between two looks.

    Returns:
        What the last look found; false only if time ran out.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = deadline - time.monotonic()
        found = look()
        if found or left_s <= 0:
            return found
        time.sleep(min(pause_s, left_s))


@dataclass(frozen=True)
class WorkerStatus:
    """One worker. Only "READY" means that it answers.

    Attributes:
        gpu: Whether it was given one.
        memory_bytes: Resident memory of its process; None if it does not run here.
        gpu_id: Which: 0 for cuda:0; None without one, or if TorchServe does not say.
    """

    id: str
    status: str
    pid: int
    gpu: bool
    memory_bytes: int | None
    gpu_id: int | None = None


@dataclass(frozen=True)
class ModelStatus:
    """One version of the model as the describe API reports it.

    Attributes:
        queue_free: Requests that still fit into the queue.
        pending_requests: Requests that wait in it.
    """

    version: str
    default: bool
    batch_size: int
    max_batch_delay_ms: int
    response_timeout_s: int
    startup_timeout_s: int
    workers: tuple[WorkerStatus, ...]
    queue_free: int
    pending_requests: int

    @property
    def ready(self) -> tuple[WorkerStatus, ...]:
        """Those of the workers that answer."""
        return tuple(worker for worker in self.workers if worker.status == "READY")

    @property
    def ready_workers(self) -> int:
        return len(self.ready)


@dataclass(frozen=True)
class VersionSettings:
    """What a new version is registered with; TorchServe has other defaults for each of them.

    Raises:
        UsageError: If there is no worker: requests would wait for ever.
    """

    workers: int
    batch_size: int
    max_batch_delay_ms: int
    response_timeout_s: int
    startup_timeout_s: int

    def __post_init__(self) -> None:
        check_workers(self.workers)


class ManagementClient:
    """Ask the management API of one server, and change what it serves.

    Every method raises `ServerUnavailableError` if there is no server, and those that
    change something `ServerError` if it refuses, such as for a version that is not loaded.
    Its `url` is http://HOST:PORT, or unix:/PATH for a Unix socket; `start` is the command that
    an error names.
    """

    def __init__(
        self,
        url: str,
        auth: AuthBase | None = None,
        timeout_s: float = TIMEOUT_S,
        start: str = "catdog serve",
    ) -> None:
        self._start = start
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._session, self._asked = open_session(url)
        self._session.auth = auth

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def versions(self) -> list[ModelStatus]:
        """Every version of catdog that is loaded, the default first; [] if there is none."""
        every = self._get(f"/models/{MODEL_NAME}/all")
        default = self._get(f"/models/{MODEL_NAME}")  # without a version: the default's
        if not every or not default:
            return []
        found = [_model_status(entry, default[0]["modelVersion"]) for entry in every]
        return sorted(found, key=lambda model: not model.default)

    def version(self, name: str) -> ModelStatus | None:
        """One version; None if it is not loaded."""
        return next((model for model in self.versions() if model.version == name), None)

    def facts(
        self, version: str | None = None, timeout_s: float | None = None
    ) -> dict[str, Any] | None:
        """A version's model.json, with the device and the id of the worker that answered.

        It waits in the queue as a prediction does.

        Args:
            version: Which one; None for the default.
            timeout_s: Longest wait; None for the client's own.

        Returns:
            None before a worker is ready, or if it answered with something else.
        """
        path = f"/models/{MODEL_NAME}{'' if version is None else f'/{version}'}?customized=true"
        answer = self._get(path, timeout_s)
        metadata = answer[0].get("customizedMetadata") if answer else None
        return metadata if isinstance(metadata, dict) else None

    def scale_up(self, version: str, workers: int) -> None:
        """Ask for more workers of a version; the new ones are not READY yet.

        Never for fewer: TorchServe would kill a worker with its batch (see `scale`).

        Raises:
            UsageError: If `workers` is below 1.
        """
        check_workers(workers)
        parameters = {"min_worker": workers, "max_worker": workers, "synchronous": "false"}
        self._change("PUT", f"/models/{MODEL_NAME}/{version}", parameters)

    def register(self, file: str, settings: VersionSettings) -> None:
        """Load an archive, under the version that it is stamped with; no worker is READY yet.

        Args:
            file: Its name in the model store. It is not needed any more afterwards.
            settings: Of the new version.
        """
        parameters = {
            "url": file,
            "model_name": MODEL_NAME,
            "initial_workers": settings.workers,
            "batch_size": settings.batch_size,
            "max_batch_delay": settings.max_batch_delay_ms,
            "response_timeout": settings.response_timeout_s,
            "startup_timeout": settings.startup_timeout_s,
            "synchronous": "false",
        }
        self._change("POST", "/models", parameters)

    def set_default(self, version: str) -> None:
        """Let a version answer the requests that name none."""
        self._change("PUT", f"/models/{MODEL_NAME}/{version}/set-default")

    def unregister(self, version: str) -> None:
        """Remove a version that is not the default, at once: what it works on is lost."""
        self._change("DELETE", f"/models/{MODEL_NAME}/{version}")

    def _get(self, path: str, timeout_s: float | None = None) -> list[dict[str, Any]] | None:
        """A describe answer; None for a model that is not loaded."""
        response = self._send("GET", path, timeout_s=timeout_s)
        if response.status_code == 404:
            return None
        if response.status_code != 200:
            raise self._refused("GET", path, response)
        answer = _description(response)
        if answer is None:
            raise ServerUnavailableError(
                f"{self.url}{path} answered 200, but not as TorchServe does: "
                f"{response.text.strip()[:100]!r}; is this the address of its management API?",
                status=200,
            )
        return answer

    def _change(self, method: str, path: str, parameters: dict[str, Any] | None = None) -> None:
        response = self._send(method, path, parameters)
        if response.status_code not in (200, 202):
            raise self._refused(method, path, response)

    def _send(
        self,
        method: str,
        path: str,
        parameters: dict[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> requests.Response:
        try:
            return self._session.request(
                method, self._asked + path, params=parameters, timeout=timeout_s or self._timeout_s
            )
        except requests.RequestException as error:
            raise ServerUnavailableError(
                f"no management API at {self.url}; start the server with: {self._start}"
            ) from error

    def _refused(self, method: str, path: str, response: requests.Response) -> ServerError:
        try:
            said = str(response.json()["message"])
        except (requests.JSONDecodeError, KeyError, TypeError):
            said = response.text.strip()[:200]
        return ServerError(
            f"{method} {self.url}{path} answered {response.status_code}: {said}",
            status=response.status_code,
        )


def _description(response: requests.Response) -> list[dict[str, Any]] | None:
    """A describe answer; None if it is a proxy's page, or another service's."""
    try:
        answer: list[dict[str, Any]] = response.json()
        return answer if all("modelVersion" in entry for entry in answer) else None
    except (requests.JSONDecodeError, TypeError):
        return None


def check_workers(workers: int) -> None:
    """Raises UsageError if there would be none: requests would wait for ever."""
    if workers < 1:
        raise UsageError(
            f"there must be at least 1 worker, got {workers}; to serve nothing: catdog stop"
        )


def _model_status(entry: dict[str, Any], default_version: str) -> ModelStatus:
    queue = entry["jobQueueStatus"]
    return ModelStatus(
        version=entry["modelVersion"],
        default=entry["modelVersion"] == default_version,
        batch_size=entry["batchSize"],
        max_batch_delay_ms=entry["maxBatchDelay"],
        response_timeout_s=entry["responseTimeout"],
        startup_timeout_s=entry["startupTimeout"],
        workers=tuple(
            WorkerStatus(
                id=worker["id"],
                status=worker["status"],
                pid=worker["pid"],
                gpu=worker["gpu"],
                memory_bytes=_resident_bytes(worker["pid"]),
                gpu_id=_gpu_id(worker.get("gpuUsage", "")),
            )
            for worker in entry["workers"]
        ),
        queue_free=queue["remainingCapacity"],
        pending_requests=queue["pendingRequests"],
    )


def _resident_bytes(pid: int) -> int | None:
    """A process's memory: TorchServe's own `memoryUsage` is 0 with disable_system_metrics=true."""
    try:
        found: int = psutil.Process(pid).memory_info().rss
    except (psutil.Error, ValueError):  # it just died, or has the pid -1 before it starts
        return None
    return found


def _gpu_id(usage: str) -> int | None:
    """The number in what TorchServe writes as "gpuId::0 utilization.gpu [%]::35 %..."."""
    found = re.match(r"gpuId::(\d+)", usage)
    return int(found[1]) if found else None
