"""nginx before a stand-in: a server in trouble, keys and tokens that change, an upgrade."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from catdog_serving.torchserve.private_config import free_ports
from tests.support.edge import DROP_KEY, NEW_KEY, UPGRADE, Edge, running_edge
from tests.support.edge_upstream import StandIn, assert_try_again, under_way
from tests.support.processes import wait_until

BUSY = b'{\n  "code": 503,\n  "type": "ServiceUnavailableException",\n  "message": "no worker"\n}\n'


@pytest.fixture
def edge(edge_of_stand_in: Edge, upstream: StandIn) -> Edge:
    return edge_of_stand_in


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
