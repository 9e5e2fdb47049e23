"""docs/api.md's examples and docs/openapi.yaml against the answers of a real server."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
from openapi_core import OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse
from PIL import Image

from catdog_serving.torchserve.server import TorchServe
from tests.support.full_queue import fill_queue
from tests.support.images import encode
from tests.support.paths import ROOT, SAMPLES
from tests.support.raw_requests import Answer, send_all

DOCUMENT = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"^POST (\S+)  (.+)\n(\d{3})(?: (.*))?$", DOCUMENT, re.MULTILINE)
UNSENT = dict(re.findall(r"```http\n(\d{3}) (.*)\n```", DOCUMENT))
CAT = (SAMPLES / "chelsea.png").read_bytes()
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def openapi() -> OpenAPI:
    return OpenAPI.from_file_path(str(ROOT / "docs" / "openapi.yaml"))


def prepared(url: str, kind: str) -> requests.PreparedRequest:
    """The request that a line of api.md names."""
    bodies = {
        "chelsea.png": CAT,
        "text": b"hello, world",
        "nothing": b"",
        "10,000 x 8,000": encode(Image.new("1", (10_000, 8_000))),
        "1 x 60,000": encode(Image.new("L", (1, 60_000))),
        "26,214,401 bytes": bytes(26_214_401),
    }
    if kind == "json":
        request = requests.Request("POST", url, json={"image": "AAAA"})
    elif kind == "form photo":
        request = requests.Request("POST", url, files={"photo": CAT})
    else:
        request = requests.Request("POST", url, data=bodies[kind], headers=OCTETS)
    return request.prepare()


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
    assert len(EXAMPLES) == 12
    assert set(UNSENT) == {"503", "507", "400"}


@pytest.mark.parametrize(("path", "kind", "status", "printed"), EXAMPLES)
def test_each_example_is_answered_as_printed(
    server: TorchServe, openapi: OpenAPI, path: str, kind: str, status: str, printed: str
) -> None:
    url = server.config.inference_url + path
    with requests.Session() as session:
        response = session.send(prepared(url, kind), timeout=30)
    assert response.status_code == int(status)
    assert same(response.text, printed), response.text
    if path.startswith(("/predictions/catdog", "/explanations/catdog")):
        check_with_openapi(openapi, response)


def test_real_predictions_are_as_openapi_says(
    server: TorchServe, openapi: OpenAPI, photos: list[Path]
) -> None:
    url = f"{server.config.inference_url}/predictions/catdog"
    for path in [*photos[::10], SAMPLES / "coffee.png"]:
        response = requests.post(
            url, data=path.read_bytes(), headers=OCTETS | {"X-Request-Id": path.name}, timeout=30
        )
        assert response.status_code == 200
        check_with_openapi(openapi, response)
        openapi.validate_request(_at_documented_server(response.request))


def test_real_explanations_and_maps_are_as_openapi_says(
    server: TorchServe, openapi: OpenAPI, photos: list[Path]
) -> None:
    for api, headers in (
        ("explanations", {}),
        ("explanations", {"Accept": "image/png"}),
        ("predictions", {"Catdog-Map": "true"}),
    ):
        url = f"{server.config.inference_url}/{api}/catdog"
        for path in [*photos[::20], SAMPLES / "coffee.png"]:
            response = requests.post(
                url, data=path.read_bytes(), headers=OCTETS | headers, timeout=30
            )
            assert response.status_code == 200
            check_with_openapi(openapi, response)
            openapi.validate_request(_at_documented_server(response.request))


def test_an_answer_that_openapi_does_not_describe_would_be_found(
    server: TorchServe, openapi: OpenAPI
) -> None:
    url = f"{server.config.inference_url}/predictions/catdog"
    response = requests.post(url, data=CAT, headers=OCTETS, timeout=30)
    changed = json.loads(response.content) | {"cat": 1.5}
    response._content = json.dumps(changed).encode()
    with pytest.raises(Exception, match="InvalidData"):
        check_with_openapi(openapi, response)


def test_a_full_queue_is_answered_as_printed(small_queue: TorchServe) -> None:
    answers = send_all(small_queue.config.inference_url, [(CAT, OCTETS)] * 60, 20)
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
