"""bf16 on CPUs, from the float32 network: how far it is from that, and how much faster."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from catdog.engines import MODEL_FILES, Engine, load_engine
from catdog.engines.placement import has_bf16
from catdog.model_info import Agreement, ModelInfo
from catdog_serving.build.agreement import LogitsOf, logits_in_batches, measure_agreement
from catdog_serving.model_archive import open_archive

_BATCH = 8
_ROUNDS = 3
# Below, it would not be worth what it costs in accuracy.
LEAST_GAIN = 1.2


def bf16_agreement(model_dir: Path, float32: LogitsOf, pixels: np.ndarray) -> Agreement | None:
    """Compare the engine that will serve bf16 with the eager float32 network.

    Args:
        model_dir: With the exported network, which is float32's.
        float32: That network.
        pixels: Images, uint8, shape (N, 3, S, S), N >= 1.

    Returns:
        None if this machine computes no bf16.
    """
    if not has_bf16():
        return None
    from catdog.engines.openvino import OpenVinoEngine

    engine = OpenVinoEngine(model_dir / MODEL_FILES["onnx"], 0, "bf16")
    if engine.precision != "bf16":
        return None
    return measure_agreement(
        reduced=logits_in_batches(lambda batch: engine.run(list(batch)).logits, pixels),
        float32=logits_in_batches(float32, pixels),
        calibration_images=0,
    )


def bf16_gain(archive: Path, on_work: Callable[[str], None]) -> float | None:
    """How many times as fast bf16 would compute an archive's network on this machine.

    Args:
        archive: The .mar.
        on_work: Is told when it is measured.

    Returns:
        None if the archive is not one of float32 for CPUs, or the machine computes no bf16.
    """
    if not has_bf16():
        return None
    with open_archive(archive) as model_dir:
        info = ModelInfo.read(model_dir)
        if (info.runtime, info.precision) != ("onnx", "fp32"):
            return None
        on_work("measuring what bf16 would gain")
        from catdog.engines.openvino import OpenVinoEngine

        engines: list[Engine] = [
            load_engine(model_dir, info, "cpu", 0),
            OpenVinoEngine(model_dir / MODEL_FILES["onnx"], 0, "bf16"),
        ]
    side = info.preprocessing.crop_size
    batch = [np.zeros((3, side, side), np.uint8)] * _BATCH
    for engine in engines:
        engine.run(batch)
    rounds = [[_seconds(partial(engine.run, batch)) for engine in engines] for _ in range(_ROUNDS)]
    return median(float32_s / bf16_s for float32_s, bf16_s in rounds)


def _seconds(call: Callable[[], object]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before
