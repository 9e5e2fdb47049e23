"""A queue that is full answers 503 at once, and works on as before when it empties."""

import statistics
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.configs import MakeConfig
from tests.support.raw_requests import send_all
from tests.support.servers import SERVERS, running_server


@pytest.mark.parametrize("asgi", [False, True], ids=SERVERS)
def test_full_queue(archive: Path, make_config: MakeConfig, photos: list[Path], asgi: bool) -> None:
    config = make_config(archive, job_queue_size="4", worker_settings={"batchSize": 1})
    bodies = [(path.read_bytes(), {}) for path in photos]
    with running_server(config, asgi=asgi):
        url = config.inference_url

        def rate() -> float:
            start = time.monotonic()
            answers = send_all(url, bodies, 3)
            assert {a.status for a in answers} == {200}
            return len(answers) / (time.monotonic() - start)

        before = statistics.median(rate() for _ in range(3))
        flood = send_all(url, bodies * 3, 48)
        after = rate()
        again = statistics.median(rate() for _ in range(3))
    counts = Counter(answer.status for answer in flood)
    assert set(counts) == {200, 503}
    refusals = sorted(a.seconds for a in flood if a.status == 503)
    served = sorted(a.seconds for a in flood if a.status == 200)
    # "At once": without waiting for a place in the queue, which those served did.
    assert statistics.median(refusals) < statistics.median(served)
    assert after > 0.6 * before
    assert again > 0.8 * before
    print(
        f"\nqueue of 4, 48 clients: {dict(counts)}, 503 after {statistics.median(refusals):.3f} s "
        f"(median); {before:.0f} images/s before, {after:.0f} right after, {again:.0f} later"
    )
