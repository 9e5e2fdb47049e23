"""The real handler in TorchServe's own Context, with a stand-in for the forward pass."""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

from catdog.model_info import Agreement, GoldenImage
from catdog_handler import CatDogHandler
from catdog_telemetry import Telemetry
from tests.support.model_dirs import colour_classifier
from tests.support.paths import ROOT

VERSION = "7.0"


@dataclass(frozen=True)
class Request:
    """A row as TorchServe hands it over, and the request's headers."""

    row: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What TorchServe sends back; `result` is what the log calls it."""

    status: str
    headers: dict[str, str]
    body: bytes
    result: str


class Worker:
    """Answers requests; red images are cats, green ones dogs, blue ones neither.

    Attributes:
        log: Every line that it logged, the metrics' too.
    """

    def __init__(self, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        self.log: list[str] = []
        self._handler = CatDogHandler()
        self._handler.classifier, _ = colour_classifier(folder)
        self._handler.batch_size = 8
        metrics = MetricsCacheYamlImpl(str(ROOT / "config" / "metrics.yaml"))
        metrics.initialize_cache()
        self._handler.telemetry = Telemetry(metrics, VERSION)
        with _log_lines(self.log):
            self._handler.telemetry.started()

    def ask(self, *requests: Request) -> list[Answer]:
        """Answer some requests in one batch."""
        context = Context("catdog", None, {}, len(requests), None, "0.12.0")
        context.request_processor = [RequestProcessor(request.headers) for request in requests]
        context.request_ids = {number: f"id-{number}" for number in range(len(requests))}
        before = len(self.log)
        with _log_lines(self.log):
            bodies = self._handler.handle([request.row for request in requests], context)
        results = re.findall(r" result=(\w+)", "\n".join(self.log[before:])) or [""]
        return [
            _answer(context, number, body, result)
            for number, (body, result) in enumerate(zip(bodies, results, strict=True))
        ]

    def describe(self, precision: str = "fp32") -> Answer:
        """GET /models/catdog?customized=true, of an fp32 or int8 archive."""
        classifier = self._handler.classifier
        agreement = Agreement(100, 100, 0.99, 0.95, 0.01, 0.02)
        classifier.info = replace(
            classifier.info,
            catdog_version="1.2.3",
            precision=precision,
            golden=(GoldenImage("golden/cat.png", 0.9, 0.01, "cat"),) * 2,
            agreement=agreement if precision == "int8" else None,
        )
        (answer,) = self.ask(Request({}, {"describe": "True"}))
        return answer


def _answer(context: Context, number: int, body: bytes, result: str) -> Answer:
    code, phrase = context.get_response_status(number)
    headers = dict(context.get_response_headers(number))
    return Answer(f"{code} {phrase or 'OK'}", headers, body, result)


def bmp(colour: str, size: tuple[int, int] = (80, 60), mode: str = "RGB") -> bytes:
    """An image whose bytes no version of a compressor changes."""
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, format="BMP")
    return buffer.getvalue()


@contextmanager
def _log_lines(lines: list[str]) -> Iterator[None]:
    """Add what is logged meanwhile to `lines`, and keep it from pytest's own report."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    try:
        with patch.object(root, "handlers", [Collector()]):
            yield
    finally:
        root.setLevel(level)
