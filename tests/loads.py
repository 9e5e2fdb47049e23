"""Send many requests at once, without retries, and keep every answer with its time."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import local

import requests

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
    own = local()

    def send(request: tuple[bytes, dict[str, str]]) -> Answer:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        body, headers = request
        start = time.monotonic()
        try:
            response = own.session.post(
                f"{url}/predictions/catdog", data=body, headers=headers, timeout=TIMEOUT_S
            )
            return Answer(response.status_code, response.content, time.monotonic() - start)
        except requests.RequestException:
            return Answer(0, b"", time.monotonic() - start)

    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(send, requests_to_send))


def send_one(url: str, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    return send_all(url, [(body, headers or {})], 1)[0]
