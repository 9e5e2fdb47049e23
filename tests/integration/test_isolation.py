"""One bad request cannot hurt another, over real HTTP."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.server import TorchServe
from tests.support.images import encode, noise, png
from tests.support.paths import SAMPLES
from tests.support.raw_requests import send_all

CAT = (SAMPLES / "chelsea.png").read_bytes()
OCTETS = {"Content-Type": "application/octet-stream"}


def post(served: TorchServe, **request: Any) -> requests.Response:
    url = f"{served.config.inference_url}/predictions/catdog"
    return requests.post(url, timeout=30, **request)


@pytest.mark.parametrize(
    ("request_", "status", "problem"),
    [
        ({"data": b""}, 400, "got no bytes"),
        ({"data": b"hello"}, 400, "cannot decode 5 bytes"),
        ({"data": CAT[:9999]}, 400, "is cut off: its last rows are missing"),
        ({"data": png(60_000, 60_000, 8, b"")}, 413, "52000000 pixels"),
        ({"data": encode(noise(2, 41))}, 413, "longer side may be at most 20"),
        ({"files": {"photo": CAT}}, 400, "found no image in the form"),
        ({"files": {"data": CAT, "image": CAT}}, 400, "found 2 images"),
        ({"files": {"data": b"hello"}}, 400, "cannot decode 5 bytes"),
        ({"json": {"image": "AAAA"}}, 400, "got JSON"),
        ({"json": ["AAAA"]}, 400, "the JSON is no object"),
        ({"json": {"data": "AAA"}}, 400, "an image is not base64"),
        ({"data": {"image": "AAAA"}}, 400, "cannot decode 4 bytes"),
        ({"data": {"photo": "AAAA"}}, 400, "found no image in the form"),
        ({"data": b"a cat", "headers": {"Content-Type": "text/plain"}}, 400, "got text"),
    ],
)
def test_each_wrong_request_has_its_own_answer(
    served: TorchServe, request_: dict[str, Any], status: int, problem: str
) -> None:
    answer = post(served, **request_)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["code"], body["type"]) == (status, "InvalidImage")
    assert problem in body["message"]
    assert answer.content == json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def test_what_claims_to_be_a_form_and_is_none_is_refused(served: TorchServe) -> None:
    """By TorchServe itself, before any handler: 400 or 500, by its Java libraries."""
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert post(served, data=CAT, headers=headers).status_code in (400, 500)


@pytest.mark.parametrize("field", ["data", "file", "image"])
def test_multipart_and_body_get_the_same_answer(served: TorchServe, field: str) -> None:
    by_form, by_body = post(served, files={field: CAT}), post(served, data=CAT, headers=OCTETS)
    assert by_form.status_code == by_body.status_code == 200
    assert by_form.content == by_body.content


HOSTILE_HEADERS = [
    {"explain": "True"},
    {"describe": "True"},
    {"X-Request-Id": "a b"},
    {"X-Request-Id": "\xe9\xff"},
    {"X-Anything": "\xe9\xff" * 100},
    {"ts_request_sequence_id": "1"},
    {"Accept": "image/png"},
    {"Content-Type": "image/jpeg; charset=utf-7"},
    {"Content-Type": "nonsense"},
]


@pytest.mark.parametrize("headers", HOSTILE_HEADERS)
def test_stray_headers_change_no_answer(
    served: TorchServe, photos: list[Path], headers: dict[str, str]
) -> None:
    """Full batches in which every third request carries the header."""
    with CatDogClient(served.config.inference_url) as client:
        expected = [client.classify(path).to_dict() for path in photos[:8]]
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    plan: list[tuple[bytes, Any]] = [
        (path.read_bytes(), OCTETS | encoded if number % 3 == 0 else OCTETS)
        for number, path in enumerate(photos[:8] * 3)
    ]
    answers = send_all(served.config.inference_url, plan, 16)
    for number, answer in enumerate(answers):
        assert answer.status == 200
        got = json.loads(answer.body)
        assert got["label"] == expected[number % 8]["label"]
        assert got["cat"] == pytest.approx(expected[number % 8]["cat"], abs=1e-5)


def test_a_clients_describe_gets_no_description(served: TorchServe) -> None:
    headers = {"describe": "True", "Content-Type": "application/x-www-form-urlencoded"}
    answer = post(served, headers=headers)
    assert answer.status_code == 400
    assert "categories" not in answer.text


@pytest.mark.parametrize(
    "path", ["/v1/models/catdog:predict", "/v2/models/catdog/infer", "/invocations"]
)
def test_an_empty_form_by_a_path_of_another_protocol_gets_none(
    server: TorchServe, path: str
) -> None:
    headers = {"describe": "True", "Content-Type": "application/x-www-form-urlencoded"}
    answer = requests.post(server.config.inference_url + path, headers=headers, timeout=30)
    assert answer.status_code == 400
    assert "categories" not in answer.text


def test_bad_images_never_touch_their_batch(served: TorchServe, photos: list[Path]) -> None:
    client = CatDogClient(served.config.inference_url)
    alone = {path: client.classify(path) for path in photos[:6]}
    url = f"{served.config.inference_url}/predictions/catdog"

    def bad(number: int) -> int:
        return requests.post(url, data=b"x" * (number + 1), headers=OCTETS, timeout=30).status_code

    with ThreadPoolExecutor(24) as pool:
        good = [pool.submit(client.classify, path) for path in list(alone) * 4]
        refused = [pool.submit(bad, number) for number in range(24)]
        assert {future.result() for future in refused} == {400}
        for path, future in zip(list(alone) * 4, good, strict=True):
            assert future.result().cat == pytest.approx(alone[path].cat, abs=1e-5)
    client.close()
