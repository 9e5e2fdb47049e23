"""nginx before a real TorchServe: who gets through, to what, ids, health, page."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.edge import FIRST_KEY, Edge, assert_own_error, raw_request, status_and_body
from tests.support.json_bodies import JSON, one, v1, v2
from tests.support.paths import ROOT, SAMPLES
from tests.support.processes import wait_until

CAT = (SAMPLES / "chelsea.png").read_bytes()
CONF = {path.name: path.read_text() for path in (ROOT / "config").rglob("*.conf")}


# --- the document's commands


def test_the_documented_request_gets_its_prediction(edge: Edge) -> None:
    curl = "curl" + FIRST_KEY.partition("curl")[2]
    assert json.loads(edge.run(curl, KEY=edge.first_key))["label"] == "cat"


def test_the_client_goes_through_with_a_key(
    edge: Edge, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(edge.certificate))
    with CatDogClient(edge.url, token=key) as client:
        assert client.classify(CAT).label == "cat"


# --- keys


def test_nothing_but_an_exact_key_gets_through(edge: Edge, key: str) -> None:
    refused = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer " + "0" * 64},
        {"Authorization": f"Bearer {key.upper()}"},
        {"Authorization": f"Bearer {key}0"},
        {"Authorization": f"Bearer {key[:-1]}"},
        {"Authorization": f"Bearer  {key}"},
        {"Authorization": f"Bearer {key} {key}"},
        {"Authorization": f"Basic {key}"},
        {"Authorization": key},
        {"Authorization": "Bearer default"},
        {"X-Api-Key": key},
    ]
    for headers in refused:
        answer = edge.request("POST", "/predictions/catdog", data=CAT, headers=headers)
        assert_own_error(answer, 401, "UnauthorizedException")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    answer = edge.request("POST", f"/predictions/catdog?key={key}", data=CAT)
    assert_own_error(answer, 401, "UnauthorizedException")
    assert edge.post(CAT, key).status_code == 200
    lower = {"Authorization": f"bearer {key}"}
    assert edge.request("POST", "/predictions/catdog", data=CAT, headers=lower).ok


def test_keys_are_in_no_log(edge: Edge, server: TorchServe, key: str) -> None:
    answer = edge.request("POST", f"/predictions/catdog?key={key}", key=key, data=CAT)
    assert edge.log_entry(answer.headers["X-Request-Id"])["key"].startswith("key-")
    logs = [*(edge.folder / "log").iterdir(), *(server.run.path / "logs").iterdir()]
    assert len(logs) >= 5
    for log in logs:
        assert key not in log.read_text()


# --- one id end to end


@pytest.mark.parametrize("sent", ["order-4711/a:b+c=d@e", None, "two words", "x" * 101, 'a"b'])
def test_one_id_from_the_client_to_the_workers_log(
    edge: Edge, server: TorchServe, key: str, sent: str | None
) -> None:
    answer = edge.post(CAT, key, **({"X-Request-Id": sent} if sent else {}))
    assert answer.status_code == 200
    request_id = answer.headers["X-Request-Id"]
    if sent and sent.startswith("order"):
        assert request_id == sent
    else:
        assert re.fullmatch(r"[0-9a-f]{32}", request_id)
    entry = edge.log_entry(request_id)
    assert (entry["status"], entry["path"]) == ("200", "/predictions/catdog")

    def line() -> str | None:
        lines = server.run.logs.workers.read_text().splitlines()
        return next((line for line in lines if f" client={request_id} " in line), None)

    wait_until(lambda: line() is not None, "the worker's log line")
    assert f" request={entry['server_id']} " in str(line())


# --- paths and methods

# fmt: off
NOT_FOUND = [
    "/", "/ping", "/models", "/models/catdog", "/models/catdog/1.0", "/metrics",
    "/api-description", "/token", "/v1/models", "/invocations", "/models/catdog/invoke",
    "/models/catdog/1.0/invoke", "/catdog/predict", "/catdog/1.0/predict", "/predictions",
    "/predictions/", "/predictions/dogcat", "/predictions/catdog/", "/predictions/catdog/1.0/",
    "/predictions/catdog/1.0/x", "/predictions//catdog", "//predictions/catdog",
    "/predictions/catdog//1.0", "/predictions/catdog%2F1.0", "/predictions/cat%64og",
    "/predictions%2Fcatdog", "/predictions/catdog%00", "/predictions/catdog/../catdog",
    "/predictions/./catdog", "/predictions/catdog/../../models",
    "/predictions/catdog/..%2f..%2fmodels", "/predictions/catdog/%2e%2e/%2e%2e/models",
    "/predictions/catdog/..", "/predictions/catdog\\..\\models", "/predictions/catdog;/models",
    "/PREDICTIONS/catdog", "/predictions/Catdog", "/Health", "/health/", "/health/x", "/docs/",
    "/docs/api.yaml", "/docs/../docs", "/docs/openapi.yaml/", "/docs/../../etc/passwd",
    "/docs/..%2f..%2fetc/passwd", "/docs%2fopenapi.yaml", "/explanations", "/explanations/catdog/",
    "/explanations/catdog/1.0", "/explanations/dogcat", "/.error", "/nginx_status",
    "https://localhost/models", "http://127.0.0.1:8081/models",
    "/predictions/catdog/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "/v1/models/catdog", "/v1/models/catdog:explain", "/v1/models/catdog:predictx",
    "/v1/models/catdog%3Apredict", "/v1/models/Catdog:predict", "/v1/models/dogcat:predict",
    "/v1/models/catdog:predict/", "/v1//models/catdog:predict", "/v1/models/x:y/../catdog:predict",
    "/v1/models/catdog:predict:predict", "/v2", "/v2/models/catdog", "/v2/models/catdog/explain",
    "/v2/models/catdog/infer/", "/v2/models/dogcat/infer", "/v2/models/catdog/./infer",
    "/v2/models/catdog/versions/1.0/infer", "/v2/health/ready", "/v2/models/catdog%2Finfer",
]
# fmt: on


# What nginx refuses as no path at all: a zero byte, and more ".." than folders.
NO_PATHS = {
    "/predictions/catdog%00",
    "/docs/../../etc/passwd",
    "/docs/..%2f..%2fetc/passwd",
}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_other_path_passes_whatever_its_spelling(edge: Edge, key: str, method: str) -> None:
    for path in NOT_FOUND:
        answer = edge.exchange(raw_request(f"{method} {path} HTTP/1.1", key))
        status, body = status_and_body(answer)
        assert status == (400 if path in NO_PATHS else 404), path
        assert json.loads(body)["code"] == status
        (own_id,) = re.findall(rb"X-Request-Id: (\w+)", answer)
        assert edge.log_entry(own_id.decode())["upstream_status"] == ""


def test_other_methods_are_refused(edge: Edge, key: str) -> None:
    for path, allowed, refused in (
        ("/predictions/catdog", "POST, PUT", ("GET", "HEAD", "DELETE", "OPTIONS", "PATCH")),
        ("/explanations/catdog", "POST, PUT", ("GET", "DELETE")),
        ("/v1/models/catdog:predict", "POST, PUT", ("GET", "DELETE")),
        ("/v2/models/catdog/infer", "POST, PUT", ("GET", "DELETE")),
        ("/health", "GET, HEAD", ("POST", "PUT", "DELETE")),
        ("/docs", "GET, HEAD", ("POST", "DELETE")),
        ("/docs/openapi.yaml", "GET, HEAD", ("PUT", "OPTIONS")),
    ):
        for method in refused:
            answer = edge.request(method, path, key=key)
            assert answer.status_code == 405
            assert answer.headers["Allow"] == allowed
            if method != "HEAD":
                assert_own_error(answer, 405, "MethodNotAllowedException")


def test_a_version_and_servers_own_errors_pass(edge: Edge, key: str) -> None:
    answer = edge.request("POST", "/predictions/catdog/1.0", key=key, data=CAT)
    assert answer.json()["version"] == "1.0"
    answer = edge.request("POST", "/predictions/catdog/9", key=key, data=CAT)
    assert (answer.status_code, answer.json()["type"]) == (404, "ModelVersionNotFoundException")
    answer = edge.post(b"hello, world", key)
    assert (answer.status_code, answer.json()["type"]) == (400, "InvalidImage")


def test_explanations_reach_the_server(edge: Edge, key: str) -> None:
    answer = edge.request("POST", "/explanations/catdog", key=key, data=CAT)
    assert (answer.status_code, answer.json()["map"]["size"]) == (200, [451, 300])
    drawn = edge.request(
        "POST", "/explanations/catdog", key=key, data=CAT, headers={"Accept": "image/png"}
    )
    assert drawn.content.startswith(b"\x89PNG")


def test_json_reaches_the_server_whatever_curl_calls_it(edge: Edge, key: str) -> None:
    lists = {"/v1/models/catdog:predict": v1(CAT), "/v2/models/catdog/infer": v2(CAT)}
    for path, body in lists.items():
        for content_type in (*JSON.values(), None, "application/x-www-form-urlencoded"):
            headers = {"Content-Type": content_type} if content_type else {}
            answer = edge.request("POST", path, key=key, data=body, headers=headers)
            assert answer.status_code == 200, answer.text
            assert "cat" in answer.text
    answer = edge.request("POST", "/predictions/catdog", key=key, data=one(CAT), headers=JSON)
    assert answer.json()["label"] == "cat"
    assert_own_error(
        edge.request("POST", "/v2/models/catdog/infer", data=v2(CAT)), 401, "UnauthorizedException"
    )


def test_a_prediction_brings_its_map_when_asked(edge: Edge, key: str) -> None:
    for headers, has_map in (({}, False), ({"Catdog-Map": "true"}, True)):
        answer = edge.request("POST", "/predictions/catdog", key=key, data=CAT, headers=headers)
        assert ("map" in answer.json()) == has_map


# --- health


def test_health_is_about_the_worker_and_not_the_process(edge: Edge, server: TorchServe) -> None:
    answer = edge.request("GET", "/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert edge.request("HEAD", "/health").status_code == 200
    worker = psutil.Process(server.versions()[0].workers[0].pid)
    worker.suspend()
    try:
        ping = requests.get(f"{server.config.inference_url}/ping", timeout=10)
        assert ping.status_code == 200  # which is why /health does not ask it
        answer = edge.request("GET", "/health")
        assert_own_error(answer, 503, "ServiceUnavailableException")
        assert answer.headers["Retry-After"] == "2"
    finally:
        worker.resume()
    wait_until(lambda: edge.request("GET", "/health").status_code == 200, "health")


def test_health_is_limited_by_address(edge: Edge) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: edge.request("GET", "/health"), range(40)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) > 10
    assert_own_error(refused[0], 429, "TooManyRequestsException")


# --- the page


@pytest.mark.parametrize("path", ["/docs", "/docs/openapi.yaml"])
def test_the_document_is_served(edge: Edge, path: str) -> None:
    document = edge.request("GET", path)
    assert document.headers["Content-Type"] == "application/yaml"
    assert document.content == (ROOT / "docs" / "openapi.yaml").read_bytes()
    assert "default-src 'none'" in document.headers["Content-Security-Policy"]
    assert document.headers["X-Content-Type-Options"] == "nosniff"


# --- numbers that must fit together


def test_the_limits_fit_the_servers() -> None:
    config = ServingConfig.read(ROOT / "config" / "config.properties")
    model_config = (ROOT / "config" / "model-config.yaml").read_text()
    (response_timeout_s,) = re.findall(r"^responseTimeout: (\d+)$", model_config, re.MULTILINE)
    (read_timeout_s,) = re.findall(r"proxy_read_timeout (\d+)s;\n# A request", CONF["routes.conf"])
    assert int(read_timeout_s) > 2 * int(response_timeout_s)
    (address, under_way) = re.findall(r"server ([\d.:]+) max_conns=(\d+);", CONF["site.conf"])[0]
    assert config.inference_url == f"http://{address}"
    queue, batch = int(config.values["job_queue_size"]), int(config.worker_settings["batchSize"])
    assert queue + batch <= int(under_way) <= 64  # 64: docs/reliability.md
    (of_one_key,) = re.findall(r"limit_conn key_requests (\d+);", CONF["site.conf"])
    assert int(of_one_key) <= queue // 3
