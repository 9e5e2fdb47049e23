"""A folder over HTTP is as fast as the server: compared with a plain load test, interleaved."""

import statistics
import time
from pathlib import Path

from catdog_serving.find_images import find_sources
from catdog_serving.folder.backends import HttpBackend
from catdog_serving.folder.process_folder import process_sources
from catdog_serving.torchserve.server import TorchServe
from tests.support.raw_requests import send_all

ROUNDS = 7
JOBS = 16


def test_the_http_backend_reaches_what_a_plain_load_test_does(
    server: TorchServe, photos: list[Path]
) -> None:
    bodies = [(photo.read_bytes(), {}) for photo in photos]
    send_all(server.config.inference_url, bodies, JOBS)  # warm
    plain, folder = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        answers = send_all(server.config.inference_url, bodies, JOBS)
        plain.append(len(photos) / (time.perf_counter() - start))
        assert {answer.status for answer in answers} == {200}
        with HttpBackend.open(server.config.path, jobs=JOBS) as backend:
            start = time.perf_counter()
            reports = process_sources(find_sources(photos), backend, lambda row: None)
            folder.append(len(photos) / (time.perf_counter() - start))
        assert reports[0].images == len(photos)
    ratios = [ours / theirs for ours, theirs in zip(folder, plain, strict=True)]
    print(
        f"\nplain load {statistics.median(plain):.1f} images/s, folder "
        f"{statistics.median(folder):.1f}, ratio {statistics.median(ratios):.3f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}), {JOBS} at once"
    )
    assert statistics.median(ratios) >= 0.9
