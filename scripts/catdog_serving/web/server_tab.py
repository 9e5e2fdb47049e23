"""The page's service tab: which model answers, its workers, its queue and its rate."""

import html
import time
from collections.abc import Iterator
from threading import Lock

from catdog_serving.errors import ServerError
from catdog_serving.monitoring.snapshot import Snapshot, take_snapshots
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.web.views import problem

SHORTEST_INTERVAL_S = 1.0


class Service:
    """Takes snapshots of this machine's server when a tab asks; several tabs share them."""

    def __init__(self, config: ServingConfig) -> None:
        self._config = config
        self._snapshots = self._new_snapshots()
        self._lock = Lock()
        self._html = ""
        self._taken = 0.0

    def view(self) -> str:
        """The tab's HTML, at most a second old."""
        with self._lock:
            if not self._html or time.monotonic() - self._taken >= SHORTEST_INTERVAL_S:
                snapshot = self._next_snapshot()
                self._html = (
                    self._away(snapshot) if isinstance(snapshot, ServerError) else _table(snapshot)
                )
                self._taken = time.monotonic()
            return self._html

    def _next_snapshot(self) -> Snapshot | ServerError:
        try:
            return next(self._snapshots)
        except Exception:  # a bug: it ends the snapshots, and the next one starts them anew
            self._snapshots = self._new_snapshots()
            raise

    def _new_snapshots(self) -> Iterator[Snapshot | ServerError]:
        return take_snapshots(TorchServe(self._config), 0)

    def _away(self, error: ServerError) -> str:
        if error.status is None:
            url = TorchServe(self._config).served.inference_url
            return problem(f"The server at {url} is not running. Start it with: catdog serve")
        return problem(f"The server does not say how it is: {error.message}")


def _table(snapshot: Snapshot) -> str:
    status = snapshot.status
    workers = [worker for model in status.models for worker in model.workers]
    ready = sum(worker.status == "READY" for worker in workers)
    rates = snapshot.rates
    rows = {
        "Model": status.model_line,
        "Versions": ", ".join(
            f"{model.version}{' (default)' if model.default else ''}" for model in status.models
        ),
        "Workers": f"{ready} of {len(workers)} ready",
        "Queue": f"{sum(model.pending_requests for model in status.models)} queued, "
        f"{sum(model.queue_free for model in status.models)} free",
        "Requests": "measuring ..." if rates is None else f"{rates.requests_per_s:.1f} per second",
        "Time": "no requests"
        if rates is None or rates.request_s is None
        else f"{rates.request_s * 1000:.0f} ms mean",
        "Memory": f"{sum(snapshot.memory_bytes.values()) / 1e6:.0f} MB in workers",
        "Address": status.url,
    }
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in rows.items()
    )
    warning = "" if ready else problem("No worker is ready: images wait until one is.")
    return f'{warning}<dl class="cd-service">{cells}</dl>'
