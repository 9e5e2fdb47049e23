"""The key file and what is sent, against a stand-in that keeps tokens as TorchServe does."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from catdog_serving.client import CatDogClient
from catdog_serving.errors import NotReadyError, ServerError
from catdog_serving.torchserve.tokens import KeyFile, KeyFileAuth, _is_same_server
from tests.support.http_servers import http_server, send
from tests.support.token_server import REFUSED, guarded_server


def client_of(url: str, file: KeyFile) -> CatDogClient:
    return CatDogClient(url, auth=KeyFileAuth(file, "inference"), retries=0)


def test_no_answer_is_lost_when_tokens_end_and_each_is_renewed_once(tmp_path: Path) -> None:
    """By eight threads of two clients that know nothing of each other."""
    lasts_s, rounds = 1.0, 3
    with guarded_server(tmp_path, lasts_s) as (guard, url, file):
        clients = [client_of(url, file) for _ in range(2)]
        end = time.monotonic() + rounds * lasts_s

        def ask(client: CatDogClient) -> int:
            count = 0
            while time.monotonic() < end:
                assert client.classify(b"data").label == "cat"
                count += 1
            return count

        with ThreadPoolExecutor(8) as pool:
            counts = list(pool.map(ask, clients * 4))
    assert min(counts) > rounds
    assert rounds - 1 <= guard.renewals <= rounds


def test_a_token_that_is_refused_before_its_end_is_not_renewed(tmp_path: Path) -> None:
    with guarded_server(tmp_path, 3600) as (guard, url, file), client_of(url, file) as client:
        guard.key = "another"  # than the file has
        with pytest.raises(ServerError, match="Token Authorization failed"):
            client.classify(b"data")
    assert guard.renewals == 0


def test_one_that_somebody_else_has_changed_is_read_again(tmp_path: Path) -> None:
    with guarded_server(tmp_path, 3600) as (guard, url, file), client_of(url, file) as client:
        assert client.classify(b"data").label == "cat"
        guard.make_new("theirs")
        assert client.classify(b"data").label == "cat"
    assert guard.renewals == 0


def test_a_token_is_renewed_before_its_end_for_who_asks_so(tmp_path: Path) -> None:
    with guarded_server(tmp_path, 100) as (guard, _, file):
        token = file.token("inference")
        assert token is not None
        assert 90 < token.left_s <= 100
        assert file.renewed("inference", token.key, left_s=50) == token
        renewed = file.renewed("inference", token.key, left_s=200)
        assert renewed is not None
        assert renewed.key == guard.key != token.key


def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    """One that holds a part of it was taken for a server without tokens, and nothing was sent."""
    with guarded_server(tmp_path, 3600) as (guard, url, file), client_of(url, file) as client:
        whole = guard.path.read_text()
        guard.path.write_text(whole[:50])
        later = threading.Timer(0.2, guard.path.write_text, (whole,))
        later.start()
        assert client.classify(b"data").label == "cat"
        later.join()


@pytest.mark.parametrize("content", ["", "{}", "[]", "7", '{"inference": {"key": "a"}}', "\xff"])
def test_a_file_without_tokens_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr("catdog_serving.torchserve.tokens._WRITING_S", 0.05)
    path = tmp_path / "key_file.json"
    path.write_bytes(content.encode("latin-1"))
    with client_of("http://127.0.0.1:1", KeyFile(path, "http://127.0.0.1:1")) as client:
        with pytest.raises(NotReadyError, match=r"key_file.json holds no tokens; .*: catdog re"):
            client.classify(b"data")


def test_without_a_file_nothing_is_sent_and_nobody_is_asked(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "key_file.json", "http://127.0.0.1:1")
    assert file.token("inference") is None
    assert file.renewed("inference", "key") is None
    seen = []

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append(request.headers.get("Authorization"))
        send(request, 400, REFUSED)

    with http_server(answer) as url, client_of(url, file) as client:
        with pytest.raises(ServerError, match="Token Authorization failed"):
            client.classify(b"data")
    assert seen == [None]


@pytest.mark.parametrize(
    ("url", "own", "same"),
    [
        ("http://localhost:8080", "http://127.0.0.1:8080", True),
        ("http://127.0.0.1:8080/", "http://localhost:8080", True),
        ("http://LOCALHOST:8080", "http://[::1]:8080", True),
        ("http://localhost:8080", "http://0.0.0.0:8080", True),
        ("http://127.0.0.1:8080", "http://0.0.0.0:8080", True),
        ("http://127.0.0.2:8080", "http://127.0.0.1:8080", False),  # may be somebody else's
        ("http://[::1]:8080", "http://127.0.0.1:8080", False),
        ("http://localhost:8081", "http://127.0.0.1:8080", False),
        ("http://localhost.example:8080", "http://127.0.0.1:8080", False),
        ("http://10.0.0.5:8080", "http://0.0.0.0:8080", False),
        ("http://localhost", "http://127.0.0.1:8080", False),
        ("http://localhost:99999", "http://127.0.0.1:8080", False),
        ("http://localhost:80x", "http://127.0.0.1:8080", False),
        ("http://[::1:8080", "http://127.0.0.1:8080", False),
    ],
)
def test_a_token_goes_to_the_server_that_it_belongs_to(url: str, own: str, same: bool) -> None:
    assert _is_same_server(url, own) == same
