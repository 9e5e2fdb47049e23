"""What the management client asks for, and how TorchServe's refusals read."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest

from catdog_serving.errors import ServerError, ServerUnavailableError, UsageError
from catdog_serving.torchserve.management import ManagementClient, VersionSettings, poll
from tests.support.http_servers import http_server, send

SETTINGS = VersionSettings(
    workers=2, batch_size=8, max_batch_delay_ms=5, response_timeout_s=60, startup_timeout_s=120
)


class Recorder:
    """Keeps requests, and answers all of them alike."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.status = 200

    def __call__(self, request: BaseHTTPRequestHandler, _: bytes) -> None:
        parts = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.asked.append((request.command, parts.path, query))
        body = {"code": self.status, "type": "X", "message": "no such thing", "status": "fine"}
        send(request, self.status, json.dumps(body).encode())


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def management(recorder: Recorder) -> Iterator[ManagementClient]:
    with http_server(recorder) as url, ManagementClient(url) as client:
        yield client


def test_every_setting_is_named_and_nothing_is_synchronous(
    recorder: Recorder, management: ManagementClient
) -> None:
    management.register("x.mar", SETTINGS)
    management.scale_up("1.0", 3)
    management.set_default("2.0")
    management.unregister("1.0")
    assert recorder.asked == [
        (
            "POST",
            "/models",
            {
                "url": "x.mar",
                "model_name": "catdog",
                "initial_workers": "2",
                "batch_size": "8",
                "max_batch_delay": "5",
                "response_timeout": "60",
                "startup_timeout": "120",
                "synchronous": "false",
            },
        ),
        (
            "PUT",
            "/models/catdog/1.0",
            {"min_worker": "3", "max_worker": "3", "synchronous": "false"},
        ),
        ("PUT", "/models/catdog/2.0/set-default", {}),
        ("DELETE", "/models/catdog/1.0", {}),
    ]


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_never_asked_for(
    recorder: Recorder, management: ManagementClient, workers: int
) -> None:
    with pytest.raises(UsageError, match=f"at least 1 worker, got {workers}"):
        management.scale_up("1.0", workers)
    with pytest.raises(UsageError, match=f"at least 1 worker, got {workers}"):
        VersionSettings(workers, 8, 5, 60, 120)
    assert recorder.asked == []


def test_a_refusal_is_one_line_with_torchserves_message(
    recorder: Recorder, management: ManagementClient
) -> None:
    recorder.status = 404
    assert management.versions() == []
    assert management.facts("9.0") is None
    for change in (
        lambda: management.register("x.mar", SETTINGS),
        lambda: management.scale_up("9.0", 2),
        lambda: management.set_default("9.0"),
        lambda: management.unregister("9.0"),
    ):
        with pytest.raises(ServerError, match="answered 404: no such thing") as caught:
            change()
        assert caught.value.status == 404
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [b"<html>sign in</html>", b'{"status": "Healthy"}', b"[1]", b"1"]
)
def test_another_service_at_the_address_is_one_line_that_shows_its_answer(answer: bytes) -> None:
    with (
        http_server(lambda request, _: send(request, 200, answer)) as url,
        ManagementClient(url) as client,
    ):
        with pytest.raises(ServerUnavailableError, match="not as TorchServe does") as caught:
            client.versions()
    assert answer.decode() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_server_every_call_says_how_to_start_it() -> None:
    with ManagementClient("http://127.0.0.1:9") as client:
        with pytest.raises(ServerUnavailableError, match="start the server with: catdog serve"):
            client.set_default("1.0")
        with pytest.raises(ServerUnavailableError, match="start the server with: catdog serve"):
            client.versions()


def test_a_wait_ends_with_what_was_found_or_with_the_last_look() -> None:
    looks = iter([0, 0, 7, 8])
    assert poll(lambda: next(looks), timeout_s=60, pause_s=0.001) == 7
    times: list[float] = []
    start = time.monotonic()
    assert not poll(lambda: times.append(time.monotonic() - start), timeout_s=0.1, pause_s=60)
    assert len(times) == 2  # the pause is cut, and the last look is after the deadline
    assert 0.1 <= times[1] < 5
    assert poll(lambda: "at once", timeout_s=0) == "at once"
