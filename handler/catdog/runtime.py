"""Run a packed network: uint8 pixels to logits and activation maps.

Two runtimes, one interface. `onnx` is for CPUs and imports no torch; `torch`
is for GPUs (and works on CPUs). The archive says which one it holds.
"""

import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from catdog.model_info import ModelInfo
from catdog.networks import get_network
from catdog.no_telemetry import import_onnxruntime

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


class Runtime(Protocol):
    """A loaded network.

    Attributes:
        device: Where it really runs: "cpu" or "cuda:0".
        precision: What it really computes in, which may not be what the archive is packed for.
    """

    device: str
    precision: str

    def run(self, pixels: np.ndarray) -> ModelOutput:
        """Run pixels, uint8, shape (N, 3, H, W), N >= 1, in one forward pass."""
        ...

    def batch_sizes(self, largest: int) -> Sequence[int]:
        """The sizes to run once before the first request, up to the largest that will come."""
        ...


def load_runtime(
    model_dir: Path, info: ModelInfo, device: str, threads: int, compiled: bool = False
) -> Runtime:
    """Load the network of a model directory.

    Args:
        model_dir: The unpacked archive.
        info: Its model.json.
        device: The device wished for: "cpu" or "cuda:N". What cannot be had
            falls back to the CPU with a warning in the log.
        threads: CPU threads of one forward pass.
        compiled: torch runtime: compile the network first.
    """
    path = model_dir / MODEL_FILES[info.runtime]
    placement = choose_placement(device, info.runtime, info.precision)
    if info.runtime == "onnx":
        return OnnxRuntime(path, threads, placement.precision)
    return TorchRuntime(path, info, placement, threads, compiled)


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
    # By name, so that linters and readers see that torch is loaded only on this path.
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        return wanted
    log.warning("this worker was given %s, but torch sees no CUDA device; using the CPU", wanted)
    return "cpu"


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

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

    def run(self, pixels: np.ndarray) -> ModelOutput:
        logits, maps = self._session.run(["logits", "maps"], {"pixels": pixels})
        return ModelOutput(np.asarray(logits), np.asarray(maps))

    def batch_sizes(self, largest: int) -> Sequence[int]:
        return sorted({1, largest})


class TorchRuntime:
    """torch: batch norm folded, channels_last, half precision on CUDA if the archive says so.

    Pixels travel to a GPU as pinned uint8, a quarter of their float size, and are
    normalised there. A compiled network is compiled for batches of 1, 2, 4, 8 ... crops;
    others are filled up to the next of these, and images of another shape are not compiled.
    """

    def __init__(
        self, path: Path, info: ModelInfo, placement: Placement, threads: int, compiled: bool
    ) -> None:
        import torch

        from catdog.torch_module import LogitsAndMaps, PixelsToLogits, fold_batch_norm

        torch.set_num_threads(threads)
        network = get_network(info.network)
        module = network.build()
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state, strict=True)
        folded = fold_batch_norm(PixelsToLogits(network, module, info.preprocessing).eval())
        self.device = placement.device
        self.precision = placement.precision
        self._on_gpu = placement.device != "cpu"
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(placement.precision)
        whole = LogitsAndMaps(folded, network.last_layer_of(module), half)
        self._module = whole.to(placement.device).to(memory_format=torch.channels_last)
        self._compiled = torch.compile(self._module, dynamic=False) if compiled else None
        self._compiled_side = info.preprocessing.crop_size

    def run(self, pixels: np.ndarray) -> ModelOutput:
        import torch

        count, _, height, width = pixels.shape
        module: Callable[..., Any] = self._module
        if self._compiled is not None and height == width == self._compiled_side:
            module = self._compiled
            pixels = _fill_up(pixels, _next_power_of_two(count))
        batch = torch.from_numpy(pixels)
        if self._on_gpu:
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            logits, maps = module(batch)
        return ModelOutput(logits[:count].cpu().numpy(), maps[:count].cpu().numpy())

    def batch_sizes(self, largest: int) -> Sequence[int]:
        if self._compiled is None:
            return sorted({1, largest})
        return [2**power for power in range(_next_power_of_two(largest).bit_length())]


def _next_power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _fill_up(pixels: np.ndarray, size: int) -> np.ndarray:
    """Add black images, so that there are `size`."""
    missing = size - len(pixels)
    return np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else pixels
