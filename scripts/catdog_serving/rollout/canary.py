"""Canary: is the new version good enough to be the default, and then to stay?

Before it is the default it has to give its golden images their masses over HTTP; after that it is
watched. TorchServe counts requests by the version that the client named, so those of the default
cannot be told apart by version; after the switch they are the new one's.
"""

import zipfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from catdog.model_info import ModelInfo
from catdog_serving.errors import RefusedError
from catdog_serving.monitoring.metrics import Rates, Scrape, scrape
from catdog_serving.torchserve.management import ManagementClient, ModelStatus, poll
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.tokens import open_client

# The share of requests that may be answered 5xx, on top of what it was before.
MAX_ERRORS = 0.01
# A mean time of requests, the wait included, is too long if it is over this,
SLOW_S = 1.0
# and over so many times what it was before.
SLOWER = 3.0
_PAUSE_S = 0.5
# How long requests may be without any answer: a worker that never gives one is killed by
# TorchServe after responseTimeout, and lost.
_NO_ANSWER_S = 300.0


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
    def between(cls, before: Scrape, after: Scrape) -> "TrafficWindow":
        found = Rates.between(before, after)
        return cls(
            seconds=found.seconds,
            requests=round(found.requests_per_s * found.seconds),
            failed=round(found.errors_per_s * found.seconds),
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


def check_served_golden(
    server: TorchServe,
    archive: Path,
    info: ModelInfo,
    old: ModelStatus,
    version: str,
    *,
    insist: bool,
) -> None:
    """Ask the new version itself for the golden images, as any client would.

    Raises:
        RefusedError: If an answer is not what model.json promises or, unless one insists, not what
            the image shows; or another version gave it.
    """
    from catdog_serving.build.golden_images import check_golden, check_shown

    with (
        zipfile.ZipFile(archive) as packed,
        open_client(
            server.served.inference_url,
            server.config.path,
            retries=0,
            read_timeout_s=old.response_timeout_s + 5,
            version=version,
        ) as client,
    ):
        results = [client.classify(packed.read(image.file)) for image in info.golden]
    check_shown(info, check_golden(info, results), insist=insist)
    answered = {result.version for result in results} - {version}
    if answered:
        raise RefusedError(f"version {version} says that it is {', '.join(answered)}")


def watch_canary(
    server: TorchServe,
    management: ManagementClient,
    version: str,
    before: TrafficWindow,
    start: Scrape,
    seconds: float,
) -> TrafficWindow:
    """Watch the version that is the default now.

    Args:
        server: Which one.
        management: Its client.
        version: The new default.
        before: What the old one did.
        start: The metrics just before the version became the default.
        seconds: How long to watch; longer while requests came and none was answered yet.

    Returns:
        What was seen.

    Raises:
        RefusedError: As soon as one of its workers dies or too many requests fail; at
            the end, if they take too long.
        ServerUnavailableError: If there are no metrics at metrics_address.
    """
    since = datetime.now()
    workers = _ready(management, version)

    def look() -> TrafficWindow | None:
        # In this order: a worker that died of the requests that failed is the better reason.
        window = TrafficWindow.between(start, scrape(server.served.metrics_url))
        lost = workers - _ready(management, version)
        if lost:
            reason = server.run.why_a_worker_died(since) or "no traceback"
            ids = ", ".join(sorted(worker for worker, _ in lost))
            raise RefusedError(f"worker {ids} of version {version} died: {reason}")
        if window.fails_more(before):
            raise RefusedError(f"version {version} as the default: {window}; before: {before}")
        is_answered = window.mean_s is not None or not window.requests
        return window if window.seconds >= seconds and is_answered else None

    seen = poll(look, seconds + _NO_ANSWER_S, _PAUSE_S)
    if seen is None:
        raise RefusedError(f"version {version} as the default: no answer in {_NO_ANSWER_S:g} s")
    if seen.is_too_slow(before):
        raise RefusedError(f"version {version} as the default: {seen}; before: {before}")
    return seen


def _ready(management: ManagementClient, version: str) -> set[tuple[str, int]]:
    """Id and pid of the READY workers of a version."""
    found = management.version(version)
    return {(worker.id, worker.pid) for worker in found.ready} if found else set()
