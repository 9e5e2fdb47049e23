"""32 clients with bodies of the maximum size: all answered, nobody killed, quick again after."""

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.support.configs import MakeConfig
from tests.support.images import encode
from tests.support.paths import SAMPLES
from tests.support.raw_requests import send_all, send_one
from tests.support.servers import SERVERS, running_server

CLIENTS = 32
MAX_SECONDS = 30.0


def largest_photo(max_bytes: int) -> bytes:
    """A valid 50-megapixel JPEG padded by a comment-free tail to exactly the limit."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (768, 1024, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((8192, 6144), Image.Resampling.BICUBIC)
    data = encode(image, "JPEG", quality=92)
    assert len(data) < max_bytes
    return data + bytes(max_bytes - len(data))


@pytest.mark.parametrize("asgi", [False, True], ids=SERVERS)
@pytest.mark.parametrize("kind", ["50-megapixel photos", "rubbish", "one byte too much"])
def test_largest_bodies(archive: Path, make_config: MakeConfig, kind: str, asgi: bool) -> None:
    config = make_config(archive)
    limit = int(config.values["max_request_size"])
    body = {
        "50-megapixel photos": lambda: largest_photo(limit),
        "rubbish": lambda: np.random.default_rng(1).bytes(limit),
        "one byte too much": lambda: bytes(limit + 1),
    }[kind]()
    with running_server(config, asgi=asgi) as server:
        (worker,) = server.versions()[0].workers
        highest = HighestMemory(psutil.Process(worker.pid))
        with highest:
            answers = send_all(config.inference_url, [(body, {})] * CLIENTS, CLIENTS)
        counts = Counter(answer.status for answer in answers)
        slowest = max(answer.seconds for answer in answers)
        print(
            f"\n{CLIENTS} x {len(body) / 1e6:.1f} MB of {kind}: {dict(counts)}, slowest "
            f"{slowest:.1f} s, worker's highest RSS {highest.rss / 1e9:.2f} GB"
        )
        assert set(counts) <= {200, 400, 413, 503, *([507] if asgi else [])}
        assert slowest < MAX_SECONDS
        if kind == "50-megapixel photos":
            assert 400 not in counts
        threading.Event().wait(5)
        after = send_one(config.inference_url, (SAMPLES / "chelsea.png").read_bytes())
        assert after.status == 200
        assert server.versions()[0].workers[0].pid == worker.pid


class HighestMemory:
    """Watches a process's RSS inside a `with`."""

    def __init__(self, process: psutil.Process) -> None:
        self.rss = 0
        self._process = process
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.rss = max(self.rss, self._process.memory_info().rss)
