"""TorchServe's side of catdog: request rows in, one answer and one status per row out.

TorchServe makes one `CatDogHandler` in each worker, calls `initialize` once and
`handle` for each batch. All the work is done by `catdog.classifier.Classifier`;
what is TorchServe's own is here: how an image arrives, and how an answer leaves.

Nothing of a request is kept on `self`, and `handle` raises only for bugs: an
image that cannot be classified is answered with its own 4xx, while the rest
of its batch gets predictions. A batch for which a GPU has no memory left is
answered with 503, which clients try again.
"""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catdog.classifier import Answer, BatchOutput, Classifier
from catdog.cpu import ENGINE_VARIABLE, VISIBLE_GPUS_VARIABLE, WORKERS_VARIABLE
from catdog.engines import DeviceLostError, OutOfDeviceMemoryError
from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.overlay import draw_overlay
from catdog.results import ANIMALS_HEADER, MAP_HEADER, Explanation
from catdog.structure import detect_format
from catdog.transforms import ModelInput, Task, encode_png
from catdog_telemetry import StageClock, Telemetry, client_request_id, request_header

log = logging.getLogger(__name__)

IMAGE_FIELDS = ("data", "file", "image")  # of a multipart form; a plain body is "body"

EXIT_DEVICE_LOST = 70

# Constant ASCII phrases: another one hangs TorchServe's connection till the time-out.
STATUSES = {
    InvalidReason.EMPTY: (400, "Bad Request"),
    InvalidReason.WRONG_FORM: (400, "Bad Request"),
    InvalidReason.UNDECODABLE: (400, "Bad Request"),
    InvalidReason.CUT_OFF: (400, "Bad Request"),
    InvalidReason.UNSUPPORTED_FORMAT: (415, "Unsupported Media Type"),
    InvalidReason.TOO_MANY_PIXELS: (413, "Content Too Large"),
    InvalidReason.EXTREME_SHAPE: (413, "Content Too Large"),
    InvalidReason.TOO_COMPLEX: (413, "Content Too Large"),
}


class CatDogHandler:
    """The entry point named in the archive's manifest."""

    classifier: Classifier
    telemetry: Telemetry

    def initialize(self, context: Any) -> None:
        """Load the archive that TorchServe unpacked, on the worker's own GPU, and warm it up."""
        self.telemetry = Telemetry(context.metrics, context.manifest["model"]["modelVersion"])
        self.telemetry.started()
        properties = context.system_properties
        gpu_id = properties.get("gpu_id")
        if VISIBLE_GPUS_VARIABLE in os.environ:  # CUDA reads it when it is first asked
            os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[VISIBLE_GPUS_VARIABLE]
        self.classifier = Classifier.load(
            Path(properties["model_dir"]),
            device="cpu" if gpu_id is None else f"cuda:{gpu_id}",
            workers=int(os.environ.get(WORKERS_VARIABLE, "1")),
            engine=os.environ.get(ENGINE_VARIABLE) or None,
        )
        self.classifier.warm_up(batch_size=properties["batch_size"])
        log.info(
            "loaded %s, %s %s on %s",
            self.classifier.model.name,
            self.classifier.engine,
            self.classifier.model.precision,
            self.classifier.device,
        )

    def handle(self, data: Sequence[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch of N rows with N bodies, in order: JSON, or PNG where it was asked for."""
        if self._is_describe(data, context):
            facts = {
                "device": self.classifier.device,
                "engine": self.classifier.engine,
                "computed_precision": self.classifier.model.precision,
                "threads": self.classifier.threads,
                "worker": self.telemetry.worker,
            }
            return [_to_json(self.classifier.info.to_dict() | facts)]
        clock = StageClock()
        with clock.stage("preprocess"):
            inputs = self._preprocess(data, context)
        with clock.stage("inference"):
            output = self._infer(inputs)
        with clock.stage("postprocess"):
            results: Sequence[Answer | None]
            if output is None:
                results = [one if isinstance(one, InvalidImage) else None for one in inputs]
            else:
                results = self.classifier.postprocess(inputs, output)
            answers = [
                self._answer(index, item, result, context)
                for index, (item, result) in enumerate(zip(inputs, results, strict=True))
            ]
        self.telemetry.batch(context, results, clock)
        return answers

    def _preprocess(
        self, data: Sequence[dict[str, Any]], context: Any
    ) -> list[ModelInput | InvalidImage]:
        """Rows to pixels; a row without a usable image becomes its `InvalidImage`."""
        images = [
            find_image(row, request_header(context, index, "content-type"))
            for index, row in enumerate(data)
        ]
        tasks = [find_task(context, index) for index in range(len(data))]
        return self.classifier.preprocess(images, tasks)

    def _infer(self, inputs: Sequence[ModelInput | InvalidImage]) -> BatchOutput | None:
        """Run the passes; None if a GPU has no memory for them.

        A worker that lost its GPU ends, and TorchServe starts another: an exception would be
        answered with an error, and so would every batch that follows.
        """
        try:
            return self.classifier.infer(inputs)
        except OutOfDeviceMemoryError as error:
            log.error("a batch of %d is answered with 503: %s", len(inputs), error)
            return None
        except DeviceLostError as error:
            log.critical("%s; this worker ends", error)
            logging.shutdown()
            os._exit(EXIT_DEVICE_LOST)

    def _is_describe(self, data: Sequence[dict[str, Any]], context: Any) -> bool:
        """Whether this is TorchServe's own GET /models/catdog?customized=true.

        A client can send the header `describe: True` too, and land in a batch with
        others. TorchServe's own request comes alone, with a row that is empty and
        without the `url_path` that it adds to every prediction.
        """
        if len(data) != 1 or data[0]:
            return False
        headers = context.get_all_request_header(0)
        return headers.get("describe") == "True" and "url_path" not in headers

    def _answer(
        self,
        index: int,
        model_input: ModelInput | InvalidImage,
        result: Answer | None,
        context: Any,
    ) -> bytes:
        client_id = client_request_id(context, index)
        if client_id:
            context.set_response_header(index, "X-Client-Request-Id", client_id)
        canvas = model_input.canvas if isinstance(model_input, ModelInput) else None
        if canvas is not None and isinstance(result, Explanation):
            context.set_response_content_type(index, "image/png")
            return encode_png(draw_overlay(canvas, result.map, result.box))
        context.set_response_content_type(index, "application/json")
        if result is None:
            context.set_response_status(503, "Service Unavailable", index)
            message = "the GPU has no memory left for this batch; try again"
            return _to_json({"code": 503, "type": "OutOfDeviceMemory", "message": message})
        if isinstance(result, InvalidImage):
            code, phrase = STATUSES[result.reason]
            context.set_response_status(code, phrase, index)
            return _to_json({"code": code, "type": "InvalidImage", "message": result.message})
        if isinstance(result, Explanation):
            return _to_json(result.to_dict())
        with_map = request_header(context, index, MAP_HEADER) == "true"
        return _to_json(result.to_dict(with_map))


def find_task(context: Any, index: int) -> Task:
    """What a row asks for: TorchServe itself says which of its paths the request came by.

    It does so in the header `explain`, spelled like that: a client's own `Explain` is no answer.
    """
    if context.get_all_request_header(index).get("explain") != "True":
        return Task.PREDICTION
    accepted = (request_header(context, index, "accept") or "").split(",")
    types = [entry.partition(";")[0].strip().lower() for entry in accepted]
    drawing = "image/png" in types and "application/json" not in types
    if drawing:
        return Task.DRAWING
    with_animals = request_header(context, index, ANIMALS_HEADER) == "true"
    return Task.ANIMALS if with_animals else Task.EXPLANATION


def find_image(
    row: dict[str, Any], content_type: str | None = None
) -> bytes | bytearray | InvalidImage:
    """The image's bytes in a request row: the body, or one field of a multipart form.

    Bodies come as bytes, whatever their type is: config.properties has
    `decode_input_request=false`, or TorchServe would parse a stranger's JSON first. Where it
    does (under its own launcher, with another configuration), such a row is refused too.
    """
    present = [name for name in ("body", *IMAGE_FIELDS) if name in row]
    value = row[present[0]] if len(present) == 1 else None
    if isinstance(value, bytes | bytearray):
        text = _text_type(content_type) if "body" in row and value else None
        if text is None or detect_format(value) is not None:
            return value
        problem = f"got {text} and not an image"
    elif len(present) > 1:
        problem = f"found {len(present)} images in one request: {', '.join(present)}"
    elif present:
        problem = f"got {'text' if isinstance(value, str) else 'JSON'} and not an image"
    else:
        problem = "found no image in the form"
    return InvalidImage(
        InvalidReason.WRONG_FORM,
        f"{problem}; send the image's bytes as the body with Content-Type image/jpeg, "
        f"or as the multipart field {', '.join(IMAGE_FIELDS[:-1])} or {IMAGE_FIELDS[-1]}",
    )


def _text_type(content_type: str | None) -> str | None:
    """What a content type that is no image's says the body is."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        return "JSON"
    return "text" if media_type.startswith("text/") else None


def _to_json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
