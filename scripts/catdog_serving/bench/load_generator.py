"""Load on one server: a closed loop and an open loop, without retries.

The closed loop keeps a number of requests under way and finds what the server
can do. The open loop sends at random times that do not wait for answers, as
many independent users do, and finds how long they wait. Its latencies count
from the time at which a request was due, so that a slow answer is charged for
every request that it held up (no coordinated omission).

The generator shares the machine with the server. It is a plain `http.client`
for that reason, and `LoadResult.client_cpu_s` says what it took.
"""

import http.client
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from urllib.parse import urlsplit

import numpy as np

from catdog.results import MODEL_NAME
from catdog_serving.errors import ServerUnavailableError

TIMEOUT_S = 120.0
NO_ANSWER = 0  # the status of a request whose connection broke or timed out
# More than can wait in the server, so that a full queue shows as 503 and not as a slow client.
OPEN_LOOP_CONNECTIONS = 160


@dataclass(frozen=True)
class Answer:
    """One request. Times are `time.perf_counter`'s.

    Attributes:
        status: HTTP's, or `NO_ANSWER`.
        due: When it should have been sent.
        sent: When it was.
        end: When its answer was there.
        cpu_s: CPU time that sending and receiving took.
    """

    status: int
    due: float
    sent: float
    end: float
    cpu_s: float


@dataclass(frozen=True)
class LoadResult:
    """What one loop saw.

    Attributes:
        seconds: From the first request to the last answer.
        latencies_s: Of the answers with status 200.
        statuses: How often each HTTP status came; `NO_ANSWER` for none.
        client_cpu_s: CPU time that sending and receiving took.
    """

    seconds: float
    latencies_s: tuple[float, ...]
    statuses: dict[int, int]
    client_cpu_s: float

    @property
    def images_per_s(self) -> float:
        return len(self.latencies_s) / self.seconds

    @property
    def not_200(self) -> int:
        """Answers that were not predictions, and requests without an answer."""
        return sum(self.statuses.values()) - len(self.latencies_s)

    def percentile_ms(self, percent: float) -> float:
        """The latency that this share of the answers did not exceed."""
        return float(np.percentile(self.latencies_s, percent)) * 1000

    def quantities(self) -> dict[str, float]:
        """All of it, for `catdog bench`."""
        answers = sum(self.statuses.values())
        return {
            "images_per_s": self.images_per_s,
            **{f"p{percent}_ms": self.percentile_ms(percent) for percent in (50, 95, 99)},
            "answers": answers,
            "not_200": self.not_200,
            "answered_503": self.statuses.get(503, 0),
            "client_cpu_ms_per_image": self.client_cpu_s / answers * 1000,
        }


def closed_loop(url: str, images: Sequence[bytes], concurrency: int, seconds: float) -> LoadResult:
    """Keep `concurrency` requests under way for at least `seconds`, and wait for all answers.

    The last answers count as well: batches stay full to the end when `concurrency` is
    a multiple of the batch size, so the rate has no error of a cut-off batch.

    Raises:
        ServerUnavailableError: If no request was answered with 200.
    """
    barrier = Barrier(concurrency)

    def send_in_turn(first: int) -> list[Answer]:
        connection = _connect(url)
        barrier.wait()
        deadline = time.perf_counter() + seconds
        answers: list[Answer] = []
        turn = first
        while not answers or time.perf_counter() < deadline:
            due = time.perf_counter()
            answers.append(_send(connection, images[turn % len(images)], due, {}))
            turn += concurrency
        connection.close()
        return answers

    with ThreadPoolExecutor(concurrency) as pool:
        answers = [answer for own in pool.map(send_in_turn, range(concurrency)) for answer in own]
    return _summary(answers, url)


def arrival_times(images_per_s: float, seconds: float, seed: int) -> list[float]:
    """Poisson arrivals: seconds from the start, at least one, the same for a seed."""
    generator = np.random.default_rng(seed)
    expected = images_per_s * seconds
    gaps = generator.exponential(1 / images_per_s, int(expected + 10 * expected**0.5) + 10)
    times = np.cumsum(gaps)
    return [float(time) for time in times[: max(1, int(np.searchsorted(times, seconds)))]]


def open_loop(
    url: str, images: Sequence[bytes], images_per_s: float, seconds: float, seed: int
) -> LoadResult:
    """Send Poisson arrivals at a rate, whatever the server does, and wait for all answers.

    Raises:
        ServerUnavailableError: If no request was answered with 200.
    """
    return _summary(send_at(url, images, arrival_times(images_per_s, seconds, seed)), url)


def send_at(
    url: str,
    images: Sequence[bytes],
    times: Sequence[float],
    headers: Callable[[int], dict[str, str]] = lambda _: {},
) -> list[Answer]:
    """Send a request at each time, whatever the server does, and wait for all answers.

    Args:
        url: The server's.
        images: Sent in turn.
        times: Seconds from the start, ascending.
        headers: More of them for the request with that number.

    Returns:
        An answer for each time.
    """
    free: list[http.client.HTTPConnection] = []

    def send(number: int, due: float) -> Answer:
        try:
            connection = free.pop()
        except IndexError:
            connection = _connect(url)
        answer = _send(connection, images[number % len(images)], due, headers(number))
        free.append(connection)
        return answer

    with ThreadPoolExecutor(OPEN_LOOP_CONNECTIONS) as pool:
        start = time.perf_counter()
        futures = []
        for number, arrival in enumerate(times):
            time.sleep(max(0.0, start + arrival - time.perf_counter()))
            futures.append(pool.submit(send, number, start + arrival))
        answers = [future.result() for future in futures]
    for connection in free:
        connection.close()
    return answers


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TIMEOUT_S)


def _send(
    connection: http.client.HTTPConnection,
    image: bytes,
    due: float,
    headers: Mapping[str, str],
) -> Answer:
    cpu_before, sent = time.thread_time(), time.perf_counter()
    try:
        connection.request(
            "POST", f"/predictions/{MODEL_NAME}", image, {"Content-Type": "image/jpeg", **headers}
        )
        response = connection.getresponse()
        response.read()
        status = response.status
    except (OSError, http.client.HTTPException):
        connection.close()  # the next request opens it again
        status = NO_ANSWER
    return Answer(status, due, sent, time.perf_counter(), time.thread_time() - cpu_before)


def _summary(answers: list[Answer], url: str) -> LoadResult:
    statuses = dict(sorted(Counter(answer.status for answer in answers).items()))
    latencies = tuple(answer.end - answer.due for answer in answers if answer.status == 200)
    if not latencies:
        raise ServerUnavailableError(
            f"{url} answered none of {len(answers)} requests with 200; the statuses were {statuses}"
        )
    first = min(answer.due for answer in answers)
    last = max(answer.end for answer in answers)
    return LoadResult(last - first, latencies, statuses, sum(answer.cpu_s for answer in answers))
