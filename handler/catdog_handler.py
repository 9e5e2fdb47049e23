"""TorchServe's side of catdog: request rows in, one answer and one status per row out.

TorchServe makes one `CatDogHandler` in each worker, calls `initialize` once and
`handle` for each batch. All the work is done by `catdog.classifier.Classifier`;
what is TorchServe's own is here. `catdog_rows` reads a row, of one image or of up to
16 in a JSON document, and makes its answer; the images of all rows are computed in
passes of at most the batch size.

Nothing of a request is kept on `self`, and `handle` raises only for bugs: an
image that cannot be classified is answered with its own 4xx, while the rest
of its batch gets predictions. A batch for which a GPU has no memory left is
answered with 503, which clients try again.
"""

import json
import logging
import os
import threading
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from catdog.classifier import Answer, BatchOutput, Classifier
from catdog.cpu import ENGINE_VARIABLE, VISIBLE_GPUS_VARIABLE, WORKERS_VARIABLE
from catdog.engines import DeviceLostError, OutOfDeviceMemoryError
from catdog.invalid_image import InvalidImage
from catdog.results import MAP_HEADER
from catdog.transforms import ModelInput
from catdog_rows import OK, ImageAnswer, RowRequest, join_answers, read_request, to_answer
from catdog_telemetry import StageClock, Telemetry, client_request_id, request_header

log = logging.getLogger(__name__)

EXIT_DEVICE_LOST = 70


class CatDogHandler:
    """The entry point named in the archive's manifest."""

    classifier: Classifier
    telemetry: Telemetry
    batch_size: int

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
        self.batch_size = properties["batch_size"]
        self.classifier.warm_up(self.batch_size)
        # Not a daemon: a pass that is under way when Python ends would be torn.
        threading.Thread(target=self.classifier.prepare_full_images, name="full images").start()
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
            requests = [read_request(row, context, index) for index, row in enumerate(data)]
        results: list[list[Answer | None]] = [[] for _ in requests]
        answers: list[list[ImageAnswer]] = [[] for _ in requests]
        places = [index for index, request in enumerate(requests) for _ in request.images]
        images = list(chain.from_iterable(request.images for request in requests))
        for first in range(0, len(images), self.batch_size):
            part = slice(first, first + self.batch_size)
            in_pass = [requests[index] for index in places[part]]
            with clock.stage("preprocess"):
                tasks = [request.task for request in in_pass]
                counts = [len(request.images) for request in in_pass]
                inputs = self.classifier.preprocess(images[part], tasks, counts)
            with clock.stage("inference"):
                output = self._infer(inputs)
            with clock.stage("postprocess"):
                found = self._postprocess(inputs, output)
                for index, item, result in zip(places[part], inputs, found, strict=True):
                    with_map = request_header(context, index, MAP_HEADER) == "true"
                    results[index].append(result)
                    answers[index].append(to_answer(item, result, with_map))
        bodies = [
            self._send(index, request, answers[index], context)
            for index, request in enumerate(requests)
        ]
        self.telemetry.batch(context, results, clock)
        return bodies

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

    def _postprocess(
        self, inputs: Sequence[ModelInput | InvalidImage], output: BatchOutput | None
    ) -> Sequence[Answer | None]:
        """The answers of a pass; None for an image for which a GPU had no memory."""
        if output is None:
            return [one if isinstance(one, InvalidImage) else None for one in inputs]
        return self.classifier.postprocess(inputs, output)

    def _is_describe(self, data: Sequence[dict[str, Any]], context: Any) -> bool:
        """Whether this is TorchServe's own GET /models/catdog?customized=true.

        A client can send the header `describe: True` too, and land in a batch with
        others. TorchServe's own request comes alone, with a row that is empty, and with nothing
        of a prediction's: no `url_path` and no `explain`, which TorchServe adds, and no form,
        without which a prediction's row has a body.
        """
        if len(data) != 1 or data[0]:
            return False
        headers = context.get_all_request_header(0)
        is_prediction = "url_path" in headers or "explain" in headers
        has_form = "form" in (request_header(context, 0, "content-type") or "").lower()
        return headers.get("describe") == "True" and not is_prediction and not has_form

    def _send(
        self, index: int, request: RowRequest, answers: Sequence[ImageAnswer], context: Any
    ) -> bytes:
        """The body of a row's answer; its status and headers go to the context."""
        client_id = client_request_id(context, index)
        if client_id:
            context.set_response_header(index, "X-Client-Request-Id", client_id)
        if request.listed is None:
            ((status, content),) = answers
        else:
            status, content = join_answers(request.listed, answers, self.classifier.version)
        is_drawing = isinstance(content, bytes)
        context.set_response_content_type(index, "image/png" if is_drawing else "application/json")
        if status != OK:
            context.set_response_status(*status, index)
        return content if is_drawing else _to_json(content)


def _to_json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
