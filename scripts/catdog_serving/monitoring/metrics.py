"""A server's metrics: scrape them, and say what happened between two scrapes."""

import math
import time
from collections import defaultdict
from dataclasses import dataclass, field

import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from catdog_serving.errors import ServerUnavailableError
from catdog_serving.http_session import HttpSession

STAGES = ("preprocess", "inference", "postprocess")  # of catdog_stage_seconds

_REQUESTS = "ts_inference_requests_total"
_TIMEOUT_S = 10.0
_SHORTEST_S = 1e-3  # between two scrapes


@dataclass(frozen=True)
class Scrape:
    """All samples of a metrics address at one moment.

    Attributes:
        samples: By Prometheus' own parser.
        time_s: When they were read, by a clock that never goes back.
    """

    samples: tuple[Sample, ...]
    time_s: float = field(default_factory=time.monotonic)

    @classmethod
    def parse(cls, text: str, time_s: float = 0.0) -> "Scrape":
        """Read Prometheus' text format.

        Comments are left out: with TYPE lines, the parser would rename the counters that
        TorchServe calls without _total.

        Raises:
            ValueError: If a line is neither a sample nor a comment.
        """
        lines = (line for line in text.split("\n") if not line.lstrip().startswith("#"))
        families = text_string_to_metric_families("\n".join(lines))
        return cls(tuple(sample for family in families for sample in family.samples), time_s)

    def total(self, name: str, **labels: str) -> float:
        """The sum over every sample of that name that has those labels; 0 if there is none."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """A histogram's cumulative counts by upper bound, the lowest first."""
        counts: dict[float, float] = defaultdict(float)
        for sample in self.samples:
            if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items():
                counts[float(sample.labels["le"])] += sample.value
        return dict(sorted(counts.items()))


def scrape(url: str) -> Scrape:
    """Ask a metrics address.

    Raises:
        ServerUnavailableError: If nothing answers there, or something else than metrics.
    """
    try:
        with HttpSession() as session:
            response = session.get(f"{url}/metrics", timeout=_TIMEOUT_S)
        response.raise_for_status()
        return Scrape.parse(response.text, time.monotonic())
    except (requests.RequestException, ValueError) as error:
        raise ServerUnavailableError(f"no metrics at {url}/metrics: {error}") from error


@dataclass(frozen=True)
class Quantiles:
    """Seconds per batch, interpolated within the histogram's buckets."""

    p50_s: float
    p95_s: float


@dataclass(frozen=True)
class Rates:
    """Rates and means over the time between two scrapes; a mean of nothing is None.

    Attributes:
        seconds: That time.
        requests_per_s: What reached the queue, 503s of a full one included.
        answers_per_s: What workers answered: predictions, and images refused with a 4xx.
        invalid_per_s: The refused ones of these.
        errors_per_s: 5xx of all APIs.
        request_s: Mean time of an answered request in the server.
        queue_s: Mean wait of one for a worker, part of `request_s`.
        batch_images: Mean requests per batch.
        busy_workers: How many workers computed, on average; a batch counts when it ends.
        stages: By name, those that ran.
    """

    seconds: float
    requests_per_s: float
    answers_per_s: float
    invalid_per_s: float
    errors_per_s: float
    request_s: float | None
    queue_s: float | None
    batch_images: float | None
    busy_workers: float
    stages: dict[str, Quantiles]

    @classmethod
    def between(cls, before: Scrape, after: Scrape) -> "Rates":
        """Compare two scrapes of one server.

        A server that was started again in between counts from 0, and so does the comparison.
        Requests2XX is not used: polls of the management API count in it.
        """
        seconds = max(after.time_s - before.time_s, _SHORTEST_S)
        if after.total(_REQUESTS) < before.total(_REQUESTS):
            before = Scrape(())

        def rise(name: str) -> float:
            return after.total(name) - before.total(name)

        def mean(total: float, count: float) -> float | None:
            return total / count if count > 0 else None

        answers = rise("catdog_batch_pictures_sum")
        return cls(
            seconds=seconds,
            requests_per_s=rise(_REQUESTS) / seconds,
            answers_per_s=answers / seconds,
            invalid_per_s=rise("catdog_invalid_total") / seconds,
            errors_per_s=rise("Requests5XX") / seconds,
            request_s=mean(rise("ts_inference_latency_microseconds") / 1e6, answers),
            queue_s=mean(rise("ts_queue_latency_microseconds") / 1e6, answers),
            batch_images=mean(answers, rise("catdog_batch_pictures_count")),
            busy_workers=rise("catdog_stage_seconds_sum") / seconds,
            stages=_stages(before, after),
        )


def _stages(before: Scrape, after: Scrape) -> dict[str, Quantiles]:
    stages = {}
    for stage in STAGES:
        earlier = before.buckets("catdog_stage_seconds", stage=stage)
        later = after.buckets("catdog_stage_seconds", stage=stage)
        counts = {bound: count - earlier.get(bound, 0) for bound, count in later.items()}
        if counts and counts[math.inf] > 0:
            stages[stage] = Quantiles(quantile(0.5, counts), quantile(0.95, counts))
    return stages


def quantile(q: float, buckets: dict[float, float]) -> float:
    """Estimate a quantile as Prometheus' histogram_quantile does.

    Args:
        q: In (0, 1).
        buckets: Cumulative counts by upper bound, ascending; the last bound is
            infinity and its count is over 0.

    Returns:
        A value in the bucket where the quantile lies, by linear interpolation; the
        highest finite bound if it lies beyond that.
    """
    rank = q * buckets[math.inf]
    lower, below = 0.0, 0.0
    for bound, count in buckets.items():
        if count >= rank and bound < math.inf:
            return lower + (bound - lower) * (rank - below) / (count - below)
        if bound < math.inf:
            lower, below = bound, count
    return lower
