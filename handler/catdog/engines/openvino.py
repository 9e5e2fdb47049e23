"""OpenVINO on the CPU: the one engine that computes bf16 there, and the fastest with AMX.

It reads the same model.onnx as ONNX Runtime does. For bf16 the network is cut in two at its last
feature map: what is before it computes in bf16, and the head, which gives logits and maps, in
float32, as in every engine. OpenVINO would compute all of it in bf16, and which of its nodes may
be kept out of that it does not promise.
"""

import logging
import math
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from catdog.engines import ModelOutput
from catdog.no_telemetry import import_openvino
from catdog.transforms import full_image_sizes

log = logging.getLogger(__name__)

_HINTS = {"bf16": "bf16"}  # of other precisions f32, which is also what is not int8 in an int8 file
_NAMES = {"f32": "fp32"}  # OpenVINO's names that are not ours
_IDLE_S = 0.3  # without an image, before the next full image is prepared


class OpenVinoEngine:
    """A model.onnx; fp32, bf16 and int8."""

    name = "openvino"
    device = "cpu"

    def __init__(self, path: Path, threads: int, precision: str) -> None:
        """Compile the network.

        Args:
            path: The model.onnx.
            threads: Of one pass; 0 for as many as there are cores.
            precision: The one that is wished for; fp32 if this processor does not compute bf16.
        """
        core = openvino_core()
        if precision == "bf16" and "BF16" not in core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            log.warning("OpenVINO does not compute bf16 on this processor: fp32 is computed")
            precision = "fp32"
        model = core.read_model(path)
        # By itself it takes bf16 where it can, a stream for each core, and binds threads to the
        # first cores, where those of the next worker would be, too.
        options = {
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        parts = split_at_features(model) if precision == "bf16" else (model,)
        hints = (_HINTS.get(precision, "f32"), "f32")
        compiled = [
            core.compile_model(part, "CPU", options | {"INFERENCE_PRECISION_HINT": hint})
            for part, hint in zip(parts, hints, strict=False)
        ]
        computed = compiled[0].get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.precision = precision if precision == "int8" else _NAMES.get(computed, computed)
        self._requests = [part.create_infer_request() for part in compiled]
        self._lock = threading.Lock()  # a request's tensors are used by one thread at a time
        self._asked_at = -_IDLE_S

    def run(self, images: Sequence[np.ndarray]) -> ModelOutput:
        self._asked_at = math.inf
        try:
            return self._run(images)
        finally:
            self._asked_at = time.monotonic()

    def _run(self, images: Sequence[np.ndarray]) -> ModelOutput:
        pixels = np.stack(images)
        with self._lock:
            last = self._requests[0]
            last.infer([pixels], share_inputs=True)
            for head in self._requests[1:]:  # the features stay where they are
                head.set_input_tensor(0, last.get_output_tensor())
                head.set_input_tensor(1, last.get_input_tensor())
                head.infer()
                last = head
            # Copies, as the next pass writes into the same memory.
            return ModelOutput(*(last.get_output_tensor(i).data.copy() for i in range(2)))

    def prepare(self, batch_size: int, side: int) -> None:
        """Nothing: a first batch takes half as long again as the next, and no more."""

    def prepare_full_images(self) -> None:
        """Run one of each size while nothing else is asked; ends early with the process.

        For each new shape OpenVINO makes kernels, and for some of them a copy of the weights in
        another order: ResNet-152 takes 0.3 GB more after all 27 of them, and seconds.
        """
        for width, height in full_image_sizes():
            while time.monotonic() - self._asked_at < _IDLE_S:
                if not threading.main_thread().is_alive():
                    return
                time.sleep(_IDLE_S / 10)
            if threading.main_thread().is_alive():
                self._run([np.zeros((3, height, width), np.uint8)])


@cache
def openvino_core() -> Any:
    """The openvino.Core of this process, for as long as it lives.

    A Core gives its thread another stack for signal handlers, and frees it when it goes. When
    two go in the order in which they came, or one in another thread, the next signal is a
    segmentation fault.
    """
    return import_openvino().Core()


def split_at_features(model: Any) -> tuple[Any, Any]:
    """Cut a network in two at its last feature map.

    Args:
        model: An openvino.Model, which is used up.

    Returns:
        From pixels to features, and from features and pixels (of which only the shape is used)
        to logits and maps.
    """
    openvino = import_openvino()
    product = model.output("maps").get_node()
    while product.get_type_name() != "MatMul":  # the last one: weights @ flattened features
        product = product.input_value(0).get_node()
    features = product.input_value(1)
    while features.get_node().get_type_name() == "Reshape":
        features = features.get_node().input_value(0)
    given = openvino.opset13.parameter(features.get_partial_shape(), features.get_element_type())
    for use in features.get_target_inputs():
        use.replace_source_output(given.output(0))
    pixels = model.get_parameters()
    results = [model.output(name).get_node().input_value(0) for name in ("logits", "maps")]
    return (
        openvino.Model([features], pixels, "features"),
        openvino.Model(results, [given, *pixels], "head"),
    )
