"""The page's service tab: which model answers, its workers, its queue and its rate."""

import time
from collections.abc import Iterator
from typing import Any

from catdog_serving.errors import CatDogError, ServerError
from catdog_serving.monitoring.snapshot import Snapshot, take_snapshots
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig

SHORTEST_INTERVAL_S = 1.0


class Service:
    """Takes snapshots of this machine's server when a tab asks; several tabs share them."""

    def __init__(self, config: ServingConfig) -> None:
        self._server = TorchServe(config)
        self._snapshots = self._new_snapshots()
        self._view: dict[str, Any] = {}
        self._taken = 0.0

    def view(self) -> dict[str, Any]:
        """`facts`, text by name, and a `problem`, or None; at most a second old.

        For one caller at a time.
        """
        if not self._view or time.monotonic() - self._taken >= SHORTEST_INTERVAL_S:
            snapshot = self._next_snapshot()
            if isinstance(snapshot, CatDogError):
                self._view = {"facts": {}, "problem": self._away(snapshot)}
            else:
                self._view = _facts(snapshot)
            self._taken = time.monotonic()
        return self._view

    def _next_snapshot(self) -> Snapshot | CatDogError:
        try:
            return next(self._snapshots)
        except Exception as error:  # it ends the snapshots, and the next one starts them anew
            self._snapshots = self._new_snapshots()
            if isinstance(error, CatDogError):
                return error
            raise  # a bug

    def _new_snapshots(self) -> Iterator[Snapshot | ServerError]:
        return take_snapshots(self._server, 0)

    def _away(self, error: CatDogError) -> str:
        if not isinstance(error, ServerError):
            return str(error)
        if error.status is None:
            url = self._server.served.inference_url
            return f"The server at {url} is not running. Start it with: catdog serve"
        return f"The server does not say how it is: {error.message}"


def _facts(snapshot: Snapshot) -> dict[str, Any]:
    status = snapshot.status
    ready = sum(model.ready_workers for model in status.models)
    rates = snapshot.rates
    rows = {
        "Model": status.model_line,
        "Versions": ", ".join(
            f"{model.version}{' (default)' if model.default else ''}" for model in status.models
        ),
        "Workers": f"{ready} of {sum(len(model.workers) for model in status.models)} ready",
        "Queue": f"{sum(model.pending_requests for model in status.models)} queued, "
        f"{sum(model.queue_free for model in status.models)} free",
        "Requests": "measuring ..." if rates is None else f"{rates.requests_per_s:.1f} per second",
        "Time": "no requests"
        if rates is None or rates.request_s is None
        else f"{rates.request_s * 1000:.0f} ms mean",
        "Memory": f"{sum(snapshot.memory_bytes.values()) / 1e6:.0f} MB in workers",
        "Address": status.url,
    }
    problem = "No worker is ready: images wait until one is."
    if status.failure:
        problem += f" The last one failed: {status.failure}"
    return {"facts": rows, "problem": None if status.is_ready else problem}
