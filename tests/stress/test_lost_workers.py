"""Workers killed and servers stopped under load."""

import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from catdog.results import Prediction
from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.server import TorchServe
from tests.support.configs import MakeConfig
from tests.support.processes import assert_nothing_left, foreground_server, wait_until
from tests.support.raw_requests import Answer, send_one

KILLS = 5
CONCURRENCY = 8


def test_killed_workers_lose_nothing_for_a_retrying_client(
    archive: Path, make_config: MakeConfig, photos: list[Path]
) -> None:
    with TorchServe(make_config(archive)) as server:
        url = server.config.inference_url
        with CatDogClient(url) as client:
            alone = {path: client.classify(path) for path in photos}
        killing = threading.Event()
        results: list[tuple[Path, Prediction]] = []
        ready_again: list[float] = []

        def load(offset: int) -> None:
            with CatDogClient(url, retries=12) as client:
                number = offset
                while not killing.is_set():
                    path = photos[number % len(photos)]
                    results.append((path, client.classify(path)))
                    number += CONCURRENCY

        with ThreadPoolExecutor(CONCURRENCY) as pool:
            loads = [pool.submit(load, offset) for offset in range(CONCURRENCY)]
            try:
                for _ in range(KILLS):
                    threading.Event().wait(1)
                    ready_again.append(kill_worker(server))
            finally:
                killing.set()
            for done in loads:
                done.result()  # an error of the client would be raised here
        assert len(results) > 10 * KILLS
        for path, got in results:
            expected = alone[path]
            assert got.label == expected.label
            assert abs(got.cat - expected.cat) <= 1e-5
            assert abs(got.dog - expected.dog) <= 1e-5
        times = ", ".join(f"{s:.1f}" for s in ready_again)
        print(f"\n{KILLS} kills, {len(results)} requests, all right; READY again after {times} s")


def kill_worker(server: TorchServe) -> float:
    """SIGKILL the worker; seconds until another is READY."""
    (worker,) = server.versions()[0].workers
    psutil.Process(worker.pid).kill()
    start = time.monotonic()

    def replaced() -> bool:
        workers = server.versions()[0].workers
        return any(w.status == "READY" and w.pid not in (worker.pid, -1) for w in workers)

    wait_until(replaced, "a new READY worker", timeout_s=60)
    return time.monotonic() - start


def test_sigterm_under_load_ends_every_request_and_leaves_nothing(
    archive: Path, make_config: MakeConfig, photos: list[Path]
) -> None:
    bodies = [path.read_bytes() for path in photos]
    stop = threading.Event()
    answers: list[Answer] = []
    with foreground_server(make_config(archive)) as (process, server):
        url = server.config.inference_url

        def load(offset: int) -> None:
            number = offset
            while not stop.is_set():
                answers.append(send_one(url, bodies[number % len(bodies)]))
                number += CONCURRENCY

        with ThreadPoolExecutor(CONCURRENCY) as pool:
            loads = [pool.submit(load, offset) for offset in range(CONCURRENCY)]
            try:
                wait_until(lambda: len(answers) > 50, "load")
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
            finally:
                stop.set()
            for done in loads:
                done.result(timeout=60)
        assert_nothing_left(server)
    counts = Counter(answer.status for answer in answers)
    # 0: the connection was closed or refused; nobody waited for a time-out.
    assert set(counts) <= {0, 200, 500, 503, 507}
    assert max(answer.seconds for answer in answers) < 15
    print(f"\nSIGTERM under load: {dict(counts)}")
