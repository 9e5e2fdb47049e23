"""What `catdog web` refuses, and its sentences."""

import asyncio
import base64
import csv
import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
import requests
from starlette.responses import PlainTextResponse
from starlette.types import Message

from catdog_serving.asgi.http_server import http_server as asgi_server
from catdog_serving.asgi.http_server import listen_at
from catdog_serving.client import CatDogClient
from catdog_serving.errors import (
    CatDogError,
    NotReadyError,
    ServerBusyError,
    ServerError,
    ServerUnavailableError,
)
from catdog_serving.extras import install_hint
from catdog_serving.folder.outputs import to_csv
from catdog_serving.torchserve.tokens import KeyFile
from catdog_serving.web.app import make_application
from catdog_serving.web.guard import Guard
from catdog_serving.web.server import CONCURRENCY, WebSettings
from catdog_serving.web.service import Service, server_problem
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.fake_server import FakeServer
from tests.support.http_servers import Answer, http_server, running_uvicorn, send
from tests.support.images import encode, noise
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until
from tests.support.web_pages import answer_a_cat

CAT = (SAMPLES / "chelsea.png").read_bytes()
INVALID = json.dumps({"code": 400, "type": "InvalidImage", "message": "no image"}).encode()
HERE, EVIL, NGINX = "127.0.0.1:7860", "http://evil.example", "https://cats.example.org"
RIGHT = "Basic " + base64.b64encode("me:geheim-ß".encode()).decode()


@contextmanager
def served(make_config: MakeConfig, answer: Answer, **settings: object) -> Iterator[str]:
    """The page's server before one that answers as a test tells it to; gives its address."""
    config = make_config(None, max_request_size="1000000")
    with http_server(answer) as url, CatDogClient(url, retries=0) as client:
        values = WebSettings("127.0.0.1", 0, None, url, config, **settings)  # type: ignore[arg-type]
        listening = listen_at("127.0.0.1", 0)
        with running_uvicorn(asgi_server(make_application(values, client)), [listening]):
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def slow_client(address: str, length: str = "Content-Length: 1000000") -> socket.socket:
    """A connection that has sent the head of a request and nothing of its body."""
    found = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30)
    found.sendall(f"POST /predictions HTTP/1.1\r\nHost: {HERE}\r\n{length}\r\n\r\n".encode())
    return found


def post(address: str, content: bytes) -> requests.Response:
    return requests.post(f"{address}/predictions", data=content, timeout=30)


@pytest.mark.parametrize("options", [("--host", "0.0.0.0"), ("--origin", NGINX)])
def test_where_others_reach_it_it_needs_a_password(options: tuple[str, str]) -> None:
    result = catdog_here("web", *options)
    assert result.returncode == 2
    assert "give --auth USER:PASSWORD, or set CATDOG_WEB_AUTH" in result.stderr


def test_on_loopback_it_needs_none() -> None:
    with listen_at("127.0.0.2", 0) as taken:
        port = taken.getsockname()[1]
        result = catdog_here("web", "--host", "127.0.0.2", "--port", str(port))
    assert "cannot listen on port" in result.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        *(({"CATDOG_WEB_AUTH": auth}, "--auth is USER:PASSWORD") for auth in ("me", "me:", ":x")),
        ({"origin": "cats.example.org"}, "--origin is a URL such as https://"),
    ],
)
def test_half_a_value_is_refused(options: dict[str, str], sentence: str) -> None:
    origin = options.pop("origin", None)
    result = catdog_here("web", *(["--origin", origin] if origin else ()), **options)
    assert result.returncode == 2
    assert sentence in result.stderr


def test_without_starlette_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['starlette'] = None; sys.argv = ['catdog', 'web'];"
        "from catdog_serving.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 3
    assert install_hint("web") in result.stderr


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": HERE}, 200),
        ({"host": HERE, "origin": f"http://{HERE}"}, 200),
        ({"host": "[::1]:7860", "origin": "http://[::1]:7860"}, 200),
        ({"host": "LOCALHOST:7860", "origin": "http://localhost:7860"}, 200),
        ({"host": "192.168.0.7:7860"}, 200),
        ({"host": HERE, "origin": NGINX}, 200),
        ({"host": "cats.example.org", "origin": NGINX}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:7860", "origin": "http://evil.example:7860"}, 421),
        ({"host": "[::1"}, 421),
        ({}, 421),
        ({"host": HERE, "origin": EVIL}, 403),
        ({"host": HERE, "origin": "null"}, 403),
        ({"host": HERE, "origin": f"https://{HERE}"}, 403),
        ({"host": HERE, "origin": "http://127.0.0.1:8080"}, 403),
        ({"host": HERE, "authorization": ""}, 401),
        ({"host": HERE, "authorization": "Basic !"}, 401),
        ({"host": HERE, "authorization": RIGHT.lower()}, 401),
        ({"host": HERE, "authorization": RIGHT.replace("Basic", "Bearer")}, 401),
    ],
)
def test_only_its_own_pages_and_who_knows_the_password(
    make_config: MakeConfig, headers: dict[str, str], status: int
) -> None:
    config = make_config(None)
    settings = WebSettings("::1", 0, ("me", "geheim-ß"), HERE, config, origins=(NGINX,))
    page = Guard(PlainTextResponse("the page"), settings)
    sent: list[Message] = []

    async def send_message(message: Message) -> None:
        sent.append(message)

    pairs = ({"authorization": RIGHT} | headers).items()
    scope = {"type": "http", "headers": [(k.encode(), v.encode()) for k, v in pairs]}
    asyncio.run(page(scope, None, send_message))  # type: ignore[arg-type]
    assert sent[0]["status"] == status
    found = dict(sent[0]["headers"])
    assert (b"www-authenticate" in found) == (status == 401)
    assert found[b"content-security-policy"] == b"default-src 'none'; sandbox"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ServerUnavailableError("no answer"), "Start it with: catdog serve"),
        (ServerUnavailableError("lost", status=500), "Wait a moment, then try again"),
        (ServerBusyError("full", status=503), "Wait a moment, then try again"),
        (ServerError("a wrong token", status=400), "a wrong token"),
        (NotReadyError("no tokens"), "no tokens"),
    ],
)
def test_a_server_problem_says_what_to_do(error: CatDogError, sentence: str) -> None:
    assert sentence in server_problem(error, "http://127.0.0.1:8080")


def test_what_only_folders_read_needs_the_operators_leave(make_config: MakeConfig) -> None:
    images = {
        name: encode(noise(40, 30), format)
        for name, format in (("TIFF", "TIFF"), ("AVIF", "AVIF"), ("HEIC", "HEIF"))
    }
    with served(make_config, lambda request, _: send(request, 500, b"it was sent")) as address:
        for name, content in images.items():
            item = post(address, content).json()
            assert item["error"]["message"] == (
                f"the page does not take {name}; save it as JPEG, or start the page with: "
                "catdog web --all-formats"
            )
    with served(make_config, answer_a_cat, all_formats=True) as address:
        for content in images.values():
            item = post(address, content).json()
            assert (item["label"], item["map"]["size"]) == ("cat", [40, 30])
            assert item["thumbnail"].startswith("data:image/webp")  # no browser shows them all
        assert "thumbnail" not in post(address, CAT).json()


def test_a_row_is_that_of_the_command(make_config: MakeConfig) -> None:
    with served(make_config, lambda request, _: send(request, 400, INVALID)) as address:
        headers = {"X-File-Name": "%3Cb%3E%0D%0A%22.png"}
        answer = requests.post(f"{address}/predictions", b"x", headers=headers, timeout=9).json()
        explained = requests.post(f"{address}/explanations", b"x", headers=headers, timeout=9)
    assert answer["row"]["path"] == '<b>\r\n".png'
    assert answer["row"]["error"] == {"type": "InvalidImage", "message": "no image"}
    header = b"".join(to_csv(())).decode()
    (row,) = csv.DictReader(io.StringIO(header + answer["csv"], newline=""))
    assert row["path"] == '<b>\r\n".png'
    shown = {key: value for key, value in answer.items() if key not in ("row", "csv")}
    assert shown == {key: answer["row"][key] for key in ("path", "size", "error")}
    assert explained.json() == {"error": answer["row"]["error"]}


def test_visitors_together_do_not_fill_the_queue(make_config: MakeConfig) -> None:
    """Each answer waits for one request too many, until it is clear that none comes."""
    under_way = 0
    lock, too_many, waited = threading.Lock(), threading.Event(), threading.Event()

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        nonlocal under_way
        with lock:
            under_way += 1
            if under_way > CONCURRENCY:
                too_many.set()
        if not waited.is_set():
            too_many.wait(0.5)
            waited.set()
        with lock:
            under_way -= 1
        send(request, 400, INVALID)

    with served(make_config, answer) as address, ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(post, [address] * 60, [CAT] * 60))
    assert all("error" in answer.json() for answer in answers)
    assert not too_many.is_set()


def test_bodies_wait_for_room_among_those_that_are_here(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight that lack a last byte take all there is; who goes away gives it back."""
    monkeypatch.setattr("catdog_serving.web.app._WAIT_S", 0.5)
    with served(make_config, answer_a_cat) as address, ExitStack() as connections:
        for _ in range(3):
            slow = [connections.enter_context(slow_client(address)) for _ in range(8)]
            for connection in slow:
                connection.sendall(bytes(999_999))
            wait_until(lambda: post(address, CAT).status_code == 507, "all the room taken")
            for connection in slow:
                connection.close()
            wait_until(lambda: post(address, CAT).status_code == 200, "the room given back")
        assert post(address, bytes(1_000_001)).status_code == 413


def test_what_has_not_come_takes_no_room(make_config: MakeConfig) -> None:
    with served(make_config, answer_a_cat) as address, ExitStack() as connections:
        for length in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
            for _ in range(8):
                connections.enter_context(slow_client(address, length))
        requests.get(address, timeout=30)
        assert post(address, CAT).json()["label"] == "cat"


def test_the_service_tab_outlives_another_program_at_the_port(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeServer()
    text = b"<html>another program"

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if text:
            send(request, 200, text)
        else:
            fake.answer(request, body)

    with http_server(answer) as url:
        service = Service(make_config(None, management_address=url, metrics_address=url))
        assert "not as TorchServe does: '<html>another program" in service.view()["problem"]
        text = b'[{"modelVersion": "a TorchServe of another kind"}]'
        monkeypatch.setattr("catdog_serving.web.service.SHORTEST_INTERVAL_S", 0)
        with pytest.raises(KeyError):
            service.view()
        text = b""
        assert "resnet152 IMAGENET1K_V1" in service.view()["facts"]["Model"]


def test_the_service_tab_says_when_nothing_answers_images(make_config: MakeConfig) -> None:
    fake = FakeServer(state="STARTING")
    with http_server(fake.answer) as url:
        found = Service(make_config(None, management_address=url, metrics_address=url)).view()
    assert found["facts"]["Workers"] == "0 of 1 ready"
    assert found["problem"] == "No worker is ready: images wait until one is."


def test_the_service_tab_says_what_was_refused(make_config: MakeConfig) -> None:
    refusal = json.dumps({"code": 400, "type": "Key", "message": "a wrong token"}).encode()
    with http_server(lambda request, _: send(request, 400, refusal)) as url:
        found = Service(make_config(None, management_address=url, metrics_address=url)).view()
    assert "answered 400: a wrong token" in found["problem"]
    assert "does not answer" not in found["problem"]


def test_a_file_without_tokens_is_a_sentence_everywhere(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_tokens(*_: object, **__: object) -> None:
        raise NotReadyError("key_file.json holds no tokens; to have new ones: catdog restart")

    with served(make_config, answer_a_cat) as address:
        monkeypatch.setattr(KeyFile, "token", no_tokens)
        monkeypatch.setattr(CatDogClient, "classify", no_tokens)
        answer = post(address, CAT)
        assert (answer.status_code, answer.json()["type"]) == (503, "NotReadyError")
        assert "to have new ones: catdog restart" in answer.json()["message"]
        for _ in range(2):
            view = requests.get(f"{address}/service", timeout=30).json()
            assert "to have new ones: catdog restart" in view["problem"]
