"""Canary watch: is a version that has just become the default good enough to stay?

TorchServe counts requests by the version that the client named, so those of the default
cannot be told apart by version; after the switch they are the new one's.
"""

import time
from dataclasses import dataclass
from datetime import datetime

import requests

from catdog_serving.errors import RefusedError
from catdog_serving.monitoring.metrics_text import Metrics, scrape
from catdog_serving.monitoring.rates import Rates, rates
from catdog_serving.torchserve.management import ManagementClient
from catdog_serving.torchserve.model_log import last_failure
from catdog_serving.torchserve.server import TorchServe

# The share of requests that may be answered 5xx, on top of what it was before.
MAX_ERRORS = 0.01
# A mean time of requests, the wait included, is too long if it is over this,
SLOW_S = 1.0
# and over so many times what it was before.
SLOWER = 3.0
_POLL_S = 0.5
_TIMEOUT_S = 10.0


class CanaryWatch:
    """Compares the time from `begin` on with the time from the construction to there.

    Raises:
        ServerUnavailableError: If there are no metrics at metrics_address.
    """

    def __init__(self, server: TorchServe) -> None:
        self._server = server
        self._earlier = self._scrape()

    def begin(self) -> None:
        """Call it just before the new version becomes the default."""
        self._start = self._scrape()

    def watch(self, management: ManagementClient, version: str, seconds: float) -> str:
        """Watch the new version, and say in a line what was seen.

        Raises:
            RefusedError: As soon as one of its workers dies or too many requests fail; at
                the end, if they take too long.
        """
        since = datetime.now()
        workers = _ready(management, version)
        before = TrafficWindow.between(self._earlier, self._start)
        deadline = time.monotonic() + seconds
        while True:
            time.sleep(max(0.0, min(_POLL_S, deadline - time.monotonic())))
            # In this order: a worker that died of the requests that failed is the better reason.
            window = TrafficWindow.between(self._start, self._scrape())
            lost = workers - _ready(management, version)
            if lost:
                reason = last_failure(self._server.run.model_log, since) or "no traceback"
                ids = ", ".join(sorted(worker for worker, _ in lost))
                raise RefusedError(f"worker {ids} of version {version} died: {reason}")
            if window.fails_more(before):
                raise RefusedError(f"version {version} as the default: {window}; before: {before}")
            # A worker that never answers is killed by TorchServe, and lost.
            if time.monotonic() >= deadline and (window.mean_s is not None or not window.requests):
                break
        if window.is_too_slow(before):
            raise RefusedError(f"version {version} as the default: {window}; before: {before}")
        return str(window)

    def _scrape(self) -> tuple[float, Metrics]:
        with requests.Session() as session:
            url = self._server.config.values["metrics_address"]
            return time.monotonic(), scrape(session, url, _TIMEOUT_S)


@dataclass(frozen=True)
class TrafficWindow:
    """Traffic that clients got answered over some time.

    Attributes:
        seconds: How long it was.
        requests: That reached a queue.
        failed: Of all, those answered with 5xx.
        mean_s: Of those that a worker answered; None if there was none.
    """

    seconds: float
    requests: int
    failed: int
    mean_s: float | None

    @classmethod
    def between(
        cls, before: tuple[float, Metrics], after: tuple[float, Metrics]
    ) -> "TrafficWindow":
        seconds = max(after[0] - before[0], 1e-3)
        found: Rates = rates(before[1], after[1], seconds)
        return cls(
            seconds=seconds,
            requests=round(found.requests_per_s * seconds),
            failed=round(found.errors_per_s * seconds),
            mean_s=found.request_s,
        )

    def fails_more(self, before: "TrafficWindow") -> bool:
        allowed = MAX_ERRORS + before.failed / max(1, before.requests)
        return self.failed > allowed * self.requests

    def is_too_slow(self, before: "TrafficWindow") -> bool:
        limit_s = max(SLOW_S, SLOWER * (before.mean_s or 0.0))
        return self.mean_s is not None and self.mean_s > limit_s

    def __str__(self) -> str:
        if not self.requests and not self.failed:
            return f"{self.seconds:.0f} s: no requests"
        mean = "no answer" if self.mean_s is None else f"{self.mean_s * 1000:.0f} ms mean"
        return f"{self.seconds:.0f} s: {self.requests} requests, {self.failed} failed, {mean}"


def _ready(management: ManagementClient, version: str) -> set[tuple[str, int]]:
    """Id and pid of the READY workers of a version."""
    found = management.version(version)
    return {(worker.id, worker.pid) for worker in found.ready} if found else set()
