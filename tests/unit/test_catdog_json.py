"""Images in JSON: what the handler makes of each shape, good and hostile, and of its neighbours."""

import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from catdog.engines import OutOfDeviceMemoryError
from catdog.invalid_image import InvalidImage
from catdog_json import ImageList, read_json
from tests.support.handlers import GREEN, RED, prepared_handler
from tests.support.images import encode
from tests.support.json_bodies import JSON, hostile, one, text_of, v1, v2

BLUE = encode(Image.new("RGB", (80, 60), "blue"))
JUNK = b"hello, world"


def ask(tmp_path: Path, *bodies: bytes, **headers: str) -> list[tuple[int, Any]]:
    """Status and JSON of each body, all in one batch between two images."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    handler, context = prepared_handler(folder, [{}, *[JSON | headers] * len(bodies), {}])
    rows = [{"body": RED}, *({"body": bytearray(body)} for body in bodies), {"body": GREEN}]
    answers = [json.loads(body) for body in handler.handle(rows, context)]
    assert (answers[0]["label"], answers[-1]["label"]) == ("cat", "dog")
    statuses = [context.get_response_status(index)[0] for index in range(len(rows))]
    assert {statuses[0], statuses[-1]} == {200}
    return list(zip(statuses, answers, strict=True))[1:-1]


def texts(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of v2's tensor."""
    (tensor,) = answer["outputs"]
    assert (tensor["name"], tensor["datatype"]) == ("predictions", "BYTES")
    assert tensor["shape"] == [len(tensor["data"])]
    return [json.loads(text) for text in tensor["data"]]


def test_each_shape_is_answered_in_its_own(tmp_path: Path) -> None:
    bodies = (bytes(RED), one(RED), v1(RED, GREEN, BLUE), v2(RED, GREEN, id="x-1"))
    (_, plain), single, first, second = ask(tmp_path, *bodies)
    assert single == (200, plain)
    assert first[0] == second[0] == 200
    assert first[1].keys() == {"predictions"}
    assert first[1]["predictions"][0] == plain
    assert [entry["label"] for entry in first[1]["predictions"]] == ["cat", "dog", "neither"]
    named = {key: second[1][key] for key in ("model_name", "model_version", "id")}
    assert named == {"model_name": "catdog", "model_version": plain["version"], "id": "x-1"}
    assert [entry["label"] for entry in texts(second[1])] == ["cat", "dog"]
    assert texts(second[1])[0] == plain


@pytest.mark.parametrize(
    "entry", [text_of(RED), {"data": text_of(RED)}, {"b64": text_of(RED), "key": "7"}]
)
def test_each_spelling_of_an_instance_is_read(tmp_path: Path, entry: Any) -> None:
    ((status, answer),) = ask(tmp_path, json.dumps({"instances": [entry]}).encode())
    assert (status, answer["predictions"][0]["label"]) == (200, "cat")


@pytest.mark.parametrize("shape", [[2], [2, 1], [-1], [-1, 1]])
def test_each_shape_that_says_how_many_is_read(tmp_path: Path, shape: list[int]) -> None:
    ((status, answer),) = ask(tmp_path, v2(RED, GREEN, shape=shape, parameters={"x": 1.5}))
    assert (status, len(texts(answer))) == (200, 2)
    assert "id" not in answer


def test_slashes_may_be_escaped_as_php_does_it(tmp_path: Path) -> None:
    noise = next(
        data for n in range(99) if "/" in text_of(data := encode(Image.new("L", (9, 9), n)))
    )
    ((status, _),) = ask(tmp_path, one(noise).replace(b"/", b"\\/"))
    assert status == 200


def test_what_is_hostile_is_refused_and_its_neighbours_are_not(tmp_path: Path) -> None:
    for name, body, said in hostile(RED):
        start = time.process_time()
        ((status, answer),) = ask(tmp_path, body)
        print(f"{name}: {time.process_time() - start:.2f} s")
        answer = answer.get("predictions", [{"error": answer}])[0]["error"]
        assert (status, answer["code"], answer["type"]) == (400, 400, "InvalidImage"), name
        assert said in answer["message"], name
        assert len(answer["message"]) < 500, name


_KEYS = st.sampled_from(["data", "instances", "inputs", "b64", "id", "shape", "datatype", "x"])
_LEAVES = st.sampled_from([text_of(RED), "BYTES", "", "x", 1, -1, 2.5, None, True, "\ud800"])


_DOCUMENTS = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner), max_leaves=9
)


@given(_DOCUMENTS)
def test_any_document_is_images_or_refused(document: Any) -> None:
    found = read_json(json.dumps(document).encode())
    if isinstance(found, InvalidImage):
        found.message.encode()
    elif isinstance(found, ImageList):
        assert 1 <= len(found.images) <= 16
        json.dumps(found.to_answer([{}] * len(found.images), "1.0"), ensure_ascii=False).encode()
    else:
        assert found in (bytes(RED), b"")


def test_good_and_bad_images_share_a_list(tmp_path: Path) -> None:
    images = (RED, JUNK, "no base64!", GREEN, b"")
    first, second = ask(tmp_path, v1(*images), v2(*images))
    assert first[0] == second[0] == 200
    for entries in (first[1]["predictions"], texts(second[1])):
        assert [entries[number]["label"] for number in (0, 3)] == ["cat", "dog"]
        errors = [entries[number]["error"] for number in (1, 2, 4)]
        assert [error["code"] for error in errors] == [400] * 3
        for error, said in zip(errors, ("decode 12 bytes", "base64", "got no bytes"), strict=True):
            assert said in error["message"]


def test_where_all_failed_it_is_an_error_with_the_entries(tmp_path: Path) -> None:
    tiff = encode(Image.new("RGB", (9, 9)), "TIFF")
    first, second = ask(tmp_path, v1(JUNK, tiff), v2(JUNK, tiff, id="x"))
    for status, answer in (first, second):
        assert (status, answer["code"], answer["type"]) == (400, 400, "InvalidImage")
        assert answer["message"] == answer["error"]
        assert answer["message"].startswith("no image of 2 was classified; cannot decode 12 bytes")
    for entries in (first[1]["predictions"], texts(second[1])):
        assert [entry["error"]["code"] for entry in entries] == [400, 415]


def test_passes_are_of_at_most_the_batch_size(tmp_path: Path) -> None:
    handler, context = prepared_handler(tmp_path, [JSON, {}, JSON])
    sizes: list[int] = []
    infer = handler.classifier.infer

    def counted(inputs: Any) -> Any:
        sizes.append(len(inputs))
        return infer(inputs)

    with patch.object(handler.classifier, "infer", counted):
        rows = [v1(*[RED, GREEN] * 8), bytes(RED), v2(GREEN, JUNK, RED)]
        bodies = handler.handle([{"body": bytearray(row)} for row in rows], context)
    assert sizes == [8, 8, 4]
    labels = [entry["label"] for entry in json.loads(bodies[0])["predictions"]]
    assert labels == ["cat", "dog"] * 8
    assert json.loads(bodies[1])["label"] == "cat"
    dog, error, cat = texts(json.loads(bodies[2]))
    assert (dog["label"], cat["label"]) == ("dog", "cat")
    assert error["error"]["code"] == 400


def test_a_pass_without_memory_fails_its_own_images(tmp_path: Path) -> None:
    handler, context = prepared_handler(tmp_path, [JSON, JSON])
    infer, left = handler.classifier.infer, [True, False, False]

    def failing(inputs: Any) -> Any:
        if left.pop(0):
            return infer(inputs)
        raise OutOfDeviceMemoryError("no memory left")

    with patch.object(handler.classifier, "infer", failing):
        rows = [{"body": v1(*[RED] * 16)}, {"body": v1(RED)}]
        full, none = map(json.loads, handler.handle(rows, context))
    assert [context.get_response_status(index)[0] for index in (0, 1)] == [200, 503]
    kinds = [entry.get("error", {}).get("type", "") for entry in full["predictions"]]
    assert kinds == [""] * 8 + ["OutOfDeviceMemory"] * 8
    assert (none["code"], none["type"]) == (503, "OutOfDeviceMemory")


def test_the_images_of_a_list_share_the_pixels_of_two(tmp_path: Path) -> None:
    large = encode(Image.new("1", (2600, 2600)))  # 6.76 megapixels
    some, many = ask(tmp_path, v1(*[large] * 15), v1(*[large] * 16))
    assert (some[0], many[0]) == (200, 400)
    error = many[1]["predictions"][0]["error"]
    assert error["code"] == 413
    assert "at most 6500000 are allowed with 16 in a request" in error["message"]


def test_the_map_comes_with_each_image_of_a_list(tmp_path: Path) -> None:
    ((_, answer),) = ask(tmp_path, v1(RED, GREEN), **{"Catdog-Map": "true"})
    assert all("map" in entry for entry in answer["predictions"])


def test_an_explanation_takes_one_image(tmp_path: Path) -> None:
    single, many = ask(tmp_path, one(RED), v1(RED), explain="True")
    assert (single[0], single[1]["prediction"]["label"]) == (200, "cat")
    assert many[0] == 400
    assert "an explanation takes one image" in many[1]["message"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("Application/JSON; charset=utf-8", 200),
        ("application/octet-stream", 400),
        ("text/plain", 400),
    ],
)
def test_json_is_what_says_so(tmp_path: Path, content_type: str, status: int) -> None:
    ((got, _),) = ask(tmp_path, one(RED), **{"Content-Type": content_type})
    assert got == status


def test_an_image_that_is_called_json_is_an_image(tmp_path: Path) -> None:
    ((status, answer),) = ask(tmp_path, bytes(RED))
    assert (status, answer["label"]) == (200, "cat")


def test_each_image_of_a_list_has_its_log_line_and_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ask(tmp_path, v1(RED, JUNK), **{"X-Request-Id": "abc-1"})
    lines = [r.message for r in caplog.records if r.message.startswith("request=id-1")]
    expected = "request=id-1 client=abc-1 status=200 result="
    assert lines[0].startswith(f"{expected}cat batch=4 image=1/2 ms: preprocess=")
    assert lines[1].startswith(f"{expected}undecodable batch=4 image=2/2 ms: preprocess=")
    written = "\n".join(r.message for r in caplog.records if "[METRICS]catdog_" in r.message)
    assert "pictures_total.Count:2|#label:cat,version:7.0|" in written
    assert "invalid_total.Count:1|#reason:undecodable,version:7.0|" in written
    assert "batch_pictures.Count:3|" in written  # requests


@pytest.mark.parametrize(
    "header", [{"explain": "False"}, {"explain": "True"}, {"url_path": ""}, {}]
)
def test_an_empty_form_is_no_describe(tmp_path: Path, header: dict[str, str]) -> None:
    """/v1, /v2 and /invocations add no url_path, and an empty form has no body."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    handler, context = prepared_handler(tmp_path, [{"describe": "True"} | form | header])
    answer = json.loads(handler.handle([{}], context)[0])
    assert (answer["code"], context.get_response_status(0)[0]) == (400, 400)
