"""Send many requests at once, without retries, and keep every answer with its time."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread, local

import requests

from catdog_serving.bench.load_generator import arrival_times

TIMEOUT_S = 60


@dataclass(frozen=True)
class Answer:
    """One answer: status 0 means that the connection broke or timed out."""

    status: int
    body: bytes
    seconds: float


def send_all(
    url: str, requests_to_send: Iterable[tuple[bytes, dict[str, str]]], concurrency: int
) -> list[Answer]:
    """POST each (body, headers) to the prediction API; answers in the same order."""
    return post_all(
        url, (("predictions", body, headers) for body, headers in requests_to_send), concurrency
    )


def post_all(
    url: str, requests_to_send: Iterable[tuple[str, bytes, dict[str, str]]], concurrency: int
) -> list[Answer]:
    """POST each (API, body, headers), such as "explanations"; answers in the same order."""
    own = local()

    def send(request: tuple[str, bytes, dict[str, str]]) -> Answer:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        api, body, headers = request
        start = time.monotonic()
        try:
            response = own.session.post(
                f"{url}/{api}/catdog", data=body, headers=headers, timeout=TIMEOUT_S
            )
            return Answer(response.status_code, response.content, time.monotonic() - start)
        except requests.RequestException:
            return Answer(0, b"", time.monotonic() - start)

    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(send, requests_to_send))


def send_one(url: str, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    return send_all(url, [(body, headers or {})], 1)[0]


@contextmanager
def steady_load(url: str, bodies: Sequence[bytes], per_s: float) -> Iterator[list[Answer]]:
    """Requests at random times that do not wait for answers, until the block ends.

    Each comes from a client of its own, with one connection and no second try. The list has
    the answers so far, and all of them after the block.
    """
    ended = Event()
    answers: list[Answer] = []

    def send_at(due: float, body: bytes) -> None:
        answer = send_one(url, body)
        answers.append(Answer(answer.status, answer.body, time.monotonic() - due))

    def send_in_time() -> None:
        start = time.monotonic()
        with ThreadPoolExecutor(200) as pool:
            for number, arrival in enumerate(arrival_times(per_s, seconds=600, seed=7)):
                if ended.wait(max(0.0, start + arrival - time.monotonic())):
                    break
                pool.submit(send_at, start + arrival, bodies[number % len(bodies)])

    thread = Thread(target=send_in_time)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()
