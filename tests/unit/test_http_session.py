"""What asks this machine asks it itself, whatever proxy the shell names."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest
import requests

from catdog_serving.client import CatDogClient
from catdog_serving.http_session import HttpSession, is_this_machine
from catdog_serving.monitoring.metrics import scrape
from catdog_serving.torchserve.management import ManagementClient
from tests.support.answers import ANSWER
from tests.support.fake_server import described
from tests.support.http_servers import http_server, send

PROXIES = {"http_proxy": "http", "HTTP_PROXY": "http", "all_proxy": "socks5", "ALL_PROXY": "http"}


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A proxy that lets all who come wait: nobody should."""
    for name in (*PROXIES, "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def was_asked(proxy: socket.socket) -> bool:
    with suppress(BlockingIOError):
        proxy.accept()[0].close()
        return True
    return False


def client(url: str) -> object:
    with CatDogClient(url, retries=0, read_timeout_s=2) as asking:
        return asking.classify(b"data").label


def management(url: str) -> object:
    with ManagementClient(url, timeout_s=2) as asking:
        return asking.versions()[0].version


def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
    if request.path.startswith("/predictions"):
        send(request, 200, json.dumps(ANSWER).encode())
    elif request.path == "/metrics":
        send(request, 200, b"up 1\n")
    else:
        send(request, 200, json.dumps([described()]).encode())


@pytest.mark.parametrize("variable", PROXIES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
@pytest.mark.parametrize("ask", [client, management, scrape])
def test_this_machine_is_never_asked_through_a_proxy(
    proxy: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    host: str,
    ask: Callable[[str], object],
) -> None:
    monkeypatch.setenv(variable, f"{PROXIES[variable]}://127.0.0.1:{proxy.getsockname()[1]}")
    with http_server(answer) as url:
        assert ask(url.replace("127.0.0.1", host))
    assert not was_asked(proxy)


def test_neither_a_redirect_nor_netrc_changes_that(
    proxy: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
    seen = []

    def redirect(request: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append(request.headers.get("Authorization"))
        request.send_response(302 if request.path == "/" else 200)
        request.send_header("Location", "/there")
        request.send_header("Content-Length", "0")
        request.end_headers()

    with http_server(redirect) as url, HttpSession() as session:
        assert session.get(url, timeout=2).status_code == 200
    assert seen == [None, None]
    assert not was_asked(proxy)


def test_everybody_else_is_asked_through_the_proxy(
    proxy: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
    with HttpSession() as session, pytest.raises(requests.RequestException):
        session.get("http://192.0.2.1/", timeout=0.2)
    assert was_asked(proxy)


def test_this_machine_has_several_names() -> None:
    own = [a.address for found in psutil.net_if_addrs().values() for a in found]
    addresses = [address for address in own if "%" not in address and "." in address]
    for host in ("127.9.9.9", "[::1]", "LOCALHOST", "localhost.", "x.localhost", *addresses):
        assert is_this_machine(f"http://{host}:8080/x"), host
    for host in ("192.0.2.1", "example.com", "localhost.example.com", "[2001:db8::1]", ""):
        assert not is_this_machine(f"http://{host}/"), host
