"""`catdog autoscale` beside a real server: a burst, and calm, under plain clients."""

import re
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from catdog_serving.torchserve.server import TorchServe
from tests.support.autoscalers import SHORT, following
from tests.support.configs import MakeConfig
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until
from tests.support.raw_requests import send_one

CAT = (SAMPLES / "chelsea.png").read_bytes()
BURST = 24  # requests under way; 3 full batches


def test_a_burst_adds_a_worker_and_calm_takes_it_back_without_a_failed_request(
    make_config: MakeConfig, archive: Path
) -> None:
    with TorchServe(make_config(archive)) as server:
        statuses, text = burst_and_calm(server)
        (model,) = server.versions()
        assert model.ready_workers == 1
        assert model.batch_size == server.config.worker_settings["batchSize"]
        assert model.max_batch_delay_ms == server.config.worker_settings["maxBatchDelay"]
    print(f"\n{len(statuses)} requests, {dict(Counter(statuses))}\n{text}")
    assert Counter(statuses) == {200: len(statuses)}
    assert len(statuses) > 100
    assert re.search(r"T\S+ scale 1 -> 2: \d+% busy, .*; the target is 65% busy", text)
    assert re.search(r"T\S+ scale 2 -> 1: \d+% busy, .*; the target is 65% busy", text)
    assert "not scaled" not in text


def burst_and_calm(server: TorchServe) -> tuple[list[int], str]:
    """Every status, and what the command printed."""
    url = server.config.inference_url
    burst, stop = threading.Event(), threading.Event()
    statuses: list[int] = []

    def load(number: int) -> None:
        """The first sends always, a few requests a second; the others in the burst alone."""
        while not stop.is_set():
            if number == 0 or burst.is_set():
                statuses.append(send_one(url, CAT).status)
            if number == 0 or not burst.is_set():
                stop.wait(0.2)

    with following(server.config.path, "--min", "1", "--max", "2", *SHORT) as scaler:
        with ThreadPoolExecutor(BURST) as pool:
            loads = [pool.submit(load, number) for number in range(BURST)]
            try:
                scaler.wait_for("1 worker: ")
                burst.set()
                scaler.wait_for("2 workers READY after ")
                assert server.versions()[0].ready_workers == 2
                burst.clear()
                scaler.wait_for("1 worker READY after ")
                wait_until(lambda: len(server.versions()) == 1, "one version")
            finally:
                stop.set()
            for done in loads:
                done.result()
        assert scaler.end(signal.SIGTERM) == 0
        return statuses, scaler.text
