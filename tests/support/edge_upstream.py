"""A stand-in behind nginx: the test decides when and what it answers, and sees what reached it."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import requests

from tests.support.edge import Edge
from tests.support.http_servers import send
from tests.support.processes import wait_until


class StandIn:
    """An upstream that keeps what it was sent, and answers `status` and `body`.

    A request with the body b"wait" is answered once `open` is set.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.status, self.body = 200, b"{}"
        self.headers: dict[str, str] = {}
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.open = threading.Event()

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.seen.append((request.command, request.path, dict(request.headers), body))
        assert body != b"wait" or self.open.wait(60)
        if self.status == 0:  # break off without an answer
            request.close_connection = True
        else:
            send(request, self.status, self.body, headers=self.headers)


def under_way(
    edge: Edge, upstream: StandIn, keys: list[str], pool: ThreadPoolExecutor
) -> list[Future[requests.Response]]:
    """A request for each key, all of them waiting at the stand-in."""
    upstream.seen.clear()
    futures = [pool.submit(edge.post, b"wait", key) for key in keys]
    wait_until(lambda: len(upstream.seen) == len(keys), f"{len(keys)} requests under way")
    return futures


def assert_try_again(answer: requests.Response, status: int, kind: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"], body["type"]) == (status, status, kind)
    assert int(answer.headers["Retry-After"]) >= 1
