"""catdog bench: this machine's speed, in process and served, against the reference loop.

    catdog bench --output bench.json        half an hour
    catdog bench --quick --pictures DIR     3 minutes, with your own images

What is measured is named for what it is: `reference`, `inprocess_fp32_b8` (batches of
8 in this process), `preprocess_b8` (their decoding and resizing alone),
`engine_fp32_openvino_b8` (the network alone, by each engine of the machine),
`served_int8_c16` (a closed loop of 16 requests), `open_fp32_80` (Poisson arrivals at
80 % of what 16 requests reached), `folder_local_int8` (a whole command),
`start_fp32` (a server's start). Decoding is included everywhere but in `matmul`.

Interleaved rounds, one series after the other: everything that is compared by images
per second; the open loops, which need the capacity that the first found; then, with
these servers stopped, whole commands over a folder, and starts. The servers of the
first two are up from the beginning: a worker that waits takes no CPU time (seen:
0.01 s in 3 s for Java, 0.00 s for the worker).
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from catdog.classifier import Classifier
from catdog.engines.placement import fastest_engine
from catdog.model_info import ModelInfo
from catdog_serving.bench.bench_files import BenchFiles, Subject
from catdog_serving.bench.bench_report import BenchResult
from catdog_serving.bench.cpu_engines import cpu_engines, engine_benchmarks
from catdog_serving.bench.interleave import (
    Benchmark,
    Quantities,
    RoundResults,
    run_rounds,
    timed_calls,
)
from catdog_serving.bench.load_generator import closed_loop, open_loop
from catdog_serving.bench.machine import machine, versions
from catdog_serving.errors import NotReadyError
from catdog_serving.model_archive import archive_facts, open_archive
from catdog_serving.torchserve.private_config import private_config
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig

if TYPE_CHECKING:
    from catdog_serving.bench.reference import ReferenceLoop

OnStep = Callable[[str], None]

_MATMUL_SIDE = 2048  # large enough for full speed, small enough for half a second
_START_CONCURRENCY = 16
_START_WORK_S = 10.0  # of full batches, after which memory no longer grows


@dataclass(frozen=True)
class Plan:
    """How long to measure. A series without rounds is left out.

    Attributes:
        rounds: Of everything but open loops, folders and starts.
        seconds: One benchmark in one round takes at least that.
        enough_s: After that time no further round of them begins; there are two at least.
        batches: In-process batch sizes; 1 and 8 must be among them.
        concurrencies: Requests under way in closed loops; 1 and 16 must be among them.
        loads_percent: Arrival rates of open loops, of what 16 requests under way reached.
        open_rounds: Rounds of the open loops.
        open_seconds: How long requests arrive in one of them.
        folder_images: For whole commands over a folder.
        folder_rounds: Rounds of those.
        start_rounds: Rounds of starting a server.
    """

    rounds: int
    seconds: float
    enough_s: float | None = None
    batches: tuple[int, ...] = (1, 4, 8, 16)
    concurrencies: tuple[int, ...] = (1, 4, 16, 32)
    loads_percent: tuple[int, ...] = (50, 80, 95)
    open_rounds: int = 1
    open_seconds: float = 5.0
    folder_images: int = 0
    folder_rounds: int = 0
    start_rounds: int = 0


FULL = Plan(
    rounds=7,
    seconds=3.0,
    open_rounds=3,
    open_seconds=40.0,
    folder_images=100,
    folder_rounds=3,
    start_rounds=3,
)
QUICK = Plan(rounds=3, seconds=0.8, enough_s=50.0, batches=(1, 8))


@dataclass(frozen=True)
class Bench:
    """One run.

    Attributes:
        config: Its worker settings and limits are used, on free ports.
        subject: What `files` were built from.
        files: From `bench_files`.
        images: Encoded; all are sent again and again in turn.
        plan: How long.
    """

    config: ServingConfig
    subject: Subject
    files: BenchFiles
    images: Sequence[bytes]
    plan: Plan

    def run(self, on_step: OnStep = lambda _: None) -> BenchResult:
        """Measure everything; `on_step` is given a line for each step.

        Raises:
            NotReadyError: If a server does not start or a command fails.
            ServerUnavailableError: If a server stops answering.
        """
        from catdog_serving.bench.reference import ReferenceLoop  # needs torch

        conditions = self._conditions()
        on_step("loading the reference and the archives")
        loop = ReferenceLoop(self.subject.network, self.files.state)
        loop.classify(self.images[0])
        with tempfile.TemporaryDirectory(prefix="catdog-bench-") as scratch:
            with ExitStack() as stack:
                classifiers = self._load(stack)
                urls = self._serve(stack, Path(scratch), on_step)
                rates = self._rates(loop, classifiers, urls) | self._engines(stack)
                results = run_rounds(rates, self.plan.rounds, on_step, self.plan.enough_s)
                open_loops = self._open_loops(urls, results)
                results |= run_rounds(open_loops, self.plan.open_rounds, on_step)
            commands = self._commands(Path(scratch, "images"))
            results |= run_rounds(commands, self.plan.folder_rounds, on_step)
        starts = {
            f"start_{precision}": partial(_start, self.config, archive, self.images)
            for precision, archive in self.files.archives.items()
        }
        results |= run_rounds(starts, self.plan.start_rounds, on_step)
        return BenchResult(conditions, results, loop.multiply_adds())

    def _conditions(self) -> dict[str, Any]:
        """All but the measurements, before the load of these."""
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "settings": {
                "network": self.subject.network,
                "weights": self.subject.weights or "default",
                "precisions": list(self.files.archives),
                "engines": {
                    precision: fastest_engine(ModelInfo.from_dict(archive_facts(archive)))
                    for precision, archive in self.files.archives.items()
                },
                "images": len(self.images),
                "image_bytes": round(sum(map(len, self.images)) / len(self.images)),
                "batching": self.config.served_worker_settings,
                "plan": asdict(self.plan),
            },
        }

    def _load(self, stack: ExitStack) -> dict[str, Classifier]:
        """The classifier of each precision, in this process."""
        found = {}
        for precision, archive in self.files.archives.items():
            found[precision] = Classifier.load(stack.enter_context(open_archive(archive)))
            stack.callback(found[precision].close)
            found[precision].warm_up(max(self.plan.batches))
        return found

    def _engines(self, stack: ExitStack) -> dict[str, Benchmark]:
        """The network alone, by each engine that this machine has."""
        found = {}
        for precision, archive in self.files.archives.items():
            engines = cpu_engines(stack.enter_context(open_archive(archive)))
            for name, benchmark in engine_benchmarks(engines, self.plan.seconds).items():
                found[f"engine_{precision}_{name}"] = benchmark
        return found

    def _serve(self, stack: ExitStack, scratch: Path, on_step: OnStep) -> dict[str, str]:
        """The address of each precision's server."""
        found = {}
        for precision, archive in self.files.archives.items():
            on_step(f"starting a server, {precision}")
            private = private_config(self.config, scratch / precision, archive)
            server = stack.enter_context(TorchServe(private))
            server.wait_ready(private.served_worker_settings["minWorkers"])
            found[precision] = private.inference_url
        return found

    def _rates(
        self,
        loop: "ReferenceLoop",
        classifiers: Mapping[str, Classifier],
        urls: Mapping[str, str],
    ) -> dict[str, Benchmark]:
        """What is compared by images per second, so ordered that neighbours are compared most."""

        def calls(call: Callable[[list[bytes]], object], batch: int) -> Benchmark:
            return partial(timed_calls, call, self.images, batch, self.plan.seconds)

        found: dict[str, Benchmark] = {
            "matmul": partial(_matmul, self.plan.seconds),
            "reference": calls(lambda batch: loop.classify(batch[0]), 1),
        }
        for precision, classifier in classifiers.items():
            for batch in self.plan.batches:
                found[f"inprocess_{precision}_b{batch}"] = calls(classifier.classify, batch)
            for concurrency in self.plan.concurrencies:
                found[f"served_{precision}_c{concurrency}"] = partial(
                    _closed_loop, urls[precision], self.images, concurrency, self.plan.seconds
                )
        preprocess = next(iter(classifiers.values())).preprocess  # the same in all archives
        return found | {f"preprocess_b{batch}": calls(preprocess, batch) for batch in (1, 8)}

    def _open_loops(self, urls: Mapping[str, str], results: RoundResults) -> dict[str, Benchmark]:
        found: dict[str, Benchmark] = {}
        for precision, url in urls.items():
            capacity = results[f"served_{precision}_c16"]["images_per_s"].median
            for percent in self.plan.loads_percent:
                rate, seeds = capacity * percent / 100, count(percent, 100)
                found[f"open_{precision}_{percent}"] = partial(
                    _open_loop, url, self.images, rate, self.plan.open_seconds, seeds
                )
        return found

    def _commands(self, folder: Path) -> dict[str, Benchmark]:
        """Whole commands over one folder: the reference script, and `--backend local`."""
        folder.mkdir()
        for number, image in enumerate(islice(cycle(self.images), self.plan.folder_images)):
            (folder / f"{number:05}.jpg").write_bytes(image)
        script = ("catdog_serving.bench.reference", self.subject.network, self.files.state, folder)
        commands: dict[str, Sequence[str | Path]] = {"folder_reference": script}
        for precision, archive in self.files.archives.items():
            commands[f"folder_local_{precision}"] = (
                *("catdog_serving", "classify", folder, "--backend", "local"),
                *("--archive", archive, "--config", self.config.path),
            )
        return {
            name: partial(_command, name, command, self.plan.folder_images)
            for name, command in commands.items()
        }


def _matmul(seconds: float) -> Quantities:
    """The machine's peak: float32 matrix products, 2 operations a multiply-add.

    By numpy's OpenBLAS: it reached 210 GFLOP/s where torch reached 190 and ONNX Runtime 188.
    """
    a = np.random.default_rng(0).random((_MATMUL_SIDE, _MATMUL_SIDE), dtype=np.float32)
    took = timed_calls(lambda _: a @ a, [b""], 1, seconds)
    return {"gflop_per_s": 2 * _MATMUL_SIDE**3 / took["best_ms"] / 1e6}


def _closed_loop(url: str, images: Sequence[bytes], concurrency: int, seconds: float) -> Quantities:
    return closed_loop(url, images, concurrency, seconds).quantities()


def _open_loop(
    url: str, images: Sequence[bytes], rate: float, seconds: float, seeds: Iterator[int]
) -> Quantities:
    """Poisson arrivals, other ones in every round."""
    result = open_loop(url, images, rate, seconds, next(seeds))
    return {"offered_images_per_s": rate, **result.quantities()}


def _command(name: str, command: Sequence[str | Path], images: int) -> Quantities:
    """A Python module from its start to its end, imports and loading included."""
    before = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - before
    if result.returncode != 0:
        raise NotReadyError(
            f"{name} ended with exit code {result.returncode}: {result.stderr.strip()[-500:]}"
        )
    return {"seconds": seconds, "images_per_s": images / seconds}


def _start(config: ServingConfig, archive: Path, images: Sequence[bytes]) -> Quantities:
    """Start a server of its own, load it for a while, stop it.

    Gives `ready_s`, from the call to an answered first image, and the resident memory
    of the worker (when READY, after work) and of Java (after work) in GB. The system's
    file cache is warm from the second round on.
    """
    with tempfile.TemporaryDirectory(prefix="catdog-start-") as scratch:
        server = TorchServe(private_config(config, Path(scratch), archive))
        before = time.perf_counter()
        with server:
            ready_s = time.perf_counter() - before
            worker = server.versions()[0].workers[0].pid
            when_ready_gb = _resident_gb(worker)
            closed_loop(server.config.inference_url, images, _START_CONCURRENCY, _START_WORK_S)
            java = server.run.process()
            if java is None:
                raise NotReadyError("the server ended while its memory was measured")
            return {
                "ready_s": ready_s,
                "worker_gb_when_ready": when_ready_gb,
                "worker_gb_after_work": _resident_gb(worker),
                "java_gb_after_work": _resident_gb(java.pid),
            }


def _resident_gb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1e9
