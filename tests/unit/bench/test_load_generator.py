"""The load generators, against a server of a few lines whose answers take a known time."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest

from catdog_serving.bench.load_generator import (
    NO_ANSWER,
    arrival_times,
    closed_loop,
    open_loop,
    send_at,
)
from catdog_serving.errors import ServerUnavailableError
from catdog_serving.torchserve.private_config import free_ports
from tests.support.http_servers import http_server, send

ANSWER_S = 0.05


@pytest.fixture
def url() -> Iterator[str]:
    """Answers take `ANSWER_S`, one after the other; a body "bad" gets 400."""
    turn = threading.Lock()

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        with turn:
            time.sleep(ANSWER_S)
        send(request, 400 if body == b"bad" else 200, b"{}")

    with http_server(answer) as address:
        yield address


def test_a_closed_loop_counts_every_answer_and_all_the_time(url: str) -> None:
    result = closed_loop(url, [b"image"], 4, 0.5)
    assert set(result.statuses) == {200}
    # The server is busy all the time: never faster than it, and hardly slower.
    assert 0.6 / ANSWER_S < result.images_per_s <= 1 / ANSWER_S
    # Each waits for the three others.
    assert result.percentile_ms(50) == pytest.approx(4 * ANSWER_S * 1000, rel=0.4)


def test_answers_that_are_no_predictions_do_not_count_as_images(url: str) -> None:
    result = closed_loop(url, [b"image", b"bad"], 1, 0.3)
    assert result.statuses[400] > 0
    assert result.quantities()["not_200"] == result.statuses[400]
    assert len(result.latencies_s) == result.statuses[200]


def test_an_open_loop_counts_waiting_from_when_a_request_was_due(url: str) -> None:
    # Twice as many as the server can do: the queue grows, and the last waits for about half of
    # all. A loop that waits for answers before it sends would see ANSWER_S each time.
    rate, seconds = 2 / ANSWER_S, 1.0
    result = open_loop(url, [b"image"], rate, seconds, seed=1)
    sent = len(arrival_times(rate, seconds, seed=1))
    assert result.statuses == {200: sent}
    assert max(result.latencies_s) > 0.3 * sent * ANSWER_S
    assert result.seconds >= sent * ANSWER_S


def test_answers_come_in_the_order_of_their_times_and_requests_keep_their_headers() -> None:
    seen: dict[str, bytes] = {}

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        number = request.headers["X-Number"]
        seen[number] = body
        time.sleep(0.2 if number == "0" else 0)  # the first is answered last
        send(request, 400 if number == "1" else 200, b"{}")

    times = [0.0, 0.05, 0.1]
    with http_server(answer) as address:
        answers = send_at(address, [b"a", b"b"], times, lambda number: {"X-Number": str(number)})
    assert seen == {"0": b"a", "1": b"b", "2": b"a"}
    assert [one.status for one in answers] == [200, 400, 200]
    assert [one.due - answers[0].due for one in answers] == pytest.approx(times)
    assert all(one.due <= one.sent < one.end for one in answers)
    assert answers[0].end > answers[2].end


def test_arrivals_are_poisson_and_the_same_for_a_seed() -> None:
    times = arrival_times(50, 100, seed=7)
    gaps = np.diff(times)
    assert times == arrival_times(50, 100, seed=7) != arrival_times(50, 100, seed=8)
    assert times == sorted(times)
    assert times[-1] < 100
    assert len(times) == pytest.approx(5000, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as of an exponential distribution
    assert len(arrival_times(0.01, 0.1, seed=1)) == 1


def test_a_server_that_is_not_there_is_named() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ServerUnavailableError, match=rf"{port} answered none.*\{{{NO_ANSWER}: 2"):
        closed_loop(f"http://127.0.0.1:{port}", [b"image"], 2, 0)
