"""TorchServe's management API, as far as catdog uses it."""

from dataclasses import dataclass
from typing import Any, Self

import requests
from requests.auth import AuthBase

from catdog_serving.errors import ServerError, ServerUnavailableError
from catdog_serving.model_archive import MODEL_NAME

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class WorkerStatus:
    """One worker. Only "READY" means that it answers."""

    id: str
    status: str
    pid: int
    gpu: bool
    memory_bytes: int


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
    workers: tuple[WorkerStatus, ...]
    queue_free: int
    pending_requests: int

    @property
    def ready_workers(self) -> int:
        return sum(worker.status == "READY" for worker in self.workers)


class ManagementClient:
    """Ask the management API of one server."""

    def __init__(
        self, url: str, auth: AuthBase | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.auth = auth

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def versions(self) -> list[ModelStatus]:
        """Every version of catdog that is loaded, the default first; [] if there is none.

        Raises:
            ServerUnavailableError: If there is no server.
        """
        every = self._get(f"/models/{MODEL_NAME}/all")
        default = self._get(f"/models/{MODEL_NAME}")  # without a version: the default's
        if not every or not default:
            return []
        found = [_model_status(entry, default[0]["modelVersion"]) for entry in every]
        return sorted(found, key=lambda model: not model.default)

    def facts(self) -> dict[str, Any] | None:
        """The default version's model.json and device, from a worker; None before one is ready."""
        answer = self._get(f"/models/{MODEL_NAME}?customized=true")
        metadata = answer[0].get("customizedMetadata") if answer else None
        return metadata if isinstance(metadata, dict) else None

    def _get(self, path: str) -> list[dict[str, Any]] | None:
        """A describe answer; None for a model that is not loaded."""
        try:
            response = self._session.get(self._url + path, timeout=self._timeout_s)
        except requests.RequestException as error:
            raise ServerUnavailableError(
                f"no management API at {self._url}; start the server with: catdog serve"
            ) from error
        if response.status_code == 404:
            return None
        if response.status_code != 200:
            raise ServerError(
                f"{self._url}{path} answered {response.status_code}: {response.text.strip()[:200]}",
                status=response.status_code,
            )
        answer: list[dict[str, Any]] = response.json()
        return answer


def _model_status(entry: dict[str, Any], default_version: str) -> ModelStatus:
    queue = entry["jobQueueStatus"]
    return ModelStatus(
        version=entry["modelVersion"],
        default=entry["modelVersion"] == default_version,
        batch_size=entry["batchSize"],
        max_batch_delay_ms=entry["maxBatchDelay"],
        response_timeout_s=entry["responseTimeout"],
        workers=tuple(
            WorkerStatus(
                worker["id"], worker["status"], worker["pid"], worker["gpu"], worker["memoryUsage"]
            )
            for worker in entry["workers"]
        ),
        queue_free=queue["remainingCapacity"],
        pending_requests=queue["pendingRequests"],
    )
