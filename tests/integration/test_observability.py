"""The request log and the metrics, read back from a real server."""

import re
import socket
from urllib.parse import urlsplit

import requests

from catdog_serving.torchserve.server import TorchServe
from tests.support.json_bodies import JSON, v2
from tests.support.paths import ROOT, SAMPLES
from tests.support.processes import wait_until
from tests.support.raw_requests import send_all

CAT = (SAMPLES / "chelsea.png").read_bytes()
OCTETS = {"Content-Type": "application/octet-stream"}


def post(
    server: TorchServe, body: bytes, path: str = "catdog", **headers: str
) -> requests.Response:
    return requests.post(
        f"{server.config.inference_url}/predictions/{path}",
        data=body,
        headers=OCTETS | headers,
        timeout=30,
    )


def log_lines(server: TorchServe, request_id: str) -> list[str]:
    """model.log's lines of one request, once they are there."""
    found: list[str] = []

    def arrived() -> bool:
        lines = server.run.logs.workers.read_text().splitlines()
        found[:] = [line for line in lines if request_id in line]
        return bool(found)

    wait_until(arrived, f"a log line of {request_id}")
    return found


def test_one_line_per_request_that_a_person_can_read(served: TorchServe) -> None:
    answer = post(served, CAT, **{"X-Request-Id": "order-4711"})
    assert answer.headers["X-Client-Request-Id"] == "order-4711"
    (line,) = log_lines(served, answer.headers["x-request-id"])
    assert re.fullmatch(
        r"\S+ request=\S{36} client=order-4711 status=200 result=cat batch=1 "
        r"ms: preprocess=[\d.]+ inference=[\d.]+ postprocess=[\d.]+",
        line,
    )


def test_each_image_of_a_list_has_its_line(served: TorchServe) -> None:
    url = f"{served.config.inference_url}/v2/models/catdog/infer"
    headers = JSON | {"X-Request-Id": "order-4712"}
    answer = requests.post(url, data=v2(CAT, b"junk"), headers=headers, timeout=30)
    lines = log_lines(served, answer.headers["x-request-id"])
    cat, junk = (line.partition(" client=")[2].partition(" ms: ")[0] for line in lines)
    assert cat == "order-4712 status=200 result=cat batch=2 image=1/2"
    assert junk == "order-4712 status=200 result=undecodable batch=2 image=2/2"


def test_a_refused_image_has_its_line_too(served: TorchServe) -> None:
    answer = post(served, b"secret content", **{"X-Request-Id": "two words"})
    assert "X-Client-Request-Id" not in answer.headers
    (line,) = log_lines(served, answer.headers["x-request-id"])
    assert "client=- status=400 result=undecodable batch=1" in line
    assert "secret" not in served.run.logs.workers.read_text()


def test_the_access_log_has_only_what_never_reached_the_handler(served: TorchServe) -> None:
    access_log = served.run.path / "logs" / "access.log"
    for body in (CAT, b"junk", b""):
        post(served, body)
    post(served, CAT, path="unknown-model")
    wait_until(lambda: "unknown-model" in access_log.read_text(), "the 404's line")
    lines = [line for line in access_log.read_text().splitlines() if "/predictions/" in line]
    assert all(re.search(r'" (404|5\d\d) ', line) for line in lines), lines


def test_the_metrics_count_what_was_sent(served: TorchServe) -> None:
    before = metrics(served)
    send_all(served.config.inference_url, [(CAT, OCTETS)] * 16 + [(b"junk", OCTETS)] * 3, 19)
    expected = {
        'catdog_pictures_total{label="cat",version="1.0"}': 16,
        'catdog_invalid_total{reason="undecodable",version="1.0"}': 3,
        "catdog_batch_pictures_sum{}": 19,
    }

    def grown() -> bool:
        now = metrics(served)
        return all(now.get(k, 0) - before.get(k, 0) == n for k, n in expected.items())

    wait_until(grown, "the metrics")
    now = metrics(served)
    batches = now["catdog_batch_pictures_count{}"] - before.get("catdog_batch_pictures_count{}", 0)
    assert 19 / 8 <= batches < 19  # batching happened
    for stage in ("preprocess", "inference", "postprocess"):
        key = f'catdog_stage_seconds_sum{{stage="{stage}"}}'
        assert now[key] > before.get(key, 0)


def test_images_of_clients_that_went_away_are_computed(server: TorchServe) -> None:
    """As docs/reliability.md says of TorchServe."""
    before = metrics(server)
    address = urlsplit(server.config.inference_url)
    head = f"POST /predictions/catdog HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CAT)}\r\n\r\n"
    for _ in range(3):
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            client.sendall(head.encode() + CAT)
    label = 'catdog_pictures_total{label="cat",version="1.0"}'
    wait_until(lambda: metrics(server)[label] - before.get(label, 0) == 3, "three images")


def test_every_metric_is_documented(served: TorchServe) -> None:
    document = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    post(served, CAT)
    wait_until(lambda: "catdog_stage_seconds_sum" in str(metrics(served)), "the metrics")
    for key in metrics(served):
        name = re.sub(r"_(sum|count|bucket)$", "", key.partition("{")[0])
        assert f"`{name}`" in document, name


def metrics(server: TorchServe) -> dict[str, float]:
    """Every series at the metrics address, without host names and buckets."""
    text = requests.get(f"{server.config.values['metrics_address']}/metrics", timeout=10).text
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line)
        if match and "_bucket" not in match[1]:
            labels = re.findall(r'(\w+="[^"]*")', match[2])
            kept = ",".join(label for label in labels if not label.lower().startswith("hostname"))
            found[f"{match[1]}{{{kept}}}"] = float(match[3])
    return found
