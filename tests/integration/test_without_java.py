"""`catdog serve --server asgi`: its life, what it refuses, its bounds, and clients that go away.

What it answers as TorchServe does is asked of both in other modules: see the fixture `served`.
"""

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from catdog_serving.asgi import __main__ as process_module
from catdog_serving.asgi import http_server
from catdog_serving.asgi.settings import AsgiSettings
from catdog_serving.model_archive import unpack
from catdog_serving.torchserve.private_config import free_ports
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.start_options import StartOptions
from tests.support.archive_cache import repack
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.http_servers import running_uvicorn
from tests.support.paths import ROOT, SAMPLES
from tests.support.processes import (
    assert_nothing_left,
    foreground_server,
    processes_of,
    wait_until,
)
from tests.support.raw_requests import send_all, send_one
from tests.support.servers import running_server

CAT = (SAMPLES / "chelsea.png").read_bytes()
SLOW = {"X-Slow": "yes"}  # `good` takes 2 s for a batch that begins with it


@pytest.fixture(scope="module")
def slow(good: Path, make_config: MakeConfig) -> Iterator[TorchServe]:
    """One that can be told to be slow, a request at a time."""
    config = make_config(good, worker_settings={"batchSize": 1})
    with running_server(config, asgi=True) as server:
        yield server


def pending(server: TorchServe) -> int:
    return server.versions()[0].pending_requests


def counted(server: TorchServe, name: str) -> float:
    """The sum of one metric's series."""
    text = requests.get(f"{server.config.metrics_url}/metrics", timeout=10).text
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def pictures(server: TorchServe) -> float:
    return counted(server, "catdog_pictures_total")


def asked(server: TorchServe) -> float:
    return counted(server, "ts_inference_requests_total")


def test_its_life_by_the_command_line(archive: Path, make_config: MakeConfig) -> None:
    config = make_config(archive)
    server = TorchServe(config)
    at = ("--config", config.path)
    try:
        started = catdog_here("serve", "--server", "asgi", *at)
        assert started.returncode == 0, started.stderr
        assert re.search(r", (onnxruntime|openvino) fp32 on cpu\n", started.stdout)
        assert "server   without Java, one worker" in started.stdout
        assert len(processes_of(server)) == 1
        assert catdog_here("serve", *at).stdout.startswith("the server runs already\n")
        other = catdog_here("serve", "--server", "torchserve", *at)
        assert other.returncode == 3
        assert "without Java; to have it as asked: catdog " in other.stderr
        assert other.stderr.endswith(" serve\n")
        told = catdog_here("status", "--json", *at)
        assert json.loads(told.stdout)["ready"] is True
        assert catdog_here("classify", SAMPLES / "chelsea.png", *at).returncode == 0
        for command in (
            ("scale", "2"),
            ("deploy", archive),
            ("rollback",),
            ("autoscale", "--min", "1", "--max", "2"),
        ):
            refused = catdog_here(*command, *at)
            assert refused.returncode == 4, (command, refused.stderr)
            assert "is TorchServe's" in refused.stderr
            assert "run: catdog stop && catdog serve" in refused.stderr
        stopped = catdog_here("stop", *at)
        assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
        assert_nothing_left(server)
    finally:
        server.stop()


def test_a_network_that_does_not_load_ends_the_start(
    archive: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    broken = repack(archive, tmp_path / "x.mar", model_onnx=b"this is no network")
    config = make_config(broken)
    failed = catdog_here("serve", "--server", "asgi", "--config", config.path)
    assert failed.returncode == 3
    assert "the server ended with exit code 1" in failed.stderr
    assert "InvalidProtobuf" in failed.stderr
    assert_nothing_left(TorchServe(config))


def test_after_a_kill_it_starts_again(archive: Path, make_config: MakeConfig) -> None:
    config = make_config(archive)
    with running_server(config, asgi=True) as server:
        process = server.run.process()
        assert process is not None
        process.kill()
        wait_until(lambda: not server.is_running(), "its end")
        assert catdog_here("status", "--config", config.path).returncode == 3
        again = catdog_here("serve", "--server", "asgi", "--config", config.path)
        assert again.returncode == 0, again.stderr
        assert send_one(config.inference_url, CAT).status == 200
    assert_nothing_left(server)


def test_the_management_api_on_a_socket(archive: Path, make_config: MakeConfig) -> None:
    server = TorchServe(make_config(archive))
    server.start(options=StartOptions(asgi=True, management_socket=True))
    try:
        assert server.management_url.startswith("unix:")
        assert server.versions()[0].ready_workers == 1
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{server.config.management_url}/models", timeout=5)
    finally:
        server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_answer_what_is_under_way(
    good: Path, make_config: MakeConfig, number: signal.Signals
) -> None:
    config = make_config(good, worker_settings={"batchSize": 1})
    with foreground_server(config, "--server", "asgi") as (process, server):
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(send_one, config.inference_url, CAT, SLOW) for _ in range(3)]
            wait_until(lambda: pending(server) == 2, "one at work and two that wait")
            process.send_signal(number)
            assert [one.result().status for one in asked] == [200, 200, 200]
        assert process.wait(30) == 0
        assert_nothing_left(server)


def test_what_a_client_left_behind_is_not_computed(slow: TorchServe) -> None:
    address = urlsplit(slow.config.inference_url)
    head = f"POST /predictions/catdog HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CAT)}\r\n\r\n"
    before, asked_before = pictures(slow), asked(slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send_one, slow.config.inference_url, CAT, SLOW)
        wait_until(lambda: asked(slow) > asked_before and pending(slow) == 0, "the first at work")
        gone = []
        for _ in range(5):
            gone.append(socket.create_connection((address.hostname, address.port), timeout=10))
            gone[-1].sendall(head.encode() + CAT)
        wait_until(lambda: pending(slow) == 5, "five that wait")
        for connection in gone:
            connection.close()
        wait_until(lambda: pending(slow) == 0, "nobody waits any more")
        assert first.result().status == 200
    assert send_one(slow.config.inference_url, CAT).status == 200
    assert pictures(slow) - before == 2


def test_batches_fill_while_another_is_computed(good: Path, make_config: MakeConfig) -> None:
    with running_server(make_config(good), asgi=True) as server:
        with ThreadPoolExecutor(1) as pool:
            before = asked(server)
            first = pool.submit(send_one, server.config.inference_url, CAT, SLOW)
            wait_until(lambda: asked(server) > before and pending(server) == 0, "the first at work")
            answers = send_all(server.config.inference_url, [(CAT, {})] * 16, 16)
            assert first.result().status == 200
        assert {answer.status for answer in answers} == {200}
        log = server.run.logs.workers.read_text()
    assert log.count("batch=1 ms") == 4  # three warm it up, and the one that came alone
    assert log.count("batch=8 ms") == 16


def test_a_batch_that_is_late_is_answered_and_told(
    good: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    settings = (ROOT / "config" / "model-config.yaml").read_text()
    settings = settings.replace("responseTimeout: 60", "responseTimeout: 1")
    late = repack(good, tmp_path / "late.mar", **{"model-config_yaml": settings.encode()})
    with running_server(make_config(late), asgi=True) as server:
        url = server.config.inference_url
        before = asked(server)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(send_one, url, CAT, SLOW)
            wait_until(lambda: asked(server) > before and pending(server) == 0, "the first at work")
            behind = pool.submit(send_one, url, CAT)
        for answer in (first.result(), behind.result()):
            assert answer.status == 500
            assert json.loads(answer.body)["message"] == "Worker died."
        assert send_one(url, CAT).status == 503  # until the late one is done
        assert requests.get(f"{url}/ping", timeout=5).status_code == 500
        assert server.versions()[0].ready_workers == 0
        wait_until(lambda: requests.get(f"{url}/ping", timeout=5).ok, "healthy again")
        assert send_one(url, CAT).status == 200


# --- bounds, made small in a server of this process -----------------------------------------------


@contextmanager
def small_server(archive: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """Takes 1,000 bytes a body and in all."""
    unpack(archive, folder / "model")
    ports = free_ports(3)
    inference, management, metrics = (f"http://127.0.0.1:{port}" for port in ports)
    settings = AsgiSettings(
        model_dir=str(folder / "model"),
        model_url="catdog.mar",
        inference_address=inference,
        management_address=management,
        metrics_address=metrics,
        metrics_config=str(ROOT / "config" / "metrics.yaml"),
        log_folder=str(folder),
        key_file=None,
        token_expiration_min=1,
        batch_size=8,
        max_batch_delay_ms=1,
        job_queue_size=1,
        max_request_size=1000,
        response_timeout_s=60,
        startup_timeout_s=60,
        gpu_id=None,
    )
    server = process_module.make_server(settings)
    with running_uvicorn(server, process_module.listen(settings)):
        yield "127.0.0.1", ports[0]


def post_of(size: int) -> bytes:
    return (
        f"POST /predictions/catdog HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    )


def answered(connection: socket.socket) -> str:
    """The status line of an answer; empty if the connection was closed without one."""
    return connection.makefile("rb").readline().decode().strip()


def test_a_slow_body_is_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "BODY_S", 0.3)
    with small_server(archive, tmp_path) as address:
        with socket.create_connection(address, timeout=20) as client:
            client.sendall(post_of(100) + b"x")
            assert answered(client) == "HTTP/1.1 408 Request Timeout"


def test_too_many_bytes_at_once_are_refused(archive: Path, tmp_path: Path) -> None:
    with small_server(archive, tmp_path) as address:
        with (
            socket.create_connection(address, timeout=20) as first,
            socket.create_connection(address, timeout=20) as second,
        ):
            first.sendall(post_of(900) + bytes(899))
            # Ask for something else: what was sent before is read by then.
            requests.get(f"http://{address[0]}:{address[1]}/ping", timeout=10)
            second.sendall(post_of(900) + bytes(900))
            assert answered(second).startswith("HTTP/1.1 507 ")
            first.sendall(b"x")
            assert answered(first) == "HTTP/1.1 400 Bad Request"
        again = requests.post(
            f"http://{address[0]}:{address[1]}/predictions/catdog", data=bytes(900), timeout=10
        )
        assert again.status_code == 400  # no image, and room for it


def test_bodies_are_bounded_while_they_are_read(archive: Path, tmp_path: Path) -> None:
    chunked = b"POST /predictions/catdog HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with small_server(archive, tmp_path) as address:
        with socket.create_connection(address, timeout=20) as client:
            client.sendall(chunked + b"3e9\r\n" + bytes(1001))
            assert answered(client).startswith("HTTP/1.1 413 ")
        with socket.create_connection(address, timeout=20) as client:
            client.sendall(chunked.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"))
            assert answered(client) == "HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize("begun", [b"", b"GET /ping HTTP/1.1\r\nHos"])
def test_a_connection_without_a_request_ends(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http_server, "_IDLE_S", 0.3)
    with small_server(archive, tmp_path) as address:
        with socket.create_connection(address, timeout=20) as client:
            client.sendall(begun)
            assert answered(client) == ""


def test_connections_have_a_number(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "_MAX_CONNECTIONS", 2)
    with small_server(archive, tmp_path) as address:
        kept = [socket.create_connection(address, timeout=20) for _ in range(3)]
        assert answered(kept[2]) == ""
        kept[0].sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answered(kept[0]) == "HTTP/1.1 200 OK"
        for connection in kept:
            connection.close()


def test_it_runs_without_torch(asgi_server: TorchServe) -> None:
    process = asgi_server.run.process()
    assert process is not None
    loaded = {os.path.basename(mapped.path) for mapped in process.memory_maps()}
    assert not any(name.startswith("libtorch") for name in loaded)
