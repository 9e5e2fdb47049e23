"""How fast an archive's network is in this process on one device, without a server.

Every rate says what bounds it: the device's matrix products, the copies to it and back, the
cores that decode, and the loop that a person would write instead.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.profiler import profile

from catdog.classifier import Classifier
from catdog.engines import MODEL_FILES
from catdog.engines.placement import Placement
from catdog.engines.torch import PRECISIONS, TorchEngine
from catdog.model_info import ModelInfo
from catdog_serving.bench.reference import ReferenceLoop

_PRODUCT_SIDE = {"cpu": 1024, "cuda": 8192}  # large enough for the full rate
_PROFILED_PASSES = 5


def load_torch_engine(model_dir: Path, device: str, precision: str, threads: int) -> TorchEngine:
    """The network of an unpacked archive in any precision, whatever it is packed for."""
    info = ModelInfo.read(model_dir)
    path = model_dir / MODEL_FILES["torch"]
    return TorchEngine(path, info, Placement(device, precision, "torch"), threads)


def product_tflop_per_s(device: str, precision: str, seconds: float) -> float:
    """The device's matrix products on random numbers, 2 operations a multiply-add."""
    side = _PRODUCT_SIDE[device.partition(":")[0]]
    dtype = PRECISIONS[precision]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _median_s(lambda: a @ b, device, seconds) / 1e12


def pass_speed(
    engine: TorchEngine, pixels: Sequence[np.ndarray], seconds: float
) -> dict[str, float]:
    """A pass over one batch, from pixels in the computer's memory to logits and maps in it.

    Returns:
        `ms` a pass and `images_per_s`; on a GPU also the milliseconds a pass of its copies and
        of its kernels.
    """
    ms = _median_s(lambda: engine.run(pixels), engine.device, seconds) * 1000
    found = {"ms": ms, "images_per_s": len(pixels) / ms * 1000}
    if engine.device == "cpu":
        return found
    with profile() as profiled:
        for _ in range(_PROFILED_PASSES):
            engine.run(pixels)
    times_ms = {"copies_ms": 0.0, "kernels_ms": 0.0}
    for event in profiled.events() or ():
        if event.device_type.name == "CUDA":
            kind = "copies_ms" if event.name.startswith("Memcpy") else "kernels_ms"
            times_ms[kind] += event.self_device_time_total / 1000 / _PROFILED_PASSES
    return found | times_ms


def classify_rate(
    classifier: Classifier, images: Sequence[bytes], batch: int, seconds: float
) -> float:
    """Images per second from bytes to answers; the next batch is decoded while one computes."""
    with ThreadPoolExecutor(1) as ahead:
        batches = _batches(images, batch)
        following = ahead.submit(classifier.preprocess, next(batches))
        started, done = time.perf_counter(), 0
        while not done or time.perf_counter() - started < seconds:
            inputs = following.result()
            following = ahead.submit(classifier.preprocess, next(batches))
            classifier.classify_inputs(inputs)
            done += batch
        return done / (time.perf_counter() - started)


def reference_rate(loop: ReferenceLoop, images: Sequence[bytes], seconds: float) -> float:
    """Images per second of the loop that a person would write, one image at a time."""
    supply = cycle(images)
    return 1 / _median_s(lambda: loop.classify(next(supply)), loop.device, seconds)


def _batches(images: Sequence[bytes], size: int) -> Iterator[list[bytes]]:
    supply = cycle(images)
    while True:
        yield list(islice(supply, size))


def _median_s(call: Callable[[], object], device: str, seconds: float) -> float:
    """The median duration of a call, the device's work included, after two that do not count."""
    took: list[float] = []
    started = time.perf_counter()
    while len(took) < 5 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - before)
    return median(took[2:])
