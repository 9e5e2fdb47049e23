import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from PIL import Image
from requests.auth import AuthBase

from catdog_serving import (
    CatDogClient,
    CatDogError,
    InvalidImageError,
    ServerBusyError,
    ServerUnavailableError,
)
from catdog_serving.errors import ServerError
from catdog_serving.torchserve.private_config import free_ports
from tests.support.answers import ANSWER
from tests.support.client_answers import BUSY, Script
from tests.support.http_servers import Answer, http_server, send
from tests.support.paths import ROOT, SAMPLES
from tests.support.processes import wait_until

DIED = {"code": 507, "type": "InternalServerException", "message": "Worker died."}
INVALID = {"code": 400, "type": "InvalidImage", "message": "cannot decode 4 bytes"}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catdog_serving.client.FIRST_PAUSE_S", 0)


def test_the_environment_names_server_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    script, stranger = Script((200, ANSWER)), Script((200, ANSWER))
    with http_server(script) as url, http_server(stranger) as other:
        monkeypatch.setenv("CATDOG_URL", url + "/")
        monkeypatch.setenv("CATDOG_TOKEN", "from-environment\n")
        for options, key in (({}, "from-environment"), ({"url": url}, "from-environment"),
                             ({"auth": AuthBase()}, "from-environment"),
                             ({"token": "given"}, "given")):  # fmt: skip
            with CatDogClient(**options) as client:
                client.classify(b"data")
            assert script.requests[-1][1]["Authorization"] == f"Bearer {key}"
        with CatDogClient(other) as client:
            client.classify(b"data")
    assert "Authorization" not in stranger.requests[0][1]


@pytest.mark.parametrize("token", ["two words", "a\nb", "schl\u00fcssel"])
def test_a_token_that_is_none_is_not_shown(token: str) -> None:
    with pytest.raises(CatDogError) as refused:
        CatDogClient("http://127.0.0.1:1", token=token)
    assert token not in str(refused.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "localhost:8080", "ftp://x", "[a"])
def test_an_address_without_http_is_refused_at_once(url: str) -> None:
    with pytest.raises(CatDogError, match="is no server's address; give one such as http://"):
        CatDogClient(url)


def test_a_type_checker_knows_the_package_s_names_and_no_others(tmp_path: Path) -> None:
    """In a program of its own; each line with `# no` is an error, and no other."""
    program = tmp_path / "program.py"
    program.write_text(
        "import catdog_serving\n"
        "from catdog_serving import CatDogClient, Label, LocalClassifier, Prediction\n"
        "from catdog_serving import Catdogclient  # no\n"
        "def label_of(found: Prediction) -> Label:\n"
        "    return found.label\n"
        "def is_typo(found: Prediction) -> bool:\n"
        "    return found.label == 'catt'  # no\n"
        "catdog_serving.foo  # no\n"
    )
    options = ("--strict", "--no-incremental", "--no-error-summary", "--follow-imports=silent")
    found = subprocess.run(
        [sys.executable, "-m", "mypy", *options, program.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"MYPYPATH": f"{ROOT / 'handler'}:{ROOT / 'scripts'}"},
        check=False,
    )
    lines = program.read_text().splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if line.endswith("# no")]
    assert [int(line.split(":")[1]) for line in found.stdout.splitlines()] == wrong, found.stdout


def test_a_prediction_is_typed() -> None:
    script = Script((200, ANSWER))
    with http_server(script) as url, CatDogClient(url, token="secret") as client:
        prediction = client.classify(b"data")
    assert prediction.label == "cat"
    assert prediction.breed is not None
    assert prediction.breed.name == "tabby"
    assert prediction.top[0].probability == 0.6
    path, headers, body = script.requests[0]
    assert path == "/predictions/catdog"
    assert headers["Authorization"] == "Bearer secret"
    assert body == b"data"


def test_every_kind_of_image_is_sent_as_bytes() -> None:
    path = SAMPLES / "chelsea.png"
    script = Script((200, ANSWER))
    with http_server(script) as url, CatDogClient(url) as client, path.open("rb") as file:
        for image in (path, str(path), path.read_bytes(), file):
            client.classify(image)
        client.classify(Image.open(path))
    bodies = [body for _, _, body in script.requests]
    assert bodies[:4] == [path.read_bytes()] * 4
    assert bodies[4].startswith(b"\x89PNG")


def test_a_refused_image_is_not_sent_again() -> None:
    script = Script((400, INVALID))
    with http_server(script) as url, CatDogClient(url) as client:
        with pytest.raises(InvalidImageError, match="cannot decode 4 bytes") as caught:
            client.classify(b"junk")
    assert caught.value.status == 400
    assert len(script.requests) == 1


def test_torchserves_own_413_is_an_invalid_image() -> None:
    with http_server(Script((413, None))) as url, CatDogClient(url) as client:
        with pytest.raises(InvalidImageError, match="max_request_size"):
            client.classify(b"huge")


@pytest.mark.parametrize("answer", [b"<html>sign in</html>", b'{"label": "cat"}', b"[]"])
def test_an_answer_that_is_not_catdogs_is_one_line_that_shows_it(answer: bytes) -> None:
    with (
        http_server(lambda request, _: send(request, 200, answer)) as url,
        CatDogClient(url, retries=0) as client,
    ):
        for ask in (client.classify, client.explain):
            with pytest.raises(ServerUnavailableError, match="not as catdog does") as caught:
                ask(b"data")
            assert answer.decode() in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["label", "box"])
def test_an_answer_cannot_bring_markup_where_pages_want_none(key: str) -> None:
    markup = {"label": "<b>", "box": ["<b>", 0, 1, 1]}
    script = Script((200, ANSWER | {key: markup[key]}))
    with http_server(script) as url, CatDogClient(url, retries=0) as client:
        with pytest.raises(ServerUnavailableError, match="not as catdog does"):
            client.classify(b"data")


LIMITED = {"code": 429, "type": "TooManyRequestsException", "message": "too many requests"}


@pytest.mark.parametrize("trouble", [(503, BUSY), (507, DIED), (500, DIED), (429, LIMITED)])
def test_a_busy_or_lost_server_is_tried_again(trouble: tuple[int, object]) -> None:
    script = Script(trouble, trouble, (200, ANSWER))
    with http_server(script) as url, CatDogClient(url) as client:
        assert client.classify(b"data").label == "cat"
    assert len(script.requests) == 3


def test_a_server_that_stays_busy_is_given_up() -> None:
    script = Script((503, BUSY))
    with http_server(script) as url, CatDogClient(url, retries=2) as client:
        with pytest.raises(ServerBusyError) as caught:
            client.classify(b"data")
    assert caught.value.status == 503
    assert len(script.requests) == 3


def asking_to_wait(status: int, asked_s: str, body: bytes = b"") -> Answer:
    """Answers with a Retry-After, as nginx does."""

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        send(request, status, body, headers={"Retry-After": asked_s})

    return answer


@pytest.mark.parametrize(
    ("asked", "at_least_s", "below_s"),
    [("3", 3, 4), ("3600", 60, 61), ("Tue, 24 Nov 2026 08:00:00 GMT", 0, 1), ("-5", 0, 1)],
)
def test_the_pause_is_at_least_what_the_server_asks_for_and_a_minute_at_most(
    monkeypatch: pytest.MonkeyPatch, asked: str, at_least_s: float, below_s: float
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("catdog_serving.client.sleep_using_event", lambda closed: pauses.append)

    with http_server(asking_to_wait(429, asked)) as url, CatDogClient(url, retries=1) as client:
        with pytest.raises(ServerBusyError):
            client.classify(b"data")
    (pause_s,) = pauses
    assert at_least_s <= pause_s < below_s


def test_other_refusals_are_neither_retried_nor_called_invalid() -> None:
    wrong = {"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."}
    script = Script((400, wrong))
    with http_server(script) as url, CatDogClient(url) as client:
        with pytest.raises(ServerError, match="Token Authorization failed") as caught:
            client.classify(b"data")
    assert not isinstance(caught.value, InvalidImageError)
    assert len(script.requests) == 1


def test_nginxs_own_token_that_is_being_renewed_is_waited_for() -> None:
    """It says so with a Retry-After; a token of the client's own is refused without one."""
    wrong = b'{"code": 400, "type": "InvalidKeyException", "message": "refused"}'
    with http_server(asking_to_wait(400, "0", wrong)) as url, CatDogClient(url) as client:
        with pytest.raises(ServerBusyError, match="refused"):
            client.classify(b"data")


def test_no_server_says_how_to_start_one() -> None:
    (port,) = free_ports(1)
    with CatDogClient(f"http://127.0.0.1:{port}", retries=1) as client:
        with pytest.raises(ServerUnavailableError, match="catdog serve"):
            client.classify(b"data")


def test_a_missing_file_is_pythons_own_error(tmp_path: Path) -> None:
    with CatDogClient() as client, pytest.raises(FileNotFoundError):
        client.classify(tmp_path / "nope.jpg")


def test_many_images_come_back_in_order_and_a_bad_one_in_its_place() -> None:
    def by_body(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if body == b"bad":
            send(request, 400, json.dumps(INVALID).encode())
        else:
            send(request, 200, json.dumps(ANSWER | {"cat": int(body) / 1000}).encode())

    images = [b"bad" if n % 10 == 3 else str(n).encode() for n in range(60)]
    with http_server(by_body) as url, CatDogClient(url) as client:
        results = list(client.classify_many(iter(images), concurrency=8))
    for number, result in enumerate(results):
        if number % 10 == 3:
            assert isinstance(result, InvalidImageError)
            assert result.__traceback__ is None
        else:
            assert not isinstance(result, InvalidImageError)
            assert result.cat == number / 1000


def test_many_images_end_with_the_servers_error() -> None:
    with http_server(Script((503, BUSY))) as url, CatDogClient(url, retries=0) as client:
        with pytest.raises(ServerBusyError):
            list(client.classify_many([b"data"] * 5))


def test_closing_ends_the_pauses_of_calls_that_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catdog_serving.client.FIRST_PAUSE_S", 1e6)
    monkeypatch.setattr("catdog_serving.client.LONGEST_PAUSE_S", 1e6)
    script = Script((503, BUSY))
    with http_server(script) as url, ThreadPoolExecutor(1) as pool:
        client = CatDogClient(url)
        waiting = pool.submit(client.classify, b"data")
        wait_until(lambda: len(script.requests) == 1, "the first request")
        client.close()
        with pytest.raises(ServerBusyError):
            waiting.result(timeout=10)


def test_one_base_error_catches_all() -> None:
    for error in (InvalidImageError, ServerBusyError, ServerUnavailableError):
        assert issubclass(error, CatDogError)


def test_as_many_connections_are_kept_as_were_asked_for() -> None:
    """More than requests' own ten: 16 at once, twice, on the same 16 connections."""
    together = threading.Barrier(16)
    clients = set()

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        clients.add(request.client_address)
        together.wait(timeout=20)
        send(request, 200, json.dumps(ANSWER).encode())

    with http_server(answer) as url, CatDogClient(url, connections=16) as client:
        with ThreadPoolExecutor(16) as pool:
            for _ in range(2):
                assert len(list(pool.map(client.classify, [b"data"] * 16))) == 16
    assert len(clients) == 16


# --- processes


# --- a file that is too large, over a slow line


# --- PIL images
