"""A handler with a stand-in for the forward pass, in TorchServe's own Context."""

from pathlib import Path

from PIL import Image
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

from catdog_handler import CatDogHandler
from catdog_telemetry import Telemetry
from tests.support.images import encode
from tests.support.model_dirs import colour_classifier
from tests.support.paths import ROOT

RED, GREEN = (bytearray(encode(Image.new("RGB", (80, 60), c))) for c in ("red", "lime"))


def context_for(
    *headers: dict[str, str], model_dir: Path | None = None, gpu: int | None = None
) -> Context:
    manifest = {"model": {"modelVersion": "7.0"}}
    context = Context("catdog", str(model_dir), manifest, len(headers), gpu, "0.12.0")
    context.request_processor = [RequestProcessor(h) for h in headers]
    context.request_ids = {index: f"id-{index}" for index in range(len(headers))}
    metrics = MetricsCacheYamlImpl(str(ROOT / "config" / "metrics.yaml"))
    metrics.initialize_cache()
    context.metrics = metrics
    return context


def prepared_handler(
    tmp_path: Path, headers: list[dict[str, str]]
) -> tuple[CatDogHandler, Context]:
    handler = CatDogHandler()
    handler.classifier, _ = colour_classifier(tmp_path)
    handler.batch_size = 8
    context = context_for(*headers)
    handler.telemetry = Telemetry(context.metrics, "7.0")
    return handler, context
