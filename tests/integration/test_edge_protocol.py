"""nginx before a real TorchServe: bodies, odd HTTP, slow clients, TLS."""

import json
import socket
import ssl
import warnings
from collections.abc import Iterator

import pytest
import requests

from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.edge import (
    Edge,
    assert_own_error,
    has_ipv6,
    raw_request,
    receive,
    status_and_body,
)
from tests.support.paths import ROOT, SAMPLES

CAT = (SAMPLES / "chelsea.png").read_bytes()


# --- bodies


def test_every_way_to_send_an_image_passes(edge: Edge, key: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield CAT[:1000]
        yield CAT[1000:]

    for method, options in (
        ("POST", {"data": CAT}),
        ("PUT", {"data": CAT}),
        ("POST", {"data": chunks()}),
        ("POST", {"files": {"image": CAT}}),
        ("POST", {"data": CAT, "headers": {"Content-Type": "image/png"}}),
        ("POST", {"data": CAT, "headers": {"Expect": "100-continue"}}),
        # What curl's --data-binary claims; a 500 of TorchServe's own.
        ("POST", {"data": CAT, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
        ("POST", {"data": CAT, "headers": {"Content-Type": "multipart/form-data"}}),
    ):
        answer = edge.request(method, "/predictions/catdog", key=key, **options)
        assert answer.json()["label"] == "cat"


def test_internal_headers_change_nothing(edge: Edge, key: str) -> None:
    for headers in ({"explain": "True", "describe": "True"}, {"EXPLAIN": "1", "Describe": "True"}):
        assert edge.post(CAT, key, **headers).json()["label"] == "cat"


def test_the_size_limit_is_the_servers(edge: Edge, key: str) -> None:
    conf = (ROOT / "config" / "nginx.conf").read_text()
    limit = int(
        ServingConfig.read(ROOT / "config" / "config.properties").values["max_request_size"]
    )
    assert f"client_max_body_size {limit};" in conf
    assert f"larger than {limit} bytes" in conf
    answer = edge.post(bytes(limit), key)
    assert (answer.status_code, answer.json()["type"]) == (400, "InvalidImage")
    assert_own_error(edge.post(bytes(limit + 1), key), 413, "RequestTooLargeException")

    def too_many_chunks() -> Iterator[bytes]:
        for _ in range(limit // 2**20 + 1):
            yield bytes(2**20)

    chunked = edge.request("POST", "/predictions/catdog", key=key, data=too_many_chunks())
    assert_own_error(chunked, 413, "RequestTooLargeException")


# What nginx must not guess about: (headers, body) of a request with a key.
AMBIGUOUS = {
    "both lengths": (("Content-Length: 5", "Transfer-Encoding: chunked"), b"0\r\n\r\n"),
    "two lengths": (("Content-Length: 1", "Content-Length: 2"), b"xx"),
    "a negative length": (("Content-Length: -1",), b""),
    "two encodings": (("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), b"0\r\n\r\n"),
    "a broken chunk": (("Transfer-Encoding: chunked",), b"ZZ\r\nabc\r\n0\r\n\r\n"),
    "two hosts": (("Host: other", "Content-Length: 1"), b"x"),
    "a header of 9 KB": (("X-Long: " + "a" * 9000, "Content-Length: 1"), b"x"),
}


@pytest.mark.parametrize("what", AMBIGUOUS)
def test_ambiguous_requests_are_refused(edge: Edge, key: str, what: str) -> None:
    headers, body = AMBIGUOUS[what]
    request = raw_request("POST /predictions/catdog HTTP/1.1", key, *headers, body=body)
    status, answer = status_and_body(edge.exchange(request))
    assert status == 400
    assert json.loads(answer)["type"] == "BadRequestException"


def test_two_authorizations_never_make_one(edge: Edge, key: str) -> None:
    """Debian's 1.22 answers 400; what counts is that a bad key beside a good one is not taken."""
    for extra in (f"Authorization: Bearer {'0' * 64}", "Authorization: Basic eDp4"):
        request = raw_request(
            "POST /predictions/catdog HTTP/1.1", key, extra, "Content-Length: 1", body=b"x"
        )
        assert status_and_body(edge.exchange(request))[0] in (400, 401)


KINDS = ("BadRequestException", "MethodNotAllowedException")


def test_what_is_not_http_gets_an_error_in_json(edge: Edge, key: str) -> None:
    gzipped = raw_request("POST /predictions/catdog HTTP/1.1", key, "Transfer-Encoding: gzip")
    for sent, expected in (
        (gzipped, 501),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /docs HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT localhost:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ):
        status, body = status_and_body(edge.exchange(sent))
        assert status in (expected, 405)
        error = json.loads(body)
        assert (error["code"], error["type"] in KINDS) == (status, True)


def test_an_absolute_uri_is_the_same_path_here(edge: Edge, key: str) -> None:
    request = raw_request(
        "POST https://elsewhere.example/predictions/catdog HTTP/1.1",
        key,
        f"Content-Length: {len(CAT)}",
        body=CAT,
    )
    status, body = status_and_body(edge.exchange(request))
    assert status == 200
    assert json.loads(body)["label"] == "cat"


def test_slow_clients_hold_up_nobody(edge: Edge, server: TorchServe, key: str) -> None:
    other = next(edge.keys)
    head = raw_request(
        "POST /predictions/catdog HTTP/1.1",
        key,
        f"Content-Length: {len(CAT)}",
        "X-Request-Id: slow",
    )
    slow = [edge.connect() for _ in range(12)]
    try:
        for connection in slow:
            connection.sendall(head + CAT[:1000])
        assert edge.post(CAT, other).json()["label"] == "cat"
        assert server.versions()[0].pending_requests == 0  # none of them is there yet
        for connection in slow:
            connection.sendall(CAT[1000:])
        for connection in slow:
            status, body = status_and_body(receive(connection))
            assert (status, json.loads(body)["label"]) == (200, "cat")
    finally:
        for connection in slow:
            connection.close()


# --- TLS


def test_tls_is_1_2_or_1_3_and_http_1_1(edge: Edge) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=str(edge.certificate))
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with edge.connect(context) as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"
            cipher, _, _ = connection.cipher() or ("", "", 0)
            assert "GCM" in cipher or "CHACHA20" in cipher
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = ssl.create_default_context(cafile=str(edge.certificate))
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        edge.connect(old)


def test_answers_tell_no_version_and_insist_on_tls(edge: Edge) -> None:
    answer = edge.request("GET", "/health")
    assert answer.headers["Server"] == "nginx"
    assert answer.headers["Strict-Transport-Security"] == "max-age=63072000"


def test_plain_http_leads_people_to_https_and_refuses_programs(edge: Edge, key: str) -> None:
    plain = f"http://127.0.0.1:{edge.plain_port}"
    for path in ("/docs", "/predictions/catdog?x=1"):
        answer = requests.get(
            plain + path, headers={"Host": "evil.example"}, allow_redirects=False, timeout=10
        )
        assert answer.status_code == 301
        assert answer.headers["Location"] == f"https://localhost{path}"
    headers = {"Authorization": f"Bearer {key}"}
    answer = requests.post(f"{plain}/predictions/catdog", data=CAT, headers=headers, timeout=10)
    assert_own_error(answer, 403, "ForbiddenException")
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as connection:
        connection.sendall(b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_and_body(receive(connection))[0] == 400


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_is_served(edge: Edge) -> None:
    with socket.create_connection(("::1", edge.port), timeout=10) as connection:
        context = ssl.create_default_context(cafile=str(edge.certificate))
        with context.wrap_socket(connection, server_hostname="localhost") as secured:
            secured.sendall(b"GET /docs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert status_and_body(receive(secured))[0] == 200
