"""The page's service tab: which model answers, its workers, its queue and its rate."""

import html
import time
from collections.abc import Iterator
from threading import Lock

from catdog_serving.errors import ServerError
from catdog_serving.monitoring.looks import Look, looks
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.web.views import problem

SHORTEST_INTERVAL_S = 1.0


class Service:
    """Looks at this machine's server whenever a tab asks; several tabs share the looks."""

    def __init__(self, config: ServingConfig) -> None:
        self._config = config
        self._looks = self._new_looks()
        self._lock = Lock()
        self._html = ""
        self._looked = 0.0

    def view(self) -> str:
        """The tab's HTML, at most a second old."""
        with self._lock:
            if not self._html or time.monotonic() - self._looked >= SHORTEST_INTERVAL_S:
                look = self._look()
                self._html = self._away(look) if isinstance(look, ServerError) else _table(look)
                self._looked = time.monotonic()
            return self._html

    def _look(self) -> Look | ServerError:
        try:
            return next(self._looks)
        except Exception:  # a bug: it ends the looks, and the next one starts them anew
            self._looks = self._new_looks()
            raise

    def _new_looks(self) -> Iterator[Look | ServerError]:
        return looks(TorchServe(self._config), 0)

    def _away(self, error: ServerError) -> str:
        if error.status is None:
            url = self._config.inference_url
            return problem(f"The server at {url} is not running. Start it with: catdog serve")
        return problem(f"The server does not say how it is: {error.message}")


def _table(look: Look) -> str:
    status = look.status
    workers = [worker for model in status.models for worker in model.workers]
    ready = sum(worker.status == "READY" for worker in workers)
    rates = look.rates
    rows = {
        "Model": status.model_line,
        "Versions": ", ".join(
            f"{model.version}{' (default)' if model.default else ''}" for model in status.models
        ),
        "Workers": f"{ready} of {len(workers)} ready",
        "Queue": f"{sum(model.pending_requests for model in status.models)} waiting, "
        f"room for {sum(model.queue_free for model in status.models)}",
        "Requests": "measuring ..." if rates is None else f"{rates.requests_per_s:.1f} per second",
        "Time": "no requests"
        if rates is None or rates.request_s is None
        else f"{rates.request_s * 1000:.0f} ms mean",
        "Memory": f"{sum(look.memory_bytes.values()) / 1e6:.0f} MB in workers",
        "Address": status.url,
    }
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in rows.items()
    )
    warning = "" if ready else problem("No worker is ready: pictures wait until one is.")
    return f'{warning}<dl class="cd-service">{cells}</dl>'
