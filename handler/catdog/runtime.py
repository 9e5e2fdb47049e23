"""Run a packed network: uint8 pixels to logits and the last feature map.

Two runtimes, one interface. `onnx` is for CPUs and imports no torch; `torch`
is for GPUs (and works on CPUs). The archive says which one it holds.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from catdog.model_info import ModelInfo
from catdog.networks import get_network

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

MODEL_FILES = {"onnx": "model.onnx", "torch": "model.pth"}


class ModelOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        logits: float32, shape (N, 1000).
        features: The last feature map, float32, shape (N, C, h, w).
    """

    logits: np.ndarray
    features: np.ndarray


class Runtime(Protocol):
    """A loaded network. `device` is where it really runs: "cpu" or "cuda:0"."""

    device: str

    def run(self, pixels: np.ndarray) -> ModelOutput:
        """Run pixels, uint8, shape (N, 3, H, W), N >= 1, in one forward pass."""
        ...


def load_runtime(model_dir: Path, info: ModelInfo, device: str, threads: int) -> Runtime:
    """Load the network of a model directory.

    Args:
        model_dir: The unpacked archive.
        info: Its model.json.
        device: The device wished for: "cpu" or "cuda:N". What cannot be had
            falls back to the CPU with a warning in the log.
        threads: CPU threads of one forward pass; 0 takes every core.
    """
    device = choose_device(device, info.runtime)
    path = model_dir / MODEL_FILES[info.runtime]
    if info.runtime == "onnx":
        return OnnxRuntime(path, threads)
    return TorchRuntime(path, info, device, threads)


def choose_device(wanted: str, runtime: str) -> str:
    """Settle on a device that is there: the wanted one, or "cpu" with a logged warning."""
    if wanted == "cpu":
        return "cpu"
    if runtime == "onnx":
        log.warning(
            "this worker was given %s, but the archive holds the onnx runtime, which runs on the "
            "CPU; package with --runtime torch to use the GPU",
            wanted,
        )
        return "cpu"
    # By name, so that linters and readers see that torch is loaded only on this path.
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        return wanted
    log.warning("this worker was given %s, but torch sees no CUDA device; using the CPU", wanted)
    return "cpu"


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    device = "cpu"

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; its warnings are notes to its own developers
        # Threads that wait for work would spin, on the cores that decode the next pictures and
        # run the server: without it 2 cores served up to 1.6 times as much (docs/performance.md).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def run(self, pixels: np.ndarray) -> ModelOutput:
        logits, features = self._session.run(["logits", "features"], {"pixels": pixels})
        return ModelOutput(np.asarray(logits), np.asarray(features))


class TorchRuntime:
    """torch: batch norm folded, channels_last; half precision on CUDA if the archive says so."""

    def __init__(self, path: Path, info: ModelInfo, device: str, threads: int) -> None:
        import torch

        from catdog.torch_module import PixelsToLogits, fold_batch_norm

        if threads:
            torch.set_num_threads(threads)
        network = get_network(info.network)
        module = network.build()
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state, strict=True)
        folded = fold_batch_norm(PixelsToLogits(network, module, info.preprocessing).eval())
        self.device = device
        self._autocast = _autocast_dtype(info.precision, device)
        self._module = folded.to(device).to(memory_format=torch.channels_last)

    def run(self, pixels: np.ndarray) -> ModelOutput:
        import torch

        batch = torch.from_numpy(pixels)
        if self.device != "cpu":
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with (
            torch.inference_mode(),
            torch.autocast(
                self.device.partition(":")[0], self._autocast, enabled=self._autocast is not None
            ),
        ):
            logits, features = self._module(batch)
        return ModelOutput(logits.float().cpu().numpy(), features.float().cpu().numpy())


def _autocast_dtype(precision: str, device: str) -> torch.dtype | None:
    """The half precision to compute in; None for float32, which a CPU always uses."""
    import torch

    if device == "cpu" or precision == "fp32":
        return None
    return {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
