"""What `catdog bench` compares, each as a function that runs for a bounded time.

Names tell what they are: `reference`, `inprocess_fp32_b8` (batch of 8),
`served_int8_c16` (16 requests under way), `open_fp32_80` (80 % of capacity).
Decoding is included everywhere but in `matmul`.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from catdog.classifier import Classifier
from catdog_serving.bench.load_generator import LoadResult, closed_loop, open_loop
from catdog_serving.bench.rounds import Benchmark, Quantities
from catdog_serving.errors import NotReadyError

if TYPE_CHECKING:
    from catdog_serving.bench.reference import ReferenceLoop

_MATMUL_SIDE = 2048  # large enough for full speed, small enough for half a second


def reference(loop: "ReferenceLoop", images: Sequence[bytes], seconds: float) -> Benchmark:
    """One image at a time through the eager network."""
    return Benchmark(
        "reference",
        lambda: _timed_calls(lambda batch: loop.classify(batch[0]), images, 1, seconds),
    )


def in_process(
    precision: str, classifier: Classifier, images: Sequence[bytes], batch: int, seconds: float
) -> Benchmark:
    """The archive's own classifier, one batch after the other."""
    return Benchmark(
        f"inprocess_{precision}_b{batch}",
        lambda: _timed_calls(classifier.classify, images, batch, seconds),
    )


def preprocessing(
    classifier: Classifier, images: Sequence[bytes], seconds: float
) -> list[Benchmark]:
    """Decoding and resizing alone: one after the other, and as a batch of 8 is decoded."""
    return [
        Benchmark(
            f"preprocess_b{batch}",
            lambda batch=batch: _timed_calls(  # type: ignore[misc]
                classifier.preprocess, images, batch, seconds
            ),
        )
        for batch in (1, 8)
    ]


def served(
    precision: str, url: str, images: Sequence[bytes], concurrency: int, seconds: float
) -> Benchmark:
    """A closed loop on a server."""
    return Benchmark(
        f"served_{precision}_c{concurrency}",
        lambda: _load_quantities(closed_loop(url, images, concurrency, seconds)),
    )


def open_loop_at(
    precision: str,
    url: str,
    images: Sequence[bytes],
    percent: int,
    capacity_images_per_s: float,
    seconds: float,
) -> Benchmark:
    """Poisson arrivals at a share of what the server's closed loop reached."""
    rate = capacity_images_per_s * percent / 100
    seeds = iter(range(percent, 1_000_000, 100))  # other arrivals in every round
    return Benchmark(
        f"open_{precision}_{percent}",
        lambda: {
            "offered_images_per_s": rate,
            **_load_quantities(open_loop(url, images, rate, seconds, next(seeds))),
        },
    )


def matmul(seconds: float) -> Benchmark:
    """The machine's peak: float32 matrix products, 2 operations a multiply-add.

    By numpy's OpenBLAS: it reached 210 GFLOP/s where torch reached 190 and ONNX Runtime 188.
    """

    def run() -> Quantities:
        a = np.random.default_rng(0).random((_MATMUL_SIDE, _MATMUL_SIDE), dtype=np.float32)
        took = _timed_calls(lambda _: a @ a, [b""], 1, seconds)
        return {"gflop_per_s": 2 * _MATMUL_SIDE**3 / took["best_ms"] / 1e6}

    return Benchmark("matmul", run)


def whole_command(name: str, command: Sequence[str | Path], images: int) -> Benchmark:
    """A command from its start to its end, imports and loading included."""

    def run() -> Quantities:
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        if result.returncode != 0:
            raise NotReadyError(
                f"{name} ended with exit code {result.returncode}: {result.stderr.strip()[-500:]}"
            )
        return {"seconds": seconds, "images_per_s": images / seconds}

    return Benchmark(name, run)


def _timed_calls(
    call: Callable[[list[bytes]], object], images: Sequence[bytes], batch: int, seconds: float
) -> Quantities:
    """Call with one batch after the other until the time is up; at least once."""
    supply = cycle(images)
    took_s: list[float] = []
    while not took_s or sum(took_s) < seconds:
        images_of_batch = list(islice(supply, batch))
        before = time.perf_counter()
        call(images_of_batch)
        took_s.append(time.perf_counter() - before)
    return {
        "images_per_s": batch * len(took_s) / sum(took_s),
        "p50_ms": float(np.median(took_s)) * 1000,
        "best_ms": min(took_s) * 1000,
    }


def _load_quantities(result: LoadResult) -> Quantities:
    answers = sum(result.statuses.values())
    return {
        "images_per_s": result.images_per_s,
        "p50_ms": result.percentile_ms(50),
        "p95_ms": result.percentile_ms(95),
        "p99_ms": result.percentile_ms(99),
        "answers": answers,
        "not_200": result.not_200,
        "answered_503": result.statuses.get(503, 0),
        "client_cpu_ms_per_image": result.client_cpu_s / answers * 1000,
    }
