"""Engines: each runs a packed network, uint8 pixels to logits and activation maps.

`onnxruntime` is for CPUs and imports no torch; `torch` is for GPUs, and works on CPUs. The
archive says which one it is packed for.
"""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from catdog.model_info import ModelInfo

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
        device: Where it really runs: "cpu" or "cuda:0".
        precision: What it really computes in, which may not be what the archive is packed for.
    """

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


def run_first_passes(engine: Engine, batch_size: int, side: int) -> None:
    """Run one black crop of side x side pixels, and a batch: libraries set themselves up then."""
    for size in {1, batch_size}:
        engine.run([np.zeros((3, side, side), np.uint8)] * size)


def load_engine(model_dir: Path, info: ModelInfo, device: str, threads: int) -> Engine:
    """Load the network of a model directory.

    Args:
        model_dir: The unpacked archive.
        info: Its model.json.
        device: The device wished for: "cpu" or "cuda:N". What cannot be had
            falls back to the CPU with a warning in the log.
        threads: CPU threads of one forward pass.

    Raises:
        OutOfDeviceMemoryError: If a GPU has no room for the network.
    """
    path = model_dir / MODEL_FILES[info.runtime]
    placement = choose_placement(device, info.runtime, info.precision)
    # Imported where they are taken: a worker of one engine does without the others' libraries.
    if info.runtime == "onnx":
        from catdog.engines.onnxruntime import OnnxEngine

        return OnnxEngine(path, threads, placement.precision)
    from catdog.engines.torch import TorchEngine

    return TorchEngine(path, info, placement, threads)


class Placement(NamedTuple):
    """Where a network runs, and in what: the one decision about both.

    Attributes:
        device: "cpu" or "cuda:N".
        precision: What it computes in there; a CPU has no use for half precision.
    """

    device: str
    precision: str


def choose_placement(wanted: str, runtime: str, precision: str) -> Placement:
    """Settle on a device that is there, the wanted one or the CPU; what is not had is logged."""
    device = _choose_device(wanted, runtime)
    computed = computed_precision(precision, device)
    if computed != precision:
        log.warning(
            "the archive is packed for %s, which needs a GPU: this worker computes in %s, and its "
            "answers say so",
            precision,
            computed,
        )
    return Placement(device, computed)


def best_device(runtime: str) -> str:
    """Where an archive computes in a process of its own: on a GPU if it is packed for one."""
    if runtime == "onnx" or not _sees_cuda():
        return "cpu"
    return "cuda:0"


def computed_precision(precision: str, device: str) -> str:
    """What a device computes in for an archive of some precision."""
    return "fp32" if precision in ("bf16", "fp16") and device == "cpu" else precision


def _choose_device(wanted: str, runtime: str) -> str:
    if wanted == "cpu":
        return "cpu"
    if runtime == "onnx":
        log.warning(
            "this worker was given %s, but the archive holds the onnx runtime, which runs on the "
            "CPU; package with --runtime torch to use the GPU",
            wanted,
        )
        return "cpu"
    if _sees_cuda():
        return wanted
    log.warning("this worker was given %s, but torch sees no CUDA device; using the CPU", wanted)
    return "cpu"


def _sees_cuda() -> bool:
    # By name, so that linters and readers see that torch is loaded only on this path.
    found: bool = importlib.import_module("torch").cuda.is_available()
    return found
