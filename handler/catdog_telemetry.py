"""What an operator sees of each request: one log line, and metrics for Prometheus.

The metrics are declared in config/metrics.yaml; TorchServe drops undeclared ones
silently, so a missing declaration is reported once, when the worker starts.
"""

import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.results import Explanation, Prediction

log = logging.getLogger(__name__)

PICTURES = "catdog_pictures_total"  # counter by label and version
INVALID = "catdog_invalid_total"  # counter by reason and version
BATCH_PICTURES = "catdog_batch_pictures"  # histogram
STAGE_SECONDS = "catdog_stage_seconds"  # histogram by stage
WORKER_STARTS = "catdog_worker_starts_total"  # counter by worker
WORKER_MEMORY = "catdog_worker_memory_bytes"  # gauge by worker: its resident memory

METRICS = {  # and their kinds, as TorchServe's MetricTypes has them
    PICTURES: "counter",
    INVALID: "counter",
    BATCH_PICTURES: "histogram",
    STAGE_SECONDS: "histogram",
    WORKER_STARTS: "counter",
    WORKER_MEMORY: "gauge",
}

# What a client may call its request: no spaces, quotes or line ends that could forge a log line
# or a response header.
_CLIENT_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,100}", re.ASCII)


class StageClock:
    """Seconds per stage of one batch, of all its passes together."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def in_milliseconds(self) -> str:
        return " ".join(f"{name}={seconds * 1000:.1f}" for name, seconds in self.seconds.items())


class Telemetry:
    """Writes log lines and metrics for one worker.

    Args:
        metrics: TorchServe's `context.metrics`.
        version: The model version, a dimension of the counters.

    Attributes:
        worker: This worker's id, as the describe API has it.
    """

    def __init__(self, metrics: Any, version: str) -> None:
        self._version = version
        self.worker = worker_id(sys.argv)
        self._process = psutil.Process()
        self._metrics = {}
        for name, kind in METRICS.items():
            try:
                self._metrics[name] = metrics.get_metric(name, _metric_type(kind))
            except KeyError as error:  # TorchServe's MetricsCacheKeyError is one
                log.warning("metric %s is not declared in metrics_config: %s", name, error)

    def started(self) -> None:
        """Report a worker that begins to load; one that fails is started again and counted again.

        The refusals start at 0, because Prometheus sees no rise in a series' first value.
        """
        self._add(WORKER_STARTS, 1, self.worker)
        for reason in InvalidReason:
            self._add(INVALID, 0, reason, self._version)

    def batch(
        self,
        context: Any,
        results: Sequence[Sequence[Prediction | Explanation | InvalidImage | None]],
        clock: StageClock,
    ) -> None:
        """Report a batch that was answered; an explanation counts as the prediction it explains.

        Args:
            context: TorchServe's, with the answers' statuses.
            results: For each request those of its images, in order. None stands for an image
                for which a GPU had no memory.
            clock: The batch's.
        """
        stages = clock.in_milliseconds()
        images = sum(map(len, results))
        answered = []
        for index, of_request in enumerate(results):
            client = client_request_id(context, index) or "-"
            status, _ = context.get_response_status(index)
            for number, result in enumerate(of_request, 1):
                answered.append(result.prediction if isinstance(result, Explanation) else result)
                log.info(
                    "request=%s client=%s status=%d result=%s batch=%d%s ms: %s",
                    context.get_request_id(index),
                    client,
                    status,
                    _outcome(answered[-1]),
                    images,
                    f" image={number}/{len(of_request)}" if len(of_request) > 1 else "",
                    stages,
                )
        self._add(BATCH_PICTURES, len(results))
        self._count(answered, clock)

    def _count(
        self, results: Sequence[Prediction | InvalidImage | None], clock: StageClock
    ) -> None:
        labels = Counter(r.label for r in results if isinstance(r, Prediction))
        reasons = Counter(r.reason for r in results if isinstance(r, InvalidImage))
        for label, count in labels.items():
            self._add(PICTURES, count, label, self._version)
        for reason, count in reasons.items():
            self._add(INVALID, count, reason, self._version)
        for stage, seconds in clock.seconds.items():
            self._add(STAGE_SECONDS, round(seconds, 6), stage)
        self._add(WORKER_MEMORY, self._process.memory_info().rss, self.worker)

    def _add(self, name: str, value: float, *dimensions: str) -> None:
        if name in self._metrics:
            self._metrics[name].add_or_update(value, list(dimensions))


def _metric_type(kind: str) -> Any:
    """TorchServe's own value; the word where another server runs the handler without it."""
    try:
        from ts.metrics.metric_type_enum import MetricTypes
    except ImportError:
        return kind
    return MetricTypes(kind)


def _outcome(result: Prediction | InvalidImage | None) -> str:
    if result is None:
        return "no_memory"
    return result.label if isinstance(result, Prediction) else result.reason


def client_request_id(context: Any, index: int) -> str | None:
    """The client's own X-Request-Id; None if it sent none, or one that is not safe to repeat."""
    value = request_header(context, index, "x-request-id")
    return value if value and _CLIENT_ID.fullmatch(value) else None


def request_header(context: Any, index: int, name: str) -> str | None:
    """A header of one request; None if it sent none.

    Args:
        context: TorchServe's.
        index: The request's place in the batch.
        name: In any spelling; headers arrive as the client spelled them.
    """
    for spelled, value in context.get_all_request_header(index).items():
        if spelled.lower() == name.lower() and isinstance(value, str):
            return value
    return None


def worker_id(arguments: Sequence[str]) -> str:
    """The id that the describe API gives this worker: TorchServe starts it with a socket named so.

    Args:
        arguments: The worker's command line.
    """
    for argument in arguments:
        if match := re.search(r"\.ts\.sock\.(\d+)$", argument):
            return match[1]
    return "unknown"
