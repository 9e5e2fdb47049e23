"""What answers at the server's addresses and is not ours is said, and left alone."""

import json
import os
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import psutil
import pytest

from catdog_serving.torchserve.listeners import find_listener
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.fake_server import FakeServer
from tests.support.http_servers import http_server, send

USER = psutil.Process().username()
REFUSED = {"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."}


def torchserve(request: BaseHTTPRequestHandler, body: bytes) -> None:
    if request.path == "/models":
        send(request, 200, json.dumps({"models": []}).encode())
    else:
        FakeServer().answer(request, body)


def with_tokens(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send(request, 400, json.dumps(REFUSED).encode())


def another(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send(request, 200, b"<html>hello</html>")


@pytest.mark.parametrize(
    ("answer", "program", "code"),
    [
        (torchserve, "a TorchServe of", 3),
        (with_tokens, "a TorchServe that wants tokens of", 3),
        (another, "a program of", 0),
    ],
)
def test_a_stranger_is_named_and_not_stopped(
    make_config: MakeConfig,
    answer: Callable[[BaseHTTPRequestHandler, bytes], None],
    program: str,
    code: int,
) -> None:
    with http_server(answer) as url:
        config = make_config(None, management_address=url)
        port = url.rpartition(":")[2]
        stopped = catdog_here("stop", "--config", config.path)
        shown = stopped.stdout + stopped.stderr
        assert stopped.returncode == code
        assert f"{program} user {USER} listens on port {port} (management_address)" in shown
        assert ("nothing was stopped" in shown) == (code == 3)
        assert ("no server was running" in shown) == (code == 0)
        status = catdog_here("status", "--config", config.path)
        assert f"{program} user {USER} listens on port {port}" in status.stderr
        assert status.returncode == (0 if answer is torchserve else 3)


def test_where_nobody_listens_there_is_nobody(make_config: MakeConfig) -> None:
    config = make_config(None)
    assert find_listener(config) is None
    stopped = catdog_here("stop", "--config", config.path)
    assert (stopped.returncode, stopped.stdout) == (0, "no server was running\n")


def test_a_stranger_of_another_user_is_named_by_its_user(make_config: MakeConfig) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can listen as another user")
    config = make_config(None)
    for key, (host, port) in config.endpoints().items():
        os.seteuid(12345)
        try:
            listening = socket.create_server((host, port))
        finally:
            os.seteuid(0)
        with listening:
            found = find_listener(config)
            assert found is not None
            assert (found.key, found.port, found.user) == (key, port, "12345")
            assert not found.is_torchserve
