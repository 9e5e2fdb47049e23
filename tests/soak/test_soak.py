"""Steady mixed load for half an hour: memory stays where it was, and p99 does not grow.

CATDOG_SOAK_MINUTES shortens it for a try; the bounds below are for 30 minutes.
"""

import os
import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from catdog_serving.torchserve.server import TorchServe
from tests.support.hostile import corpus
from tests.support.raw_requests import send_one

MINUTES = int(os.environ.get("CATDOG_SOAK_MINUTES", "30"))
RATE_PER_S = 12
BAD_SHARE = 0.05
WARM_UP_MINUTES = 5
MAX_MEMORY_GROWTH = 0.05
MAX_P99_GROWTH = 1.25
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.mark.skipif(MINUTES <= WARM_UP_MINUTES, reason="too short to compare with minute 5")
def test_half_an_hour(server: TorchServe, photos: list[Path]) -> None:
    url = server.config.inference_url
    java = server.run.process()
    assert java is not None
    worker = psutil.Process(server.versions()[0].workers[0].pid)
    good = [path.read_bytes() for path in photos]
    bad = list(corpus().values())
    choose = random.Random(1)
    seconds: list[list[float]] = [[] for _ in range(MINUTES)]
    statuses: dict[int, int] = {}
    memory: list[tuple[float, float]] = []
    lock = threading.Lock()

    def send(minute: int, body: bytes) -> None:
        answer = send_one(url, body, OCTETS)
        with lock:
            seconds[minute].append(answer.seconds)
            statuses[answer.status] = statuses.get(answer.status, 0) + 1

    start = time.monotonic()
    with ThreadPoolExecutor(32) as pool:
        for number in range(MINUTES * 60 * RATE_PER_S):
            due = start + number / RATE_PER_S
            threading.Event().wait(max(0.0, due - time.monotonic()))
            minute = number // (60 * RATE_PER_S)
            pool.submit(send, minute, choose.choice(bad if choose.random() < BAD_SHARE else good))
            if number % (60 * RATE_PER_S) == 0:
                memory.append((java.memory_info().rss / 1e6, worker.memory_info().rss / 1e6))
    memory.append((java.memory_info().rss / 1e6, worker.memory_info().rss / 1e6))

    p99 = [sorted(times)[int(len(times) * 0.99)] for times in seconds]
    print(f"\nstatuses {statuses}")
    for minute in range(0, MINUTES + 1, 5):
        at_java, at_worker = memory[minute]
        window = p99[max(0, minute - 5) : minute] or p99[:1]
        print(
            f"minute {minute:2d}: Java {at_java:.0f} MB, worker {at_worker:.0f} MB, "
            f"p99 {statistics.median(window) * 1000:.0f} ms"
        )
    for before, after in zip(memory[WARM_UP_MINUTES], memory[-1], strict=True):
        assert abs(after - before) / before < MAX_MEMORY_GROWTH
    half = (WARM_UP_MINUTES + MINUTES) // 2
    first, second = p99[WARM_UP_MINUTES:half], p99[half:]
    assert statistics.median(second) <= MAX_P99_GROWTH * statistics.median(first)
    assert set(statuses) <= {200, 400, 413}
