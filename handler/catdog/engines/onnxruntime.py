"""ONNX Runtime on the CPU."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from catdog.engines import ModelOutput
from catdog.no_telemetry import import_onnxruntime


class OnnxEngine:
    """A model.onnx; fp32 and int8."""

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, path: Path, threads: int, precision: str) -> None:
        self.precision = precision
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; its warnings are notes to its own developers
        # Threads that wait for work would spin, on the cores that decode the next images and
        # run the server: without it 2 cores served up to 1.6 times as much (docs/int8.md).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def run(self, images: Sequence[np.ndarray]) -> ModelOutput:
        logits, maps = self._session.run(["logits", "maps"], {"pixels": np.stack(images)})
        return ModelOutput(np.asarray(logits), np.asarray(maps))

    def prepare(self, batch_size: int, side: int) -> None:
        """Nothing: the first pass of a shape takes as long as the next."""

    def prepare_full_images(self) -> None:
        """Nothing either."""
