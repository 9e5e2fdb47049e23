"""What a lone request takes beside decoding, resizing and the forward pass.

An archive that answers a constant for the same bodies, asked in turns with the real one, is
TorchServe's own floor: what is outside the handler is compared with it. The handlers say in headers
how long they took.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import with_handler
from tests.support.configs import MakeConfig

HANDLE = "    def handle(self, data: Sequence[dict[str, Any]], context: Any) -> list[bytes]:\n"
# The real handler, timed: all of it, and of that decoding, resizing and the forward pass.
TIMED = """
    def handle(self, data, context):
        import time
        before = time.perf_counter()
        answers = self.answer(data, context)
        took_s = time.perf_counter() - before
        if self._is_describe(data, context):
            return answers
        stages_s = sum(self.clock.seconds[name] for name in ("preprocess", "inference"))
        context.set_response_header(0, "X-Handler-Ms", str(took_s * 1e3))
        context.set_response_header(0, "X-Stages-Ms", str(stages_s * 1e3))
        return answers

    def answer(self, data, context):
"""
# The first answer for every body, which the start of a server reads.
CONSTANT = """
    def handle(self, data, context):
        if self._is_describe(data, context):
            return self.answer(data, context)
        if not hasattr(self, "constant"):
            self.constant = self.answer(data, context)
        context.set_response_content_type(0, "application/json")
        context.set_response_header(0, "X-Handler-Ms", "0")
        context.set_response_header(0, "X-Stages-Ms", "0")
        return self.constant

    def answer(self, data, context):
"""
CLOCK = "        clock = StageClock()\n"
ROUNDS = 3


class Took(NamedTuple):
    """Milliseconds of one request: beside the three stages, and outside the handler."""

    total: float
    beside: float
    outside: float


@pytest.fixture
def servers(
    archive: Path, make_config: MakeConfig, tmp_path: Path
) -> Iterator[tuple[TorchServe, TorchServe]]:
    """The real one, and the floor."""
    clocked = with_handler(
        archive, tmp_path / "clocked.mar", CLOCK, "        clock = self.clock = StageClock()\n"
    )
    real = with_handler(clocked, tmp_path / "real.mar", HANDLE, TIMED)
    floor = with_handler(archive, tmp_path / "floor.mar", HANDLE, CONSTANT)
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(TorchServe(make_config(path))) for path in (real, floor)
        )
        yield first, second


def test_little_is_beside_the_stages_and_outside_the_handler(
    servers: tuple[TorchServe, TorchServe], photos: list[Path]
) -> None:
    images = [path.read_bytes() for path in photos]
    urls = [f"{server.config.inference_url}/predictions/catdog" for server in servers]
    taken: list[list[Took]] = [[], []]
    with requests.Session() as session:
        for image in images[:20]:
            for url in urls:
                ask(session, url, image)
        for image in images * ROUNDS:
            for url, found in zip(urls, taken, strict=True):
                found.append(ask(session, url, image))
    real, floor = (Took(*map(statistics.median, zip(*found, strict=True))) for found in taken)
    print(
        f"\nms of a lone request, medians of {len(taken[0])}: {real.total:.2f} in all, "
        f"{real.beside:.2f} of the worker's beside decoding, resizing and the forward pass, "
        f"{real.outside:.2f} outside the handler; a constant's {floor.outside:.2f}"
    )
    assert real.beside < real.total / 4
    assert real.outside < 4 * floor.outside


def ask(session: requests.Session, url: str, image: bytes) -> Took:
    before = time.perf_counter()
    answer = session.post(url, data=image)
    total_ms = (time.perf_counter() - before) * 1e3
    assert answer.status_code == 200
    handler_ms, stages_ms = (float(answer.headers[f"X-{of}-Ms"]) for of in ("Handler", "Stages"))
    return Took(total_ms, handler_ms - stages_ms, total_ms - handler_ms)
