"""torch: archives that are packed for GPUs, on a GPU or, where there is none, on the CPU.

On a GPU a pass is one captured CUDA graph: its hundreds of kernels start with one call, where
Python would take longer to start them than the GPU to run them. Pixels travel as uint8, a quarter
of their float size, and are normalised there; only logits and maps come back.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from catdog.engines import (
    DeviceLostError,
    ModelOutput,
    OutOfDeviceMemoryError,
)
from catdog.engines.fusion import FusedConvolution, fuse
from catdog.engines.placement import Placement
from catdog.model_info import ModelInfo
from catdog.networks import get_network
from catdog.torch_module import LogitsAndMaps, PixelsToLogits

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class _CapturedPass(NamedTuple):
    """A pass over a fixed number of crops, and the device memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    pixels: torch.Tensor  # uint8, (N, 3, S, S)
    logits: torch.Tensor
    maps: torch.Tensor


class TorchEngine:
    """A model.pth: convolutions fused, channels_last, weights held in the precision of the pass.

    On a GPU batches of 1, 2, 4, 8 ... crops are captured by `prepare`, and others are run as the
    next of these; images of other shapes, which explanations have, run without a graph.
    """

    name = "torch"

    def __init__(self, path: Path, info: ModelInfo, placement: Placement, threads: int) -> None:
        """Load the weights.

        Raises:
            OutOfDeviceMemoryError: If a GPU has no room for them.
        """
        self.device, self.precision = placement.device, placement.precision
        self._on_gpu = placement.device != "cpu"
        self._captured: dict[int, _CapturedPass] = {}
        self._lock = Lock()  # a pass's device memory is used by one thread at a time
        torch.set_num_threads(1 if self._on_gpu else threads)
        if self._on_gpu:  # float32 is float32, and not the matrix units' 10 bits of mantissa
            torch.backends.cuda.matmul.fp32_precision = "ieee"
            torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        module = load_module(path, info, PRECISIONS[placement.precision])
        with _errors_of(self.device, "the network"):
            self._module = module.to(placement.device)
            self._stream = _stream_on(placement.device)

    def prepare(self, batch_size: int, side: int) -> None:
        if not self._on_gpu:
            self.run([np.zeros((3, side, side), np.uint8)] * batch_size)
            return
        with (
            _errors_of(self.device, f"batches of {batch_size}"),
            torch.inference_mode(),
            torch.cuda.stream(self._stream),
        ):
            self._capture_all(batch_size, side)

    def prepare_full_images(self) -> None:
        """Nothing: they are run one at a time, without a graph."""

    def run(self, images: Sequence[np.ndarray]) -> ModelOutput:
        try:
            with _errors_of(self.device, "one more image"):
                return self._run(images)
        except OutOfDeviceMemoryError as error:
            # A new one: the frames of the first hold what the pass had allocated.
            no_room = OutOfDeviceMemoryError(str(error))
        torch.cuda.empty_cache()
        if len(images) == 1:
            raise no_room
        half = len(images) // 2
        parts = zip(self.run(images[:half]), self.run(images[half:]), strict=True)
        return ModelOutput(*(np.concatenate(part) for part in parts))

    def _run(self, images: Sequence[np.ndarray]) -> ModelOutput:
        count = len(images)
        with self._lock, torch.inference_mode(), torch.cuda.stream(self._stream):
            # torch hands pinned memory out again only after the copies from it are done.
            pixels = torch.empty(
                (count, *images[0].shape), dtype=torch.uint8, pin_memory=self._on_gpu
            )
            np.stack(images, out=pixels.numpy())
            captured = self._captured.get(next_power_of_two(count))
            if captured is None or captured.pixels.shape[1:] != pixels.shape[1:]:
                logits, maps = self._module(pixels.to(self.device, non_blocking=True))
            else:
                captured.pixels[:count].copy_(pixels, non_blocking=True)
                captured.graph.replay()
                logits, maps = captured.logits[:count], captured.maps[:count]
            output = ModelOutput(self._to_host(logits), self._to_host(maps))
            if self._stream is not None:
                self._stream.synchronize()
        return output

    def _to_host(self, values: torch.Tensor) -> np.ndarray:
        """Values in the computer's memory; those of a GPU are there after synchronising."""
        if not self._on_gpu:
            array: np.ndarray = values.numpy()
            return array
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        return host.numpy()

    def _capture_all(self, batch_size: int, side: int) -> None:
        """Capture the largest batch first: the others then fit into its memory."""
        largest = next_power_of_two(batch_size)
        pixels = torch.zeros((largest, 3, side, side), dtype=torch.uint8, device=self.device)
        pool = torch.cuda.graph_pool_handle()
        while largest:
            self._captured[largest] = self._capture(pixels[:largest], pool)
            self._captured[largest].graph.replay()  # the first one is slow
            largest //= 2
        torch.cuda.synchronize(self.device)

    def _capture(self, pixels: torch.Tensor, pool: Any) -> _CapturedPass:
        # Libraries set themselves up in a first pass, which cannot be captured.
        self._module(pixels)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=self._stream):
            logits, maps = self._module(pixels)
        return _CapturedPass(graph, pixels, logits, maps)


def load_module(path: Path, info: ModelInfo, precision: torch.dtype) -> LogitsAndMaps:
    """The network of a model.pth, on the CPU, with its layers fused.

    Args:
        path: The weights' file.
        info: The archive's facts.
        precision: What convolutions compute in; the last layer and the maps are float32's.
    """
    network = get_network(info.network)
    module = network.build_empty()
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state, strict=True, assign=True)
    last_layer = network.last_layer_of(module)
    whole = PixelsToLogits(network, module, info.preprocessing, precision)
    fused = fuse(whole.eval())
    for layer in fused.modules():
        if isinstance(layer, nn.Conv2d | FusedConvolution):
            layer.to(dtype=precision).to(memory_format=torch.channels_last)
    return LogitsAndMaps(fused, last_layer).eval()


def next_power_of_two(count: int) -> int:
    """The smallest that is not below `count`, which is at least 1."""
    return 1 << (count - 1).bit_length()


def _stream_on(device: str) -> torch.cuda.Stream | None:
    if device == "cpu":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _errors_of(device: str, what: str) -> Iterator[None]:
    """Give what torch says of a device the name of what is to be done about it.

    A full GPU is torch's own error where torch allocates, CUDA's where it does (a context, pinned
    memory, a graph's launch), and cuBLAS's or cuDNN's, which have none but in their message.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(
            sign in str(error) for sign in ("out of memory", "ALLOC_FAILED")
        ):
            raise OutOfDeviceMemoryError(
                f"{device} has no memory left for {what}; lower batchSize, or the number of "
                "workers of each GPU (workers_per_gpu), in config.properties"
            ) from error
        if isinstance(error, torch.AcceleratorError):
            raise DeviceLostError(f"{device} failed: {error}") from error
        raise
