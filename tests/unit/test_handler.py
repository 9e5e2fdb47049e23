"""The handler against TorchServe's own Context, with a stand-in for the forward pass."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ts.context import Context
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

from catdog_handler import CatDogHandler
from catdog_telemetry import Telemetry, worker_id
from tests.support.handlers import GREEN, RED, context_for, prepared_handler
from tests.support.images import encode
from tests.support.model_dirs import colour_classifier


def handle(
    tmp_path: Path, rows: list[dict[str, Any]], headers: list[dict[str, str]] | None = None
) -> tuple[list[dict[str, Any]], Context]:
    handler, context = prepared_handler(tmp_path, headers or [{} for _ in rows])
    return [json.loads(body) for body in handler.handle(rows, context)], context


def test_each_row_gets_its_own_answer_and_status(tmp_path: Path) -> None:
    rows = [{"body": RED}, {"body": bytearray(b"junk")}, {"body": GREEN}, {"body": bytearray()}]
    answers, context = handle(tmp_path, rows)
    assert [a.get("label", a.get("type")) for a in answers] == [
        *("cat", "InvalidImage", "dog", "InvalidImage")
    ]
    statuses = [context.get_response_status(i) for i in range(4)]
    assert statuses == [(200, None), (400, "Bad Request"), (200, None), (400, "Bad Request")]
    assert {context.get_response_content_type(i) for i in range(4)} == {"application/json"}


def test_the_error_keeps_torchserves_shape(tmp_path: Path) -> None:
    (answer,), _ = handle(tmp_path, [{"body": bytearray(b"hello, world")}])
    assert answer == {
        "code": 400,
        "type": "InvalidImage",
        "message": "cannot decode 12 bytes as an image; send JPEG, PNG or WebP",
    }


@pytest.mark.parametrize("field", ["data", "file", "image"])
def test_a_multipart_field_works_like_the_body(tmp_path: Path, field: str) -> None:
    (answer,), _ = handle(tmp_path, [{field: RED}])
    assert answer["label"] == "cat"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"body": {"image": "base64"}}, "got JSON"),
        ({"body": ["a"]}, "got JSON"),
        ({"body": "some text"}, "got text"),
        ({"photo": RED}, "found no image"),
        ({}, "found no image"),
        ({"data": RED, "image": GREEN}, "found 2 images"),
    ],
)
def test_a_wrong_form_says_what_to_send(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    (answer,), context = handle(tmp_path, [row])
    assert context.get_response_status(0)[0] == 400
    assert problem in answer["message"]
    assert "multipart field data, file or image" in answer["message"]


@pytest.mark.parametrize("size", [(1, 60_000), (8000, 7000)])
def test_images_beyond_the_limits_are_413(tmp_path: Path, size: tuple[int, int]) -> None:
    _, context = handle(tmp_path, [{"body": bytearray(encode(Image.new("1", size)))}])
    assert context.get_response_status(0) == (413, "Content Too Large")


def test_describe_gives_the_archives_facts(tmp_path: Path) -> None:
    (answer,), _ = handle(tmp_path, [{}], [{"describe": "True"}])
    assert answer["network"] == "resnet152"
    assert answer["device"] == "cpu"
    assert len(answer["categories"]) == 1000


@pytest.mark.parametrize(
    "header",
    [{"describe": "True"}, {"Explain": "True", "explain": "False"}, {"explain": "1"}],
)
def test_a_clients_stray_header_changes_no_answer(tmp_path: Path, header: dict[str, str]) -> None:
    rows = [{"body": RED}, {"body": GREEN}]
    answers, _ = handle(tmp_path, rows, [header, {}])
    assert [a["label"] for a in answers] == ["cat", "dog"]


# --- explanations ---------------------------------------------------------------------------

EXPLAIN = {"explain": "True"}  # as TorchServe itself writes it for /explanations


def test_explanations_and_predictions_share_a_batch(tmp_path: Path) -> None:
    rows = [{"body": RED}, {"body": RED}, {"body": bytearray(b"junk")}, {"body": GREEN}]
    answers, context = handle(tmp_path, rows, [{}, EXPLAIN, EXPLAIN, EXPLAIN])
    prediction, explanation, refused, dog = answers
    assert explanation["prediction"] == prediction
    assert explanation["box"] == [0, 0, 80, 60]
    assert explanation["map"]["size"] == [80, 60]
    assert explanation["map"]["view"] == [0, 0, 80, 60]
    assert (refused["code"], context.get_response_status(2)[0]) == (400, 400)
    assert dog["prediction"]["label"] == "dog"


def test_a_prediction_brings_its_map_when_asked(tmp_path: Path) -> None:
    rows = [{"body": RED}, {"body": RED}, {"body": RED}]
    plain, with_map, other_value = handle(
        tmp_path, rows, [{}, {"CATDOG-MAP": "true"}, {"Catdog-Map": "1"}]
    )[0]
    heat_map = with_map.pop("map")
    assert with_map == plain == other_value
    assert heat_map["size"] == [80, 60]
    assert heat_map["view"] == [13.61, 3.75, 66.16, 56.25]  # (58 to 282) / 341, (16 to 240) / 256
    assert heat_map["grid"] == [[1.0] * 7] * 7


@pytest.mark.parametrize(
    ("accept", "drawn"),
    [
        ("image/png", True),
        ("text/html, image/png;q=0.9, */*", True),
        ("*/*", False),
        ("image/*", False),
        ("application/json, image/png", False),
        ("", False),
    ],
)
def test_an_explanation_is_drawn_only_where_png_is_asked_for(
    tmp_path: Path, accept: str, drawn: bool
) -> None:
    handler, context = prepared_handler(tmp_path, [EXPLAIN | {"Accept": accept}])
    (body,) = handler.handle([{"body": RED}], context)
    content_type = context.get_response_content_type(0)
    assert content_type == ("image/png" if drawn else "application/json")
    if drawn:
        with Image.open(io.BytesIO(body)) as image:
            assert (image.format, image.size) == ("PNG", (80, 60))
    else:
        assert "map" in json.loads(body)


def test_a_prediction_is_never_drawn(tmp_path: Path) -> None:
    (answer,), _ = handle(tmp_path, [{"body": RED}], [{"Accept": "image/png"}])
    assert answer["label"] == "cat"


def test_a_refused_explanation_is_json_even_where_png_is_asked_for(tmp_path: Path) -> None:
    rows = [{"body": bytearray(b"junk")}]
    (answer,), context = handle(tmp_path, rows, [EXPLAIN | {"Accept": "image/png"}])
    assert answer["type"] == "InvalidImage"
    assert context.get_response_content_type(0) == "application/json"


def test_the_largest_drawing_fits_torchserves_answer(tmp_path: Path) -> None:
    """Noise is what PNG packs worst."""
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), dtype=np.uint8)
    handler, context = prepared_handler(tmp_path, [EXPLAIN | {"Accept": "image/png"}])
    (body,) = handler.handle([{"body": bytearray(encode(Image.fromarray(noise)))}], context)
    assert len(body) < 6_553_500


# --- what an operator sees ------------------------------------------------------------------


def test_one_log_line_per_request_with_its_own_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="catdog_telemetry"):
        handle(
            tmp_path,
            [{"body": RED}, {"body": bytearray(b"junk")}],
            [{"X-Request-Id": "abc-1"}, {}],
        )
    first, second = [r.message for r in caplog.records if r.name == "catdog_telemetry"]
    assert first.startswith("request=id-0 client=abc-1 status=200 result=cat batch=2 ms: ")
    assert second.startswith("request=id-1 client=- status=400 result=undecodable batch=2 ms: ")
    for stage in ("preprocess=", "inference=", "postprocess="):
        assert stage in first


@pytest.mark.parametrize(
    ("header", "echoed"),
    [
        ({"X-Request-Id": "abc-1"}, "abc-1"),
        ({"x-request-id": "0" * 100}, "0" * 100),
        ({"X-REQUEST-ID": "a/b:c=d+e@f_g.h"}, "a/b:c=d+e@f_g.h"),
        ({"X-Request-Id": "two words"}, None),
        ({"X-Request-Id": "line\r\nSet-Cookie: x"}, None),
        ({"X-Request-Id": "ümlaut"}, None),
        ({"X-Request-Id": ""}, None),
        ({"X-Request-Id": "0" * 101}, None),
        ({"X-Other": "abc"}, None),
    ],
)
def test_a_valid_client_id_is_echoed_under_its_own_name(
    tmp_path: Path, header: dict[str, str], echoed: str | None
) -> None:
    _, context = handle(tmp_path, [{"body": RED}], [header])
    assert context.get_response_headers(0).get("X-Client-Request-Id") == echoed


def test_the_declared_metrics_are_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        handle(tmp_path, [{"body": RED}, {"body": RED}, {"body": bytearray()}])
    prefix = "[METRICS]catdog_"
    written = [r.message.removeprefix(prefix) for r in caplog.records if prefix in r.message]
    assert any(m.startswith("pictures_total.Count:2|#label:cat,version:7.0|") for m in written)
    assert any(m.startswith("invalid_total.Count:1|#reason:empty,version:7.0|") for m in written)
    assert any(m.startswith("batch_pictures.Count:3|") for m in written)
    assert sum(m.startswith("stage_seconds.Seconds:") for m in written) == 3
    (memory,) = (m for m in written if m.startswith("worker_memory_bytes.Bytes:"))
    assert int(memory.split(":")[1].split("|")[0]) > 1e6


def test_a_start_is_counted_before_anything_can_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(FileNotFoundError):
        CatDogHandler().initialize(context_for(model_dir=tmp_path / "nothing here"))
    assert "[METRICS]catdog_worker_starts_total.Count:1|#worker:unknown|" in caplog.text
    assert "[METRICS]catdog_invalid_total.Count:0|#reason:undecodable,version:7.0|" in caplog.text


def test_a_worker_is_named_as_torchserve_names_it() -> None:
    socket = "/run/user/1000/catdog-0123456789/tmp/.ts.sock.9003"
    assert worker_id(["worker.py", "--sock-type", "unix", "--sock-name", socket]) == "9003"
    assert worker_id(["pytest"]) == "unknown"


def test_an_undeclared_metrics_warns_once_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.yaml"
    path.write_text("dimensions: []\nts_metrics: {}\nmodel_metrics: {counter: []}\n")
    metrics = MetricsCacheYamlImpl(str(path))
    metrics.initialize_cache()
    telemetry = Telemetry(metrics, "1.0")
    assert caplog.text.count("is not declared in metrics_config") == 6
    handler = CatDogHandler()
    handler.classifier, _ = colour_classifier(tmp_path)
    handler.batch_size = 8
    handler.telemetry = telemetry
    assert b'"label":"cat"' in handler.handle([{"body": RED}], context_for({}))[0]
