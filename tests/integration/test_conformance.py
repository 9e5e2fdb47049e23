"""Every documented line of docs/api.md and docs/openapi.yaml, asked of each kind of server.

TorchServe (on whichever Java libraries the suite runs) and the server without Java
are started here. Any other is asked by its address, with what needs no server of its own:

    CATDOG_TEST_URL=http://HOST:PORT pytest tests/integration/test_conformance.py
"""

import json
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
import yaml
from openapi_core import OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse

from catdog_serving.torchserve.server import TorchServe
from tests.support.configs import MakeConfig
from tests.support.conformance_cases import CASES, CAT, OCTETS, OTHER_PATHS, cat_as, prepared
from tests.support.full_queue import fill_queue
from tests.support.json_bodies import JSON, v1, v2
from tests.support.paths import ROOT, SAMPLES
from tests.support.raw_requests import Answer, send_all
from tests.support.servers import SERVERS, running_server

DOCUMENT = (ROOT / "docs" / "api.md").read_text()
OPENAPI = ROOT / "docs" / "openapi.yaml"
EXAMPLES = re.findall(r"^POST (\S+)  (.+)\n(\d{3})(?: (.*))?$", DOCUMENT, re.MULTILINE)
UNSENT = dict(re.findall(r"```http\n(\d{3}) (.*)\n```", DOCUMENT))
PATHS = ("/predictions/catdog", "/predictions/catdog/1.0", "/explanations/catdog")
LISTS = ("/v1/models/catdog:predict", "/v2/models/catdog/infer")
FOREIGN = os.environ.get("CATDOG_TEST_URL")
BEHIND_NGINX = {"401", "403", "405", "414", "429", "501", "504", "505"}


# Lines of the table with tests of their own below, or elsewhere for what no client can cause.
ELSEWHERE = {
    ("400", "InvalidKeyException"): "test_a_refused_token_is_answered_as_printed",
    ("503", "ServiceUnavailableException"): "test_a_full_queue_is_answered_as_printed",
    ("500", "ErrorDataDecoderException"): "test_what_claims_to_be_a_form",
    ("507", "InternalServerException"): "test_a_killed_worker_is_answered_as_printed",
    ("500", "InternalServerException"): "integration/test_without_java, test_a_batch_that_is_late",
    ("408", "RequestTimeoutException"): "integration/test_without_java, test_a_slow_body",
    ("507", "OutOfMemoryError"): "integration/test_without_java, test_too_many_bytes_at_once",
    ("503", "OutOfDeviceMemory"): "unit/test_handler_devices",
    ("no answer", ""): "stress/test_kills_server",
}


@pytest.fixture(scope="session", params=["foreign"] if FOREIGN else SERVERS)
def target(request: pytest.FixtureRequest) -> str:
    """Where predictions are asked for."""
    if FOREIGN:
        return FOREIGN.rstrip("/")
    url: str = request.getfixturevalue(request.param).config.inference_url
    return url


@pytest.fixture(scope="module")
def openapi() -> OpenAPI:
    return OpenAPI.from_file_path(str(OPENAPI))


def test_every_line_of_the_table_has_its_case() -> None:
    table = DOCUMENT.partition("## Every answer")[2].partition("\n## ")[0]
    lines = set(re.findall(r"^\| (\d{3}|no answer) \| (.*?) *\|", table, re.MULTILINE))
    made = {(str(case.status), case.kind) for case in CASES.values()}
    made |= {(str(status), kind) for status, kind in OTHER_PATHS.values()}
    assert lines == made | ELSEWHERE.keys()


def test_every_status_that_openapi_names_has_its_case() -> None:
    paths = yaml.safe_load(OPENAPI.read_text())["paths"]
    documented = (*PATHS[::2], *LISTS)
    named = {status for path in documented for status in paths[path]["post"]["responses"]}
    made = {str(case.status) for case in CASES.values()} | {status for status, _ in ELSEWHERE}
    assert named - BEHIND_NGINX <= made | {"404"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", CASES)
def test_each_line_is_answered_as_documented(
    target: str, openapi: OpenAPI, path: str, name: str
) -> None:
    case = CASES[name]
    response = case.send(target + path)
    assert response.status_code == case.status, response.text[:300]
    if case.kind == "(empty body)":
        assert response.content == b""
        return
    check_with_openapi(openapi, response)
    assert re.fullmatch(r"[0-9a-f-]{36}", response.headers["x-request-id"])
    wanted = case.headers.get("X-Request-Id", "")
    assert response.headers.get("X-Client-Request-Id") == (wanted if "-" in wanted else None)
    if case.status != 200:
        assert response.json()["code"] == case.status
        assert response.json()["type"] == case.kind
        return
    is_drawing = path.startswith("/explanations") and "Accept" in case.headers
    assert response.headers["content-type"] == ("image/png" if is_drawing else "application/json")
    if not is_drawing:
        found = response.json()
        prediction = found.get("prediction", found)
        assert prediction["label"] == "cat"
        has_map = "map" in found
        assert has_map == ("Catdog-Map" in case.headers or path.startswith("/explanations"))


@pytest.mark.parametrize("path", LISTS)
def test_each_image_of_a_list_is_answered_as_documented(
    target: str, openapi: OpenAPI, path: str
) -> None:
    """As many as there may be, good and bad, and each in its place."""
    make = v1 if path.startswith("/v1") else v2
    images = [CAT, b"hello, world", cat_as("TIFF"), b""] * 4
    url = f"{target}/predictions/catdog"
    plain = requests.post(url, data=CAT, headers=OCTETS, timeout=30).json()
    headers = JSON | {"X-Request-Id": "order-4711"}
    response = requests.post(target + path, data=make(*images), headers=headers, timeout=30)
    assert response.status_code == 200, response.text[:300]
    assert response.headers["X-Client-Request-Id"] == "order-4711"
    check_with_openapi(openapi, response)
    openapi.validate_request(_at_documented_server(response.request))
    found = response.json()
    entries = found.get("predictions") or [json.loads(text) for text in found["outputs"][0]["data"]]
    codes = [entry["error"]["code"] if "error" in entry else 200 for entry in entries]
    assert codes == [200, 400, 415, 400] * 4
    for entry in entries[::4]:
        assert entry["label"] == "cat"
        assert entry["cat"] == pytest.approx(plain["cat"], abs=1e-5)
    for count in (0, 17):
        response = requests.post(target + path, data=make(*[CAT] * count), headers=JSON, timeout=30)
        assert (response.status_code, response.json()["type"]) == (400, "InvalidImage")
        check_with_openapi(openapi, response)


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_each_path_that_is_not_there(target: str, path: str) -> None:
    status, kind = OTHER_PATHS[path]
    response = requests.post(target + path, data=CAT, headers=OCTETS, timeout=30)
    assert (response.status_code, response.json()["type"]) == (status, kind)


def test_the_server_is_healthy_and_drops_queries(target: str) -> None:
    assert requests.get(f"{target}/ping", timeout=30).json() == {"status": "Healthy"}
    asked = f"{target}/predictions/catdog?explain=True&customized=true"
    assert requests.post(asked, data=CAT, headers=OCTETS, timeout=30).json()["label"] == "cat"


def test_what_is_not_http(target: str) -> None:
    address = urlsplit(target)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(b"hello\r\n\r\n")
        answer = ""
        while not answer.rstrip().endswith("}"):
            answer += client.recv(4096).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 ")
    assert json.loads(body)["type"] == "BadRequestException"


def test_what_claims_to_be_a_form(target: str) -> None:
    """TorchServe's own 500, or what nginx makes of it: the image's bytes."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = requests.post(f"{target}/predictions/catdog", data=CAT, headers=headers, timeout=30)
    said = answer.json()
    if answer.status_code == 500:
        assert said["type"] == "ErrorDataDecoderException"
    else:
        assert (answer.status_code, said["label"]) == (200, "cat")


def check_with_openapi(openapi: OpenAPI, response: requests.Response) -> None:
    """The answer must be one that the document describes for that path and status."""
    if response.content:  # an empty 413 has no content type to check
        openapi.validate_response(
            _at_documented_server(response.request), RequestsOpenAPIResponse(response)
        )


def _at_documented_server(request: requests.PreparedRequest) -> RequestsOpenAPIRequest:
    """The same request, as if the test's server had the documented address."""
    copy = request.copy()
    copy.url = re.sub(r"http://[^/]+", "http://127.0.0.1:8080", str(request.url))
    return RequestsOpenAPIRequest(copy)


def same(answer: str, printed: str) -> bool:
    """Equal as JSON: TorchServe indents its own errors."""
    return answer == printed or (bool(printed) and json.loads(answer) == json.loads(printed))


def test_the_document_has_examples() -> None:
    assert len(EXAMPLES) == 18
    assert set(UNSENT) == {"503", "507", "400"}


@pytest.mark.parametrize(("path", "kind", "status", "printed"), EXAMPLES)
def test_each_example_is_answered_as_printed(
    target: str, openapi: OpenAPI, path: str, kind: str, status: str, printed: str
) -> None:
    url = target + path
    with requests.Session() as session:
        response = session.send(prepared(url, kind), timeout=30)
    assert response.status_code == int(status)
    assert same(response.text, printed), response.text
    if path in LISTS or path.startswith(("/predictions/catdog", "/explanations/catdog")):
        check_with_openapi(openapi, response)


def test_real_predictions_are_as_openapi_says(
    target: str, openapi: OpenAPI, photos: list[Path]
) -> None:
    url = f"{target}/predictions/catdog"
    for path in [*photos[::10], SAMPLES / "coffee.png"]:
        response = requests.post(
            url, data=path.read_bytes(), headers=OCTETS | {"X-Request-Id": path.name}, timeout=30
        )
        assert response.status_code == 200
        check_with_openapi(openapi, response)
        openapi.validate_request(_at_documented_server(response.request))


def test_real_explanations_and_maps_are_as_openapi_says(
    target: str, openapi: OpenAPI, photos: list[Path]
) -> None:
    for api, headers in (
        ("explanations", {}),
        ("explanations", {"Accept": "image/png"}),
        ("explanations", {"Catdog-Animals": "true"}),
        ("predictions", {"Catdog-Map": "true"}),
    ):
        url = f"{target}/{api}/catdog"
        for path in [*photos[::20], SAMPLES / "coffee.png"]:
            response = requests.post(
                url, data=path.read_bytes(), headers=OCTETS | headers, timeout=30
            )
            assert response.status_code == 200
            check_with_openapi(openapi, response)
            openapi.validate_request(_at_documented_server(response.request))


def test_an_answer_that_openapi_does_not_describe_would_be_found(
    target: str, openapi: OpenAPI
) -> None:
    url = f"{target}/predictions/catdog"
    response = requests.post(url, data=CAT, headers=OCTETS, timeout=30)
    changed = json.loads(response.content) | {"cat": 1.5}
    response._content = json.dumps(changed).encode()
    with pytest.raises(Exception, match="InvalidData"):
        check_with_openapi(openapi, response)


@pytest.fixture(params=SERVERS)
def queue_of_two(
    request: pytest.FixtureRequest, archive: Path, make_config: MakeConfig
) -> Iterator[TorchServe]:
    if request.param == "server":
        yield request.getfixturevalue("small_queue")
        return
    config = make_config(archive, job_queue_size="2", worker_settings={"batchSize": 1})
    with running_server(config, asgi=True) as server:
        yield server


def test_a_full_queue_is_answered_as_printed(queue_of_two: TorchServe) -> None:
    answers = send_all(queue_of_two.config.inference_url, [(CAT, OCTETS)] * 60, 20)
    refused = [answer for answer in answers if answer.status != 200]
    assert {answer.status for answer in refused} == {503}
    assert same(refused[0].body.decode(), UNSENT["503"]), refused[0].body


def test_a_killed_worker_is_answered_as_printed(small_queue: TorchServe) -> None:
    """Its 507, and the openness to go on: what waits is served.

    Sometimes TorchServe notices in another way that it died, and says so by 500: then once more.
    """
    for _ in range(5):
        lost = answer_of_a_killed_worker(small_queue)
        if lost.status == 507:
            break
        assert (lost.status, json.loads(lost.body)["message"]) == (500, "Worker died.")
    assert lost.status == 507
    assert same(lost.body.decode(), UNSENT["507"]), lost.body


def answer_of_a_killed_worker(server: TorchServe) -> Answer:
    """Kill the worker with one request under way; the two that wait are served by the next."""
    worker = psutil.Process(server.versions()[0].workers[0].pid)
    worker.suspend()
    with ThreadPoolExecutor(3) as pool:
        try:
            asked = fill_queue(server, pool, CAT, OCTETS)
        finally:
            worker.kill()
        first, second, lost = sorted((one.result() for one in asked), key=lambda one: one.status)
    assert (first.status, second.status) == (200, 200)
    return lost


def test_a_refused_token_is_answered_as_printed(guarded: TorchServe) -> None:
    url = guarded.config.inference_url.replace("0.0.0.0", "127.0.0.1")
    response = requests.post(f"{url}/predictions/catdog", data=CAT, headers=OCTETS, timeout=30)
    assert response.status_code == 400
    assert same(response.text, UNSENT["400"]), response.text
