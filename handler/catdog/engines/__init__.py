"""Engines: each runs a packed network, uint8 pixels to logits and activation maps.

`onnxruntime` and `openvino` are for CPUs and import no torch; `torch` is for GPUs, and works on
CPUs. The archive says whether it is packed for a CPU; `placement` chooses among the engines.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from catdog.engines.placement import choose_placement
from catdog.model_info import AUTO_ENGINE, ModelInfo

log = logging.getLogger(__name__)

MODEL_FILES = {"onnx": "model.onnx", "torch": "model.pth"}


class ModelOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        logits: float32, shape (N, 1000).
        maps: What speaks for a cat and for a dog, float32, >= 0, not scaled, shape (N, 2, h, w);
            see `catdog.torch_module.LogitsAndMaps`.
    """

    logits: np.ndarray
    maps: np.ndarray


class OutOfDeviceMemoryError(RuntimeError):
    """A GPU's memory is too small for what it was to do; the message says what to change."""


class DeviceLostError(RuntimeError):
    """A GPU failed, and this process can use none any more; a new one may."""


class Engine(Protocol):
    """A loaded network.

    Attributes:
        name: Its module's.
        device: Where it really runs: "cpu" or "cuda:0".
        precision: What it really computes in, which may not be what the archive is packed for.
    """

    name: str
    device: str
    precision: str

    def run(self, images: Sequence[np.ndarray]) -> ModelOutput:
        """Run N >= 1 images, uint8, each of the same shape (3, H, W), in one forward pass.

        Raises:
            OutOfDeviceMemoryError: If a GPU has no room for one of them; the next pass may have.
            DeviceLostError: If it failed.
        """
        ...

    def prepare(self, batch_size: int, side: int) -> None:
        """Make ready for batches of up to so many crops of side x side pixels: none is slow later.

        Raises:
            OutOfDeviceMemoryError: If a GPU has no room for them.
        """
        ...

    def prepare_full_images(self) -> None:
        """Make ready for full images of every size; may take seconds, while others call `run`."""
        ...


def load_engine(
    model_dir: Path, info: ModelInfo, device: str, threads: int, engine: str = AUTO_ENGINE
) -> Engine:
    """Load the network of a model directory.

    Args:
        model_dir: The unpacked archive.
        info: Its model.json.
        device: The device wished for: "cpu" or "cuda:N".
        threads: CPU threads of one forward pass.
        engine: The one wished for, or "auto". What cannot be had of it, of the device and of the
            archive's precision falls back with a warning in the log.

    Raises:
        ValueError: If there is no such engine.
        OutOfDeviceMemoryError: If a GPU has no room for the network.
    """
    path = model_dir / MODEL_FILES[info.runtime]
    placement = choose_placement(device, info, engine)
    if placement.engine != "torch":
        return open_onnx(path, placement.engine, threads, placement.precision)
    from catdog.engines.torch import TorchEngine

    return TorchEngine(path, info, placement, threads)


def open_onnx(path: Path, engine: str, threads: int, precision: str) -> Engine:
    """Open a model.onnx with an engine that runs it.

    Each is imported where it is taken: a worker of one does without the others' libraries.

    Args:
        path: The model.onnx.
        engine: "onnxruntime" or "openvino"; the former where the latter cannot be loaded.
        threads: CPU threads of one forward pass; 0 for as many as there are cores.
        precision: What to compute in; ONNX Runtime knows fp32 and int8.
    """
    if engine == "openvino":
        from catdog.engines.openvino import OpenVinoEngine

        try:
            return OpenVinoEngine(path, threads, precision)
        except ImportError as error:  # it is there, and does not fit this machine
            log.warning("OpenVINO cannot be loaded, ONNX Runtime is taken: %s", error)
    from catdog.engines.onnxruntime import OnnxEngine

    return OnnxEngine(path, threads, "fp32" if precision == "bf16" else precision)
