"""The page's service tab: which model answers, its workers, its queue and its rate.

And what the page says when the server does not answer.
"""

import time
from typing import Any

from catdog_serving.errors import CatDogError, ServerBusyError, ServerError
from catdog_serving.monitoring.snapshot import Snapshot, take_snapshots
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig

SHORTEST_INTERVAL_S = 1.0


class Service:
    """Takes snapshots of this machine's server when a tab asks; several tabs share them."""

    def __init__(self, config: ServingConfig) -> None:
        self._server = TorchServe(config)
        self._snapshots = take_snapshots(self._server, 0)
        self._view: dict[str, Any] = {}
        self._taken = 0.0

    def view(self) -> dict[str, Any]:
        """`facts`, text by name, and a `problem`, or None; at most a second old.

        For one caller at a time.
        """
        if not self._view or time.monotonic() - self._taken >= SHORTEST_INTERVAL_S:
            self._view = self._look()
            self._taken = time.monotonic()
        return self._view

    def _look(self) -> dict[str, Any]:
        try:
            snapshot = next(self._snapshots)
        except Exception:  # a bug: it ends the snapshots, and the next look starts them anew
            self._snapshots = take_snapshots(self._server, 0)
            raise
        if isinstance(snapshot, CatDogError):
            url = self._server.served.inference_url
            return {"facts": {}, "problem": server_problem(snapshot, url)}
        return _facts(snapshot)


def server_problem(error: CatDogError, url: str) -> str:
    """What a person can do about a server that did not answer, or not as it should."""
    if isinstance(error, ServerError):
        if error.status is None:
            return f"The server at {url} does not answer. Start it with: catdog serve"
        if isinstance(error, ServerBusyError) or error.status in (500, 507):
            return "The server has too much to do, or no worker yet. Wait a moment, then try again."
    return str(error)


def _facts(snapshot: Snapshot) -> dict[str, Any]:
    status = snapshot.status
    ready = sum(model.ready_workers for model in status.models)
    rates = snapshot.rates
    mean_s = rates and rates.request_s
    rows = {
        "Model": status.model_line,
        "Versions": ", ".join(
            f"{model.version}{' (default)' if model.default else ''}" for model in status.models
        ),
        "Workers": f"{ready} of {sum(len(model.workers) for model in status.models)} ready",
        "Queue": f"{sum(model.pending_requests for model in status.models)} queued, "
        f"{sum(model.queue_free for model in status.models)} free",
        "Requests": f"{rates.requests_per_s:.1f} per second" if rates else "measuring ...",
        "Time": f"{mean_s * 1000:.0f} ms mean" if mean_s else "no requests",
        "Memory": f"{sum(snapshot.memory_bytes.values()) / 1e6:.0f} MB in workers",
        "Address": status.url,
    }
    problem = "No worker is ready: images wait until one is."
    if status.failure:
        problem += f" The last one failed: {status.failure}"
    return {"facts": rows, "problem": None if status.is_ready else problem}
