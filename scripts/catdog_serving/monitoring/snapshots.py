"""Take snapshots of a running server again and again, without disturbing it.

The describe API and the metrics address are answered by Java alone. The one question
that a worker must answer, for the model's facts, is asked once per set of workers and
only while no request waits.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import requests

from catdog_serving.errors import ServerError
from catdog_serving.monitoring.metrics_text import Metrics, scrape
from catdog_serving.monitoring.rates import Rates, rates
from catdog_serving.monitoring.status import ServerStatus
from catdog_serving.torchserve.management import ManagementClient, ModelStatus
from catdog_serving.torchserve.model_log import last_failure
from catdog_serving.torchserve.server import TorchServe

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Snapshot:
    """State of a server that answers, at one moment.

    Attributes:
        status: Its versions, workers and model.
        rates: Since the snapshot before; None for the first one, and after the server was away.
        memory_bytes: Resident memory by worker id; without workers that do not run here.
        uptime_s: None if `catdog serve` did not start it.
    """

    status: ServerStatus
    rates: Rates | None
    memory_bytes: dict[str, int]
    uptime_s: float | None


class _Facts:
    """The facts of the default version, asked for anew when its workers are others."""

    def __init__(self, management: ManagementClient) -> None:
        self._management = management
        self._workers: tuple[object, ...] = ()
        self._facts: dict[str, Any] | None = None

    def of(self, models: Sequence[ModelStatus]) -> dict[str, Any] | None:
        if not models or not models[0].ready_workers:
            return None
        workers = (models[0].version, *(worker.pid for worker in models[0].workers))
        if workers != self._workers and models[0].pending_requests == 0:
            self._facts = self._management.facts()
            self._workers = workers
        return self._facts


def take_snapshots(server: TorchServe, interval_s: float) -> Iterator[Snapshot | ServerError]:
    """A snapshot every `interval_s` seconds, without end; while the server is away, its error."""
    before: tuple[float, Metrics] | None = None
    with server.management() as management, requests.Session() as session:
        facts = _Facts(management)
        while True:
            start = time.monotonic()
            try:
                models = tuple(management.versions())
                metrics = scrape(session, server.config.values["metrics_address"], TIMEOUT_S)
                now = time.monotonic()
                known = facts.of(models)
                failure = None if known else last_failure(server.run.model_log)
                status = ServerStatus(server.config.inference_url, models, known, failure)
                since = before and rates(before[1], metrics, now - before[0])
                before = now, metrics
                yield Snapshot(status, since, _memory(models), _uptime_s(server))
            except ServerError as error:
                before = None
                yield error
            time.sleep(max(0.0, start + interval_s - time.monotonic()))


def _memory(models: Sequence[ModelStatus]) -> dict[str, int]:
    found = {}
    for worker in (worker for model in models for worker in model.workers):
        try:
            found[worker.id] = psutil.Process(worker.pid).memory_info().rss
        except (psutil.Error, ValueError):
            continue  # it just died, or is not there yet and has the pid -1
    return found


def _uptime_s(server: TorchServe) -> float | None:
    process = server.run.process()
    return time.time() - process.create_time() if process else None
