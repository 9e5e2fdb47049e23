"""How long a server takes until it answers, and what it holds in memory then."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from catdog_serving.bench.load_generator import closed_loop
from catdog_serving.bench.rounds import Benchmark, Quantities
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.private_config import private_config
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig

_CONCURRENCY = 16
_WORK_S = 10.0  # of full batches, after which memory no longer grows


def start_up(
    precision: str, config: ServingConfig, archive: Path, images: Sequence[bytes]
) -> Benchmark:
    """Start a server of its own, load it for a while, stop it.

    Gives `ready_s`, from the call to an answered first image, and the resident memory
    of the worker (when READY, after work) and of Java (after work) in GB. The system's
    file cache is warm from the second round on.
    """

    def run() -> Quantities:
        with tempfile.TemporaryDirectory(prefix="catdog-start-") as scratch:
            server = TorchServe(private_config(config, Path(scratch), archive))
            before = time.perf_counter()
            with server:
                ready_s = time.perf_counter() - before
                worker = server.versions()[0].workers[0].pid
                when_ready_gb = _resident_gb(worker)
                closed_loop(server.config.inference_url, images, _CONCURRENCY, _WORK_S)
                java = server.run.process()
                if java is None:
                    raise NotReadyError("the server ended while its memory was measured")
                return {
                    "ready_s": ready_s,
                    "worker_gb_when_ready": when_ready_gb,
                    "worker_gb_after_work": _resident_gb(worker),
                    "java_gb_after_work": _resident_gb(java.pid),
                }

    return Benchmark(f"start_{precision}", run)


def _resident_gb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1e9
