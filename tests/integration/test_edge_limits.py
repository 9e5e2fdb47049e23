"""nginx before a stand-in that the test controls: limits, a server in trouble, reloads.

With a stand-in the test decides when an upstream answers, and sees what really reached it.
"""

import json
import os
import re
import resource
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler

import psutil
import pytest
import requests

from catdog_serving.torchserve.private_config import free_ports
from tests.support.edge import (
    DROP_KEY,
    NEW_KEY,
    UPGRADE,
    Edge,
    raw_request,
    receive,
    running_edge,
    status_and_body,
)
from tests.support.http_servers import http_server, send
from tests.support.paths import ROOT
from tests.support.processes import wait_until

OCTETS = "application/octet-stream"
BUSY = b'{\n  "code": 503,\n  "type": "ServiceUnavailableException",\n  "message": "no worker"\n}\n'


class StandIn:
    """An upstream that keeps what it was sent, and answers `status` and `body`.

    A request with the body b"wait" is answered once `open` is set.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.status, self.body = 200, b"{}"
        self.headers: dict[str, str] = {}
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.open = threading.Event()

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.seen.append((request.command, request.path, dict(request.headers), body))
        assert body != b"wait" or self.open.wait(60)
        if self.status == 0:  # break off without an answer
            request.close_connection = True
        else:
            send(request, self.status, self.body, headers=self.headers)


@pytest.fixture(scope="module")
def upstream() -> StandIn:
    return StandIn()


@pytest.fixture(scope="module")
def edge(upstream: StandIn) -> Iterator[Edge]:
    with http_server(upstream) as url, running_edge(url.removeprefix("http://")) as running:
        yield running


@pytest.fixture(autouse=True)
def _reset(upstream: StandIn) -> None:
    upstream.reset()


def post_all(edge: Edge, keys: list[str]) -> list[requests.Response]:
    """One request for each key, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda key: edge.post(b"x", key), keys))


def assert_try_again(answer: requests.Response, status: int, kind: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"], body["type"]) == (status, status, kind)
    assert int(answer.headers["Retry-After"]) >= 1


def test_of_the_clients_headers_only_the_named_ones_pass(edge: Edge, upstream: StandIn) -> None:
    headers = {
        "Content-Type": "image/png",
        "X-Request-Id": "mine",
        "explain": "True",
        "Describe": "True",
        "X-Forwarded-For": "10.0.0.1",
        "Cookie": "a=b",
        "Expect": "100-continue",
        "Upgrade": "h2c",
        "TE": "trailers",
        "Accept-Encoding": "gzip",
        "traceparent": "00-1",
        "Keep-Alive": "300",
        "Accept": "image/png",
        "Catdog-Map": "true",
    }
    answer = edge.request(
        "PUT",
        "/predictions/catdog?customized=true",
        key=next(edge.keys),
        data=b"x",
        headers=headers,
    )
    assert answer.status_code == 200
    ((method, path, received, body),) = upstream.seen
    assert (method, path, body) == ("POST", "/predictions/catdog", b"x")
    assert received == {
        "Host": "torchserve",
        "Connection": "close",
        "Content-Length": "1",
        "Content-Type": "image/png",
        "X-Request-Id": "mine",
        "Accept": "image/png",
        "Catdog-Map": "true",
    }


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("application/x-www-form-urlencoded", OCTETS),  # curl --data-binary without a type
        ("Application/X-WWW-Form-URLencoded; charset=utf-8", OCTETS),
        ("multipart/form-data", OCTETS),
        ("multipart/mixed; boundary=x", OCTETS),
        ("x/y", OCTETS),
        ("", OCTETS),
        (None, OCTETS),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "IMAGE/PNG"),
        ("application/json", "application/json"),
        ("multipart/form-data; boundary=x", "multipart/form-data; boundary=x"),
    ],
)
def test_a_type_that_torchserve_chokes_on_does_not_pass(
    edge: Edge, upstream: StandIn, sent: str | None, received: str
) -> None:
    headers = [] if sent is None else [f"Content-Type: {sent}"]
    request = raw_request(
        "POST /predictions/catdog HTTP/1.1",
        next(edge.keys),
        *headers,
        "Content-Length: 1",
        body=b"x",
    )
    assert status_and_body(edge.exchange(request))[0] == 200
    assert [seen[2]["Content-Type"] for seen in upstream.seen] == [received]


def test_two_request_ids_never_both_arrive(edge: Edge, upstream: StandIn) -> None:
    key = next(edge.keys)
    edge.exchange(
        b"POST /predictions/catdog HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: one\r\n"
        b"X-Request-Id: two\r\nContent-Length: 1\r\nConnection: close\r\n"
        b"Authorization: Bearer " + key.encode() + b"\r\n\r\nx"
    )
    ((_, _, received, _),) = upstream.seen
    assert received["X-Request-Id"] == "one" or len(received["X-Request-Id"]) == 32


def test_chunked_bodies_arrive_with_a_length(edge: Edge, upstream: StandIn) -> None:
    answer = edge.request(
        "POST", "/predictions/catdog", key=next(edge.keys), data=iter([b"abc", b"def"])
    )
    assert answer.status_code == 200
    ((_, _, received, body),) = upstream.seen
    assert (received["Content-Length"], body) == ("6", b"abcdef")
    assert "Transfer-Encoding" not in received


# --- limits


def test_a_key_over_its_rate_gets_429_and_others_go_on(edge: Edge, upstream: StandIn) -> None:
    key, other = next(edge.keys), next(edge.keys)
    start = time.monotonic()
    answers = post_all(edge, [key] * 100)
    seconds = time.monotonic() - start
    assert post_all(edge, [other])[0].status_code == 200
    passed = [answer for answer in answers if answer.status_code == 200]
    assert 21 <= len(passed) <= 21 + 10 * seconds + 1  # burst 20, then 10 a second
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(passed) + len(refused) == 100
    assert refused, f"100 requests took {seconds:.1f} s"
    for answer in refused:
        assert_try_again(answer, 429, "TooManyRequestsException")
    assert len(upstream.seen) == len(passed) + 1


def under_way(
    edge: Edge, upstream: StandIn, keys: list[str], pool: ThreadPoolExecutor
) -> list[Future[requests.Response]]:
    """A request for each key, all of them waiting at the stand-in."""
    upstream.seen.clear()
    futures = [pool.submit(edge.post, b"wait", key) for key in keys]
    wait_until(lambda: len(upstream.seen) == len(keys), f"{len(keys)} requests under way")
    return futures


def test_a_key_has_16_requests_under_way_at_most(edge: Edge, upstream: StandIn) -> None:
    key, other = next(edge.keys), next(edge.keys)
    with ThreadPoolExecutor(16) as pool:
        waiting = under_way(edge, upstream, [key] * 16, pool)
        try:
            assert_try_again(edge.post(b"x", key), 429, "TooManyRequestsException")
            assert edge.post(b"x", other).status_code == 200
        finally:
            upstream.open.set()
        assert {future.result().status_code for future in waiting} == {200}


def test_64_requests_are_under_way_at_most(edge: Edge, upstream: StandIn) -> None:
    keys = [next(edge.keys) for _ in range(5)]
    with ThreadPoolExecutor(64) as pool:
        waiting = under_way(edge, upstream, [keys[n % 4] for n in range(64)], pool)
        try:
            assert_try_again(edge.post(b"x", keys[4]), 503, "ServiceUnavailableException")
        finally:
            upstream.open.set()
        assert {future.result().status_code for future in waiting} == {200}


@pytest.fixture
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8_000:
        pytest.skip(f"a process may have {hard} files open here, and 3,000 connections are to be")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def _one_patient_worker(edge: Edge) -> Iterator[None]:
    """nginx as on a machine with one processor, and no time-out that makes room meanwhile."""
    conf = edge.etc / "nginx.conf"
    as_it_was = conf.read_text()
    patient = re.sub(r"client_header_timeout \d+s", "client_header_timeout 300s", as_it_was)
    conf.write_text(patient.replace("worker_processes auto;", "worker_processes 1;"))
    reload_and_wait(edge)
    yield
    conf.write_text(as_it_was)
    reload_and_wait(edge)


def reload_and_wait(edge: Edge) -> None:
    """Reload, and wait until no worker of before answers any more."""
    before = set(psutil.Process(edge.pid).children())
    edge.run("nginx -t && systemctl reload nginx")
    wait_until(
        lambda: before.isdisjoint(psutil.Process(edge.pid).children()), "the new workers", 30
    )


@pytest.mark.usefixtures("_many_files", "_one_patient_worker")
def test_idle_connections_of_one_address_shut_nobody_out(edge: Edge) -> None:
    """3,000: silent, with the first bytes of TLS, or, which nginx never drops, of a request."""
    hello = client_hello()
    context = ssl.create_default_context(cafile=str(edge.certificate))
    with ExitStack() as stack:
        for number in range(3_000):
            if number % 5 in (0, 1):
                idle = stack.enter_context(edge.connect(context, "127.0.0.2"))
                idle.sendall(b"GET /docs HTTP/1.1\r\nHost: ")
            else:
                plain = stack.enter_context(edge.connect_plain("127.0.0.2"))
                plain.sendall(hello if number % 5 == 2 else b"")
        for _ in range(20):
            with edge.connect(context, "127.0.0.3") as connection:
                connection.sendall(raw_request("GET /docs HTTP/1.1", ""))
                assert status_and_body(receive(connection))[0] == 200


def test_a_connection_that_sends_nothing_is_closed(edge: Edge) -> None:
    with edge.connect_plain("127.0.0.1") as silent, edge.connect_plain("127.0.0.1") as begun:
        begun.sendall(client_hello())
        receive(silent)  # ends when nginx closes it
        receive(begun)


def client_hello() -> bytes:
    """What a client sends first when it begins TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_the_firewalls_rules_are_valid() -> None:
    """Those of docs/edge.md; that they refuse the 201st connection of an address was tried once."""
    (rules,) = re.findall(r"```nft\n(.*?)```", (ROOT / "docs/edge.md").read_text(), re.DOTALL)
    nft = shutil.which("nft", path="/usr/sbin:/usr/bin")
    if nft is None or os.geteuid() != 0:
        pytest.skip("only root can check the rules, with Debian's package nftables")
    subprocess.run([nft, "-c", "-f", "-"], input=rules, text=True, check=True)


# --- a server in trouble


def test_no_server_is_503_with_retry_after() -> None:
    (dead,) = free_ports(1)
    with running_edge(f"127.0.0.1:{dead}", key_count=1) as edge:
        answer = edge.post(b"x", next(edge.keys))
        assert_try_again(answer, 503, "ServiceUnavailableException")
        assert_try_again(edge.request("GET", "/health"), 503, "ServiceUnavailableException")


def test_the_servers_own_errors_pass_as_they_are(edge: Edge, upstream: StandIn) -> None:
    key = next(edge.keys)
    upstream.headers = {"X-Client-Request-Id": "mine"}
    for status in (400, 404, 413, 500, 503, 507):
        upstream.status, upstream.body = status, BUSY
        answer = edge.post(b"x", key)
        assert (answer.status_code, answer.content) == (status, BUSY)
        assert answer.headers.get("Retry-After") == ("2" if status == 503 else None)


def test_a_broken_connection_is_503_and_the_request_was_sent_once(
    edge: Edge, upstream: StandIn
) -> None:
    upstream.status = 0
    for method in ("POST", "PUT"):
        upstream.seen.clear()
        answer = edge.request(method, "/predictions/catdog", key=next(edge.keys), data=b"x")
        assert_try_again(answer, 503, "ServiceUnavailableException")
        assert len(upstream.seen) == 1


@pytest.mark.parametrize("status", [404, 500, 503, 507, 0])
def test_health_is_503_whatever_the_trouble(edge: Edge, upstream: StandIn, status: int) -> None:
    upstream.status, upstream.body = status, BUSY
    assert_try_again(edge.request("GET", "/health"), 503, "ServiceUnavailableException")


def test_health_says_when_the_inference_token_is_wrong(edge: Edge, upstream: StandIn) -> None:
    """TorchServe answers 400 then, as a worker does; but only a worker repeats the id."""
    upstream.status = 400
    upstream.body = b'{"code": 400, "type": "InvalidKeyException", "message": "refused"}'
    answer = edge.request("GET", "/health")
    assert_try_again(answer, 503, "ServiceUnavailableException")
    assert "inference_authorization" in answer.json()["message"]


# --- keys and reloads


def test_keys_are_rotated_without_losing_a_request(edge: Edge, upstream: StandIn) -> None:
    old = edge.first_key
    with ThreadPoolExecutor(2) as pool:
        waiting = under_way(edge, upstream, [old], pool)
        new = edge.run(NEW_KEY).split()[-1]
        wait_until(lambda: edge.post(b"x", new).status_code == 200, "the new key")
        assert edge.post(b"x", old).status_code == 200
        waiting += under_way(edge, upstream, [old], pool)
        edge.run(DROP_KEY, OLD_KEY=old)
        wait_until(lambda: edge.post(b"x", old).status_code == 401, "the old key's end")
        upstream.open.set()
        assert {future.result().status_code for future in waiting} == {200}
    answer = edge.post(b"x", new)
    assert answer.status_code == 200
    assert edge.log_entry(answer.headers["X-Request-Id"])["key"] == "shop"


def test_the_inference_token_replaces_the_clients_key(edge: Edge, upstream: StandIn) -> None:
    include = edge.etc / "nginx" / "token" / "inference.map"  # as `catdog token --nginx` writes it
    include.parent.mkdir()
    include.write_text('default "Bearer token";\n')
    try:
        edge.run("nginx -t && systemctl reload nginx")
        key = next(edge.keys)

        def token_arrives() -> bool:
            upstream.seen.clear()
            edge.post(b"x", key)
            return [seen[2].get("Authorization") for seen in upstream.seen] == ["Bearer token"]

        wait_until(token_arrives, "the token")
    finally:
        include.unlink()
        edge.run("nginx -t && systemctl reload nginx")
        wait_until(lambda: not token_arrives(), "no token")


def test_a_refusal_of_nginxs_own_token_asks_to_wait(edge: Edge, upstream: StandIn) -> None:
    """It may just be renewed; and only a worker repeats the id, whose refusals stand."""
    key = next(edge.keys)
    upstream.status, upstream.body = 400, b'{"code": 400, "type": "InvalidKeyException"}'
    answer = edge.post(b"x", key)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (400, "2")
    upstream.headers = {"X-Client-Request-Id": "mine"}
    assert edge.post(b"x", key).headers.get("Retry-After") is None


def test_an_upgrade_keeps_the_sites_own_files(edge: Edge) -> None:
    own = [edge.keys_file, edge.etc / "nginx" / "site.conf", edge.certificate]
    before = [path.read_bytes() for path in own]
    edge.run(UPGRADE)
    assert [path.read_bytes() for path in own] == before
    assert edge.keys_file.stat().st_mode & 0o777 == 0o640
    assert json.loads(edge.post(b"x", next(edge.keys)).content) == {}
