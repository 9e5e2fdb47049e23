"""nginx before a stand-in: which headers, bodies and how many requests and connections pass."""

import os
import re
import resource
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psutil
import pytest
import requests

from tests.support.edge import (
    Edge,
    raw_request,
    receive,
    status_and_body,
)
from tests.support.edge_upstream import StandIn, assert_try_again, under_way
from tests.support.paths import ROOT
from tests.support.processes import wait_until

OCTETS = "application/octet-stream"


@pytest.fixture
def edge(edge_of_stand_in: Edge, upstream: StandIn) -> Edge:
    return edge_of_stand_in


def post_all(edge: Edge, keys: list[str]) -> list[requests.Response]:
    """One request for each key, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda key: edge.post(b"x", key), keys))


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
        "Catdog-Animals": "true",
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
        "Catdog-Animals": "true",
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
