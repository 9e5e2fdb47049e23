"""What becomes of an upload over a slow line, and of one that breaks off."""

import json
import re
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler

import pytest

from catdog_serving import (
    CatDogClient,
    InvalidImageError,
)
from tests.support.answers import ANSWER
from tests.support.http_servers import http_server, send


@contextmanager
def line(answer: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """A server that gets each connection and the first bytes from it. Yields its URL."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                with listening.accept()[0] as connection:
                    answer(connection, connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_413_that_the_upload_does_not_hear_is_told_after_one_upload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server answers after the head and reads no further, as nginx does in the end."""
    monkeypatch.setattr("catdog_serving.client.CONNECT_TIMEOUT_S", 0.3)
    uploads = []

    def answer(connection: socket.socket, first: bytes) -> None:
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        if b"100-continue" not in first:
            uploads.append(first)
            select.select([], [], [], 0.6)  # longer than the client tries to write

    with line(answer) as url, CatDogClient(url) as client:
        with pytest.raises(InvalidImageError, match="max_request_size") as caught:
            client.classify(bytes(20_000_000))
    assert caught.value.status == 413
    assert len(uploads) == 1


def test_a_slow_upload_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes five times as long as a connection may; but it goes on and on."""
    monkeypatch.setattr("catdog_serving.client.CONNECT_TIMEOUT_S", 0.3)
    received = []

    def answer(connection: socket.socket, first: bytes) -> None:
        head, _, body = first.partition(b"\r\n\r\n")
        (size,) = re.findall(rb"Content-Length: (\d+)", head)
        left = int(size) - len(body)
        for _ in range(15):
            select.select([], [], [], 0.1)
            left -= len(connection.recv(left // 20, socket.MSG_WAITALL))
        left -= len(connection.recv(left, socket.MSG_WAITALL))
        received.append(left)
        told = json.dumps(ANSWER).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)

    with line(answer) as url, CatDogClient(url, retries=0) as client:
        assert client.classify(bytes(40_000_000)).label == "cat"
    assert received == [0]


def test_a_broken_upload_that_is_not_too_large_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server says 100 to the question, and waits for the body: that answers it as well."""
    monkeypatch.setattr("catdog_serving.client.TOO_LARGE_TIMEOUT_S", 0.2)
    uploads = []

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        uploads.append(len(body))
        if len(uploads) == 1:
            request.close_connection = True
        else:
            send(request, 200, json.dumps(ANSWER).encode())

    with http_server(answer) as url, CatDogClient(url) as client:
        assert client.classify(bytes(2_000_000)).label == "cat"
    assert [size for size in uploads if size] == [2_000_000] * 2
