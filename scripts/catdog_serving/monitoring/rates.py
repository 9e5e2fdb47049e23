"""What happened between two scrapes of a server's metrics."""

import math
from dataclasses import dataclass

from catdog_serving.monitoring.metrics_text import Metrics

STAGES = ("preprocess", "inference", "postprocess")  # of catdog_stage_seconds

_REQUESTS = "ts_inference_requests_total"


@dataclass(frozen=True)
class Quantiles:
    """Seconds per batch, interpolated within the histogram's buckets."""

    p50_s: float
    p95_s: float


@dataclass(frozen=True)
class Rates:
    """Rates and means over the time between two scrapes; a mean of nothing is None.

    Attributes:
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

    requests_per_s: float
    answers_per_s: float
    invalid_per_s: float
    errors_per_s: float
    request_s: float | None
    queue_s: float | None
    batch_images: float | None
    busy_workers: float
    stages: dict[str, Quantiles]


def rates(before: Metrics, after: Metrics, seconds: float) -> Rates:
    """Compare two scrapes of one server.

    A server that was started again in between counts from 0, and so does the comparison.
    Requests2XX is not used: polls of the management API count in it.

    Args:
        before: The earlier scrape.
        after: The later one.
        seconds: The time between them, over 0.
    """
    if after.total(_REQUESTS) < before.total(_REQUESTS):
        before = Metrics(())

    def rise(name: str) -> float:
        return after.total(name) - before.total(name)

    answers = rise("catdog_batch_pictures_sum")
    batches = rise("catdog_batch_pictures_count")

    def mean(total: float, count: float) -> float | None:
        return total / count if count > 0 else None

    stages = {}
    for stage in STAGES:
        earlier = before.buckets("catdog_stage_seconds", stage=stage)
        later = after.buckets("catdog_stage_seconds", stage=stage)
        counts = {bound: count - earlier.get(bound, 0) for bound, count in later.items()}
        if counts and counts[math.inf] > 0:
            stages[stage] = Quantiles(quantile(0.5, counts), quantile(0.95, counts))
    return Rates(
        requests_per_s=rise(_REQUESTS) / seconds,
        answers_per_s=answers / seconds,
        invalid_per_s=rise("catdog_invalid_total") / seconds,
        errors_per_s=rise("Requests5XX") / seconds,
        request_s=mean(rise("ts_inference_latency_microseconds") / 1e6, answers),
        queue_s=mean(rise("ts_queue_latency_microseconds") / 1e6, answers),
        batch_images=mean(answers, batches),
        busy_workers=rise("catdog_stage_seconds_sum") / seconds,
        stages=stages,
    )


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
