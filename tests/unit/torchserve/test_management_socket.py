"""The management API on a Unix socket: asked by it, found without being told, kept to this user."""

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest

from catdog_serving.errors import CatDogError, NotReadyError, ServerUnavailableError
from catdog_serving.monitoring.snapshot import Snapshot, take_snapshots
from catdog_serving.torchserve.java import why_no_socket
from catdog_serving.torchserve.management import ManagementClient
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.start_checks import check_addresses
from catdog_serving.torchserve.start_options import StartOptions, as_served
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.fake_server import FakeServer, described
from tests.support.http_servers import http_server, send

ON_SOCKET = StartOptions(management_socket=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket, as pytest's may not be."""
    with tempfile.TemporaryDirectory(prefix="c") as name:
        yield Path(name)


class Recorder:
    """Answers as the management API, and notes what was asked, and over which connections."""

    def __init__(self, **headers: str) -> None:
        self.headers = headers
        self.asked: list[tuple[str, str, str | None]] = []
        self.connections: set[BaseHTTPRequestHandler] = set()

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.asked.append((request.command, request.path, request.headers["Authorization"]))
        self.connections.add(request)
        send(request, 200, json.dumps([described()]).encode(), headers=self.headers)


# --- the adapter --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.sock", "a b#?%2F:@é.sock"])
def test_a_socket_is_asked_as_a_port_is(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never through a proxy, with one connection for all, and with what is changed in the query."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    recorder = Recorder()
    with http_server(recorder, folder / name) as url, ManagementClient(url) as client:
        assert client.versions()[0].version == "1.0"
        client.scale_up("1.0", 3)
    assert recorder.asked == [
        ("GET", "/models/catdog/all", None),
        ("GET", "/models/catdog", None),
        ("PUT", "/models/catdog/1.0?min_worker=3&max_worker=3&synchronous=false", None),
    ]
    assert len(recorder.connections) == 1


def test_a_server_that_closes_connections_is_asked_by_new_ones(folder: Path) -> None:
    recorder = Recorder(Connection="close")
    with http_server(recorder, folder / "s") as url, ManagementClient(url) as client:
        assert [client.versions()[0].version for _ in range(2)] == ["1.0", "1.0"]
    assert len(recorder.asked) == 4
    assert len(recorder.connections) == 4


@pytest.mark.parametrize("state", ["missing", "stale", "silent", "too long"])
def test_a_socket_where_nobody_answers_is_one_error(folder: Path, state: str) -> None:
    path = folder / ("s" * 108 if state == "too long" else "s")
    with socket.socket(socket.AF_UNIX) as listening:
        if state in ("stale", "silent"):
            listening.bind(str(path))
        if state == "silent":
            listening.listen()
        with ManagementClient(f"unix:{path}", timeout_s=0.2) as client:
            with pytest.raises(ServerUnavailableError, match=f"no management API at unix:{path}; "):
                client.versions()


# --- found without being told -------------------------------------------------------------------


@pytest.fixture
def config(folder: Path, make_config: MakeConfig) -> ServingConfig:
    return make_config(None, run_directory=str(folder))


@pytest.fixture
def run(config: ServingConfig) -> Iterator[RunDirectory]:
    """The run directory of a "server" on the socket, which is this process."""
    run = RunDirectory.of(config)
    run.create()
    run.config.write_text(f"management_address={ON_SOCKET.apply(config, run).management_url}\n")
    run.record(psutil.Process())
    yield run
    run.remove()


def test_commands_ask_the_socket_of_the_server_that_runs(
    config: ServingConfig, run: RunDirectory
) -> None:
    path = run.path / "management.sock"
    with http_server(Recorder(), path):
        shown = catdog_here("status", "--config", config.path, http_proxy="http://127.0.0.1:9")
        assert shown.returncode == 0, shown.stderr
        line = f"manage   curl --unix-socket {path} http://localhost/models/catdog\n"
        assert shown.stdout.endswith(line)
        told = json.loads(catdog_here("status", "--json", "--config", config.path).stdout)
        assert told["management"] == f"unix:{path}"
    refused = catdog_here("status", "--config", config.path)
    assert refused.returncode == 3
    assert f"no management API at unix:{path}" in refused.stderr


def test_a_token_is_renewed_over_the_socket(config: ServingConfig, run: RunDirectory) -> None:
    ended = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    entry = {"key": "old", "expiration time": ended}
    keys = {"management": entry, "inference": entry, "API": {"key": "api"}}
    run.key_file.write_text(json.dumps(keys))
    recorder = Recorder()
    with http_server(recorder, run.path / "management.sock"):
        TorchServe(config).key_file.renewed("management", "old")
        shown = catdog_here("status", "--config", config.path).stdout
    assert recorder.asked[0] == ("GET", "/token?type=management", "Bearer api")
    header = f'-H "Authorization: Bearer $(jq -r .management.key {run.key_file})"'
    assert f"management.sock {header} http://localhost/models/catdog" in shown


def test_the_port_is_asked_where_no_server_of_ours_runs(
    config: ServingConfig, run: RunDirectory
) -> None:
    """Such as TorchServe's own launcher after ours was killed, with all that it left."""
    (run.path / "pid").unlink()
    assert as_served(config, run) == config
    with http_server(Recorder()) as url:
        text = config.path.read_text().replace(config.management_url, url)
        config.path.write_text(text)
        shown = catdog_here("status", "--config", config.path, http_proxy="http://127.0.0.1:9")
    assert shown.stdout.endswith(f"manage   curl --noproxy '*' {url}/models/catdog\n")


def test_a_watch_goes_on_when_the_server_comes_back_on_a_socket(
    make_config: MakeConfig, folder: Path
) -> None:
    fake = FakeServer()
    with http_server(fake.answer) as url:
        config = make_config(
            None, management_address=url, metrics_address=url, run_directory=str(folder)
        )
        watched = take_snapshots(TorchServe(config), 0.01)
        assert snapshot_management(next(watched)) == url
        run = RunDirectory.of(config)
        run.create()
        run.record(psutil.Process())
        moved = ON_SOCKET.apply(config, run).management_url
        run.config.write_text(f"management_address={moved}\n")
        assert isinstance(next(watched), ServerUnavailableError)
        with http_server(fake.answer, run.path / "management.sock"):
            assert snapshot_management(next(watched)) == moved


def snapshot_management(snapshot: Snapshot | CatDogError) -> str:
    assert isinstance(snapshot, Snapshot)
    return snapshot.status.management


# --- what is written, and what is refused -------------------------------------------------------


def test_the_socket_takes_the_place_of_the_port(make_config: MakeConfig, folder: Path) -> None:
    """Also of one that others could reach: tokens are off then, and nothing is warned of."""
    config = make_config(
        None,
        management_address="http://0.0.0.0:8081",
        allow_remote="management_address",
        run_directory=str(folder),
    )
    found = ON_SOCKET.apply(config, RunDirectory.of(config))
    assert "management_address" in config.endpoints()
    assert config.endpoints().keys() - found.endpoints().keys() == {"management_address"}
    assert len(check_addresses(config)) == 1
    assert check_addresses(found) == []
    assert (config.is_loopback_only(), found.is_loopback_only()) == (False, True)


def test_the_longest_run_directory_leaves_room_for_the_socket(
    make_config: MakeConfig, folder: Path
) -> None:
    base = str(folder / "x").ljust(62, "x")
    with pytest.raises(NotReadyError, match="too long for a Unix socket in it"):
        RunDirectory.of(make_config(None, run_directory=f"{base}x"))
    config = make_config(None, run_directory=base)
    url = ON_SOCKET.apply(config, RunDirectory.of(config)).management_url
    assert len(os.fsencode(url.removeprefix("unix:"))) <= 107


@pytest.mark.parametrize("path", ["/run/x/y.sock", "/home", "relative.sock"])
def test_a_socket_that_the_file_names_is_refused(make_config: MakeConfig, path: str) -> None:
    config = make_config(None)
    text = config.path.read_text().replace(config.management_url, f"unix:{path}")
    config.path.write_text(text)
    for command in (["serve"], ["status"], ["scale", "2"], ["stop"]):
        refused = catdog_here(*command, "--config", config.path)
        assert refused.returncode == 3
        assert f"management_address=unix:{path}: a socket is made in" in refused.stderr
        assert "catdog serve --management-socket" in refused.stderr


def test_a_java_that_makes_no_socket_is_told_from_other_failures(
    config: ServingConfig, run: RunDirectory
) -> None:
    """As Java said it with `-Dio.netty.transport.noNative=true`, and with use_native_io=false."""
    socket_config = ON_SOCKET.apply(config, run)
    for said in ("null", "unix domain socket requires use_native_io set to true."):
        log = f"WARNING: x\nInvalid configuration: {said}\n"
        assert "noexec" in why_no_socket(socket_config, log)
        assert why_no_socket(config, log) == ""
    assert why_no_socket(socket_config, "Invalid configuration: Invalid port") == ""
