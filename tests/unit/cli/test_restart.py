"""catdog restart, and catdog serve beside a server that runs, where no Java needs to run."""

import json
import os
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack

import psutil
import pytest

from catdog_serving.torchserve.properties import write_properties
from catdog_serving.torchserve.run_directory import SERVER_CLASS
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.server_locks import change_lock, operator_lock
from catdog_serving.torchserve.start_options import StartOptions
from tests.support.command_line import catdog_here


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("number_of_gpu", "1", "number_of_gpu is 1, and there are 0"),
        ("java_libraries", "/nowhere", "cannot look into /nowhere"),
        ("metrics_address", "http://127.0.0.1:{taken}", "port {taken} on 127.0.0.1 is taken"),
    ],
)
def test_a_restart_that_cannot_succeed_stops_nothing(
    server: TorchServe,
    look_alike: Callable[..., psutil.Process],
    key: str,
    value: str,
    told: str,
) -> None:
    server.run.create()
    write_properties(server.run.config, server.config.values)
    java = look_alike(server.run.java_option, SERVER_CLASS)
    with ExitStack() as taken:
        for _, port in server.config.endpoints().values():  # the server's own
            taken.enter_context(socket.create_server(("127.0.0.1", port)))
        other = taken.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        changed = server.config.values | {key: value.format(taken=other)}
        write_properties(server.config.path, changed)
        result = catdog_here("restart", "--config", server.config.path)
    assert told.format(taken=other) in result.stderr
    assert (result.returncode, result.stdout) == (3, "")
    assert java.is_running()
    assert "which catdog did not start" not in result.stderr
    server.run.remove()


def test_a_restart_that_failed_names_the_options_to_go_on_with(server: TorchServe) -> None:
    """They went with the folder of the server that was stopped."""
    server.run.create()
    options = {"port": 19_000, "asgi": True, "management_socket": True, "of_another_catdog": 1}
    server.run.start_options.write_text(json.dumps({"options": options}))
    assert StartOptions.of(server.run) == StartOptions(19_000, True, True)
    result = catdog_here("restart", "--config", server.config.path)  # it has no archive
    assert result.returncode == 3
    line = f"catdog --config {server.config.path} serve --port 19000 --server asgi"
    assert (
        f"no server runs now; to start it as it was: {line} --management-socket\n" in result.stderr
    )


def test_what_runs_otherwise_is_told_with_all_that_was_asked_for(
    server: TorchServe, look_alike: Callable[..., psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    look_alike(server.run.java_option, SERVER_CLASS)
    monkeypatch.setattr(TorchServe, "wait_ready", lambda *_, **__: None)
    asked = ("--server", "asgi", "--port", "19000")
    result = catdog_here("serve", "--config", server.config.path, *asked)
    assert f"runs already, with Java, at {server.config.inference_url}; " in result.stderr
    catdog = f"catdog --config {server.config.path}"
    assert f": {catdog} stop && {catdog} serve --port 19000 --server asgi\n" in result.stderr


def test_a_restart_keeps_off_a_server_that_another_command_changes(
    server: TorchServe, look_alike: Callable[..., psutil.Process]
) -> None:
    server.run.create()
    java = look_alike(server.run.java_option, SERVER_CLASS)
    with operator_lock(server.run, "deploy"):
        result = catdog_here("restart", "--config", server.config.path)
    who = rf"catdog deploy \(process {os.getpid()}\)"
    told = rf"catdog: {who} is changing this server; try again when it is done\n"
    assert re.fullmatch(told, result.stderr)
    assert (result.returncode, result.stdout) == (3, "")
    assert java.is_running()
    with change_lock(server.run, "restart"):  # of a second one, and of one without Java
        result = catdog_here("restart", "--config", server.config.path)
    assert "catdog restart (process" in result.stderr
    assert java.is_running()
    with operator_lock(server.run, "deploy"):
        result = catdog_here("stop", "--config", server.config.path)
    assert (result.returncode, result.stdout) == (0, "stopped\n")
    assert not server.run.path.exists()


def test_a_restart_without_a_server_needs_no_lock_and_starts_one(
    server: TorchServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchServe, "_start_and_wait", lambda *_: None)
    for _ in range(2):  # the second finds the folder that a server left
        result = catdog_here("restart", "--config", server.config.path)
        assert result.stdout.startswith("no server was running\n"), result
    server.run.remove()
