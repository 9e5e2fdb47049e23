"""catdog bench: this machine's speed, in process and served, against the reference loop.

Interleaved rounds, one series after the other: everything that is compared by images
per second; the open loops, which need the capacity that the first found; then, with
these servers stopped, whole commands over a folder, and starts. The servers of the
first two are up from the beginning: a worker that waits takes no CPU time (seen:
0.01 s in 3 s for Java, 0.00 s for the worker).
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from catdog.classifier import Classifier
from catdog_serving.bench import benchmarks
from catdog_serving.bench.bench_archives import BenchFiles, Subject
from catdog_serving.bench.machine import machine_facts, versions
from catdog_serving.bench.rounds import Benchmark, RoundResults, run_rounds
from catdog_serving.bench.start_up import start_up
from catdog_serving.errors import NotReadyError
from catdog_serving.extras import install_hint
from catdog_serving.model_archive import open_archive
from catdog_serving.torchserve.private_config import private_config
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        rounds: Of everything but open loops and folders.
        seconds: One benchmark in one round takes at least that.
        enough_s: After that time no further round of them begins; there are two at least.
        batches: In-process batch sizes; 1 and 8 must be among them.
        concurrencies: Requests under way in closed loops; 1 and 16 must be among them.
        loads_percent: Arrival rates of open loops, of what 16 requests under way reached.
        open_rounds: Rounds of the open loops.
        open_seconds: How long requests arrive in one of them.
        folder_images: For whole commands over a folder; 0 leaves them out.
        folder_rounds: Rounds of those.
        start_rounds: Rounds of starting a server; 0 leaves them out.
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
class BenchResult:
    """What a run saw.

    Attributes:
        conditions: Machine, versions, date, settings: all but the measurements.
        measurements: By benchmark and quantity.
        multiply_adds: Of the network, for one image.
    """

    conditions: dict[str, Any]
    measurements: RoundResults
    multiply_adds: int

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(self.conditions["settings"]["precisions"])


def run_bench(
    config: ServingConfig,
    subject: Subject,
    files: BenchFiles,
    images: Sequence[bytes],
    plan: Plan,
    on_step: OnStep = lambda _: None,
) -> BenchResult:
    """Measure everything.

    Args:
        config: Its worker settings and limits are used, on free ports.
        subject: What `files` were built from.
        files: From `bench_files`.
        images: Encoded; all are sent again and again in turn.
        plan: How long.
        on_step: Is given a line for each step.

    Raises:
        NotReadyError: If a server does not start or something is not installed.
        ServerUnavailableError: If a server stops answering.
    """
    try:
        from catdog_serving.bench.reference import ReferenceLoop
    except ImportError as error:
        raise NotReadyError(
            f"the bench needs {error.name}; run: {install_hint('serve')}"
        ) from error
    conditions = _conditions(config, subject, files, images, plan)
    with tempfile.TemporaryDirectory(prefix="catdog-bench-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        on_step("loading the reference and the archives")
        loop = ReferenceLoop(subject.network, files.state)
        loop.classify(images[0])
        classifiers = {p: _load(stack, archive) for p, archive in files.archives.items()}
        for classifier in classifiers.values():
            classifier.warm_up(max(plan.batches))
        urls = {}
        for precision, archive in files.archives.items():
            on_step(f"starting a server, {precision}")
            private = private_config(config, scratch / precision, archive)
            server = stack.enter_context(TorchServe(private))
            server.wait_for_workers(int(private.served_worker_settings["minWorkers"]))
            urls[precision] = private.inference_url
        compared = _compared(plan, loop, classifiers, urls, images)
        measurements = run_rounds(compared, plan.rounds, on_step, plan.enough_s)
        measurements |= run_rounds(
            _open_loops(plan, urls, images, measurements), plan.open_rounds, on_step
        )
        multiply_adds = loop.multiply_adds()
        stack.close()
        if plan.folder_images:
            commands = _commands(plan, config, subject, files, images, scratch)
            measurements |= run_rounds(commands, plan.folder_rounds, on_step)
        if plan.start_rounds:
            starts = [start_up(p, config, file, images) for p, file in files.archives.items()]
            measurements |= run_rounds(starts, plan.start_rounds, on_step)
        return BenchResult(conditions, measurements, multiply_adds)


def _conditions(
    config: ServingConfig,
    subject: Subject,
    files: BenchFiles,
    images: Sequence[bytes],
    plan: Plan,
) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "versions": versions(),
        "settings": {
            "network": subject.network,
            "weights": subject.weights or "default",
            "precisions": list(files.archives),
            "images": len(images),
            "image_bytes": round(sum(map(len, images)) / len(images)),
            "batching": config.served_worker_settings,
            "plan": asdict(plan),
        },
    }


def _load(stack: ExitStack, archive: Path) -> Classifier:
    classifier = Classifier.load(stack.enter_context(open_archive(archive)))
    stack.callback(classifier.close)
    return classifier


def _compared(
    plan: Plan,
    loop: Any,
    classifiers: dict[str, Classifier],
    urls: dict[str, str],
    images: Sequence[bytes],
) -> list[Benchmark]:
    """What is compared by images per second, so ordered that neighbours are compared most."""
    found = [benchmarks.matmul(plan.seconds), benchmarks.reference(loop, images, plan.seconds)]
    for precision, classifier in classifiers.items():
        found += [
            benchmarks.in_process(precision, classifier, images, batch, plan.seconds)
            for batch in plan.batches
        ]
        found += [
            benchmarks.served(precision, urls[precision], images, concurrency, plan.seconds)
            for concurrency in plan.concurrencies
        ]
    any_classifier = next(iter(classifiers.values()))
    return found + benchmarks.preprocessing(any_classifier, images, plan.seconds)


def _open_loops(
    plan: Plan, urls: dict[str, str], images: Sequence[bytes], measurements: RoundResults
) -> list[Benchmark]:
    return [
        benchmarks.open_loop_at(
            precision,
            url,
            images,
            percent,
            measurements[f"served_{precision}_c16"]["images_per_s"].median,
            plan.open_seconds,
        )
        for precision, url in urls.items()
        for percent in plan.loads_percent
    ]


def _commands(
    plan: Plan,
    config: ServingConfig,
    subject: Subject,
    files: BenchFiles,
    images: Sequence[bytes],
    scratch: Path,
) -> list[Benchmark]:
    """Whole commands over one folder: the reference script, and `--backend local`."""
    folder = scratch / "images"
    folder.mkdir()
    for number, image in enumerate(islice(cycle(images), plan.folder_images)):
        (folder / f"{number:05}.jpg").write_bytes(image)
    script = ("-m", "catdog_serving.bench.reference", subject.network, files.state, folder)
    found = [benchmarks.whole_command("folder_reference", script, plan.folder_images)]
    for precision, archive in files.archives.items():
        command = (
            *("-m", "catdog_serving", "classify", folder, "--backend", "local"),
            *("--archive", archive, "--config", config.path),
        )
        found.append(
            benchmarks.whole_command(f"folder_local_{precision}", command, plan.folder_images)
        )
    return found
