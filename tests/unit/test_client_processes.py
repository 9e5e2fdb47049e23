"""A client after a fork, a copy, a pickle: connections of its own."""

import copy
import json
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest

from catdog_serving import (
    CatDogClient,
    CatDogError,
)
from tests.support.answers import ANSWER
from tests.support.client_answers import BUSY, Script
from tests.support.http_servers import http_server, send


def answer_by_body(request: BaseHTTPRequestHandler, body: bytes) -> None:
    """A prediction whose cat mass is the number that was sent, in thousandths."""
    send(request, 200, json.dumps(ANSWER | {"cat": int(body) / 1000}).encode())


def wrong_answers(client: CatDogClient, numbers: range) -> list[tuple[int, object]]:
    """What a client was told about each number, where it is not that number's answer."""
    found: list[tuple[int, object]] = []
    for number in numbers:
        try:
            told: object = client.classify(str(number).encode()).cat
        except CatDogError as error:
            told = str(error)
        if told != number / 1000:
            found.append((number, told))
    return found


def test_a_fork_has_connections_of_its_own() -> None:
    """Two processes on one connection read each other's answers."""
    forked = multiprocessing.get_context("fork")
    told = forked.SimpleQueue()
    with http_server(answer_by_body) as url, CatDogClient(url, retries=0) as client:
        assert client.classify(b"1").cat == 0.001  # on the connection that a fork would share

        def ask_in_a_fork(numbers: range) -> None:
            told.put(wrong_answers(client, numbers))

        children = [
            forked.Process(target=ask_in_a_fork, args=(range(n, n + 20),))
            for n in range(100, 500, 100)
        ]
        for child in children:
            child.start()
        assert wrong_answers(client, range(500, 580)) == []
        assert [told.get() for _ in children] == [[]] * 4
        for child in children:
            child.join()


def test_a_fork_of_a_closed_client_is_closed_too() -> None:
    """Its calls end at once, without pauses."""
    forked = multiprocessing.get_context("fork")
    script = Script((503, BUSY))
    with http_server(script) as url:
        with CatDogClient(url) as client:
            pass
        child = forked.Process(target=wrong_answers, args=(client, range(1)))
        child.start()
        child.join()
        assert (child.exitcode, len(script.requests)) == (0, 1)


COPIES: dict[str, Callable[[CatDogClient], CatDogClient]] = {
    "pickle": lambda client: pickle.loads(pickle.dumps(client)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_a_copy_asks_as_the_client_does_and_lives_on_its_own(
    make: Callable[[CatDogClient], CatDogClient],
) -> None:
    script = Script((503, BUSY), (200, ANSWER))
    with http_server(script) as url, CatDogClient(url, token="key", version="2") as client:
        with make(client) as copied:
            assert copied.classify(b"data").label == "cat"
        assert client.classify(b"data").label == "cat"
    sent = [(path, headers["Authorization"]) for path, headers, _ in script.requests]
    assert sent == [("/predictions/catdog/2", "Bearer key")] * 3


def test_it_can_be_sent_to_another_process() -> None:
    """As Spark, joblib and a pool of processes do."""
    spawned = multiprocessing.get_context("spawn")
    with http_server(answer_by_body) as url, CatDogClient(url) as client:
        with ProcessPoolExecutor(1, mp_context=spawned) as pool:
            assert pool.submit(wrong_answers, client, range(5)).result(timeout=60) == []
