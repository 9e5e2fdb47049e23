"""catdog bench --device cuda: this machine's GPU, in process and served.

    catdog bench --device cuda --output gpu.json        about 4 minutes

Speed is measured on a torch archive, in each precision. In process: passes by batch size, eager
and captured, with the time of their copies and kernels; the device's matrix products; what the
cores decode; and the loop that a person would write, on the same GPU. Served: 1, 2, 4, 8 workers
a GPU under 1 to 256 clients, with the CPU time that each process takes for an image.
"""

import gc
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Protocol

from catdog.classifier import Classifier
from catdog.cpu import usable_cores
from catdog.engines import MODEL_FILES
from catdog.engines.placement import best_device
from catdog.model_info import ModelInfo
from catdog_serving.bench.decode_speed import DecodeLoad
from catdog_serving.bench.machine import machine, versions
from catdog_serving.bench.served_speed import load_processes, served_speed
from catdog_serving.errors import NotReadyError
from catdog_serving.extras import install_hint
from catdog_serving.model_archive import open_archive
from catdog_serving.torchserve.private_config import private_config
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig

_SMALLEST_QUEUE = 128  # whoever asks a server of a small plan gets no 503 either


class OnFigure(Protocol):
    """What is told each figure as soon as it is there."""

    def __call__(self, name: str, **values: Any) -> None: ...


def figure_line(name: str, values: Mapping[str, Any]) -> str:
    """A figure for people: its name, then its numbers with four digits."""
    numbers = (
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )
    return f"{name:45} {', '.join(numbers)}"


@dataclass(frozen=True)
class GpuPlan:
    """What to measure, and how long.

    Attributes:
        device: "cuda:N", or "cpu" to try the plan itself.
        seconds: Of a loop in process; loops under load take twice as long.
        precisions: To compute in.
        batches: Sizes of captured passes; the first is run eager too, and so is `eager_batch`.
        eager_batch: The larger one of the eager passes.
        workers: Of each GPU.
        clients: Requests under way.
        batch_size: Of the servers.
    """

    device: str = "cuda:0"
    seconds: float = 1.5
    precisions: tuple[str, ...] = ("fp32", "bf16", "fp16")
    batches: tuple[int, ...] = (1, 8, 32, 64, 128)
    eager_batch: int = 64
    workers: tuple[int, ...] = (1, 2, 4, 8)
    clients: tuple[int, ...] = (1, 16, 64, 128, 256)
    batch_size: int = 64


TRIAL = GpuPlan(
    device="cpu",
    seconds=0.2,
    precisions=("fp32",),
    batches=(1, 2),
    eager_batch=2,
    workers=(1,),
    clients=(1, 4),
    batch_size=4,
)


def measure_in_process(
    archive: Path, images: Sequence[bytes], plan: GpuPlan, on_figure: OnFigure
) -> None:
    """Rates of a torch archive on one device, and what bounds them."""
    import torch

    from catdog_serving.bench import engine_speed
    from catdog_serving.bench.reference import ReferenceLoop

    if plan.device != "cpu":
        on_figure("device", gpu=torch.cuda.get_device_name(plan.device), torch=torch.__version__)
    for precision in plan.precisions:
        rate = engine_speed.product_tflop_per_s(plan.device, precision, plan.seconds / 3)
        on_figure(f"matrix product {precision}", tflop_per_s=rate)
    cores = usable_cores()
    with open_archive(archive) as model_dir:
        load = DecodeLoad.of(model_dir, images)
        on_figure("decode", cores=cores, **load.rates(cores, plan.seconds))
        network = ModelInfo.read(model_dir).network
        loop = ReferenceLoop(network, model_dir / MODEL_FILES["torch"], plan.device)
        rate = engine_speed.reference_rate(loop, images, 2 * plan.seconds)
        gflop = 2 * loop.multiply_adds() / 1e9
        on_figure("reference loop", images_per_s=rate, gflop_per_image=gflop)
        supply = list(islice(cycle(load.crops()), max(plan.batches)))
        for precision in plan.precisions:
            engine = engine_speed.load_torch_engine(model_dir, plan.device, precision, cores)
            for size in (plan.batches[0], plan.eager_batch):
                found = engine_speed.pass_speed(engine, supply[:size], plan.seconds / 3)
                on_figure(f"eager {precision} b{size}", **found)
            started = time.perf_counter()
            engine.prepare(max(plan.batches), supply[0].shape[1])
            on_figure(f"preparing {precision}", seconds=time.perf_counter() - started)
            for size in plan.batches:
                found = engine_speed.pass_speed(engine, supply[:size], plan.seconds / 3)
                found["tflop_per_s"] = found["images_per_s"] * gflop / 1e3
                on_figure(f"prepared {precision} b{size}", **found)
            if plan.device != "cpu":
                reserved_gb = torch.cuda.memory_reserved(plan.device) / 1e9
                on_figure(f"memory {precision}", reserved_gb=reserved_gb)
            del engine
            gc.collect()  # its graphs hold each other
            torch.cuda.empty_cache()
        classifier = Classifier.load(model_dir, plan.device)
        classifier.warm_up(plan.batch_size)
        rate = engine_speed.classify_rate(classifier, images, plan.batch_size, 2 * plan.seconds)
        name = f"classify {classifier.model.precision} b{plan.batch_size}"
        on_figure(name, images_per_s=rate)
        classifier.close()


def measure_served(
    archive: Path,
    images: Sequence[bytes],
    config: ServingConfig,
    plan: GpuPlan,
    on_figure: OnFigure,
) -> None:
    """A real server with each number of workers under each number of clients."""
    with load_processes(images) as pool:
        for workers in plan.workers:
            started = time.perf_counter()
            with gpu_server(archive, config, plan, workers) as server:
                seconds = time.perf_counter() - started
                on_figure(f"{workers} workers a GPU READY", seconds=seconds)
                for clients in plan.clients:
                    found = served_speed(server, pool, clients, 2 * plan.seconds)
                    on_figure(f"{workers} workers a GPU, {clients} clients", **found)


def check_gpu() -> None:
    """Make sure that there is something to measure.

    Raises:
        NotReadyError: If torch is not installed, or sees no GPU.
    """
    if find_spec("torch") is None:
        raise NotReadyError(f"the bench needs torch; run: {install_hint('serve')}")
    if best_device("torch") == "cpu":
        raise NotReadyError("torch sees no CUDA device; measure the CPU: catdog bench")


def gpu_bench(
    config: ServingConfig, archive: Path, images: Sequence[bytes], on_figure: OnFigure
) -> dict[str, Any]:
    """Measure in process and served.

    Returns:
        Machine, versions and every figure by its name, for JSON.
    """
    figures: dict[str, dict[str, Any]] = {}

    def keep(name: str, **values: Any) -> None:
        figures[name] = values
        on_figure(name, **values)

    conditions = {"machine": machine(), "versions": versions()}
    # Served first: this process holds memory of the GPU as soon as it has computed there.
    measure_served(archive, images, config, GpuPlan(), keep)
    measure_in_process(archive, images, GpuPlan(), keep)
    return conditions | {"figures": figures}


@contextmanager
def gpu_server(
    archive: Path, config: ServingConfig, plan: GpuPlan, workers_per_gpu: int
) -> Iterator[TorchServe]:
    """A server of one's own, with a queue that holds every client's request."""
    entry = {"minWorkers": 1, "maxWorkers": 1, "batchSize": plan.batch_size}
    values = {
        "job_queue_size": str(max(2 * max(plan.clients), _SMALLEST_QUEUE)),
        "workers_per_gpu": str(workers_per_gpu),
    }
    if plan.device == "cpu":
        values["number_of_gpu"] = "0"
    with tempfile.TemporaryDirectory(prefix="catdog-") as scratch:
        private = private_config(config, Path(scratch), archive, entry, values)
        with TorchServe(private) as server:
            server.wait_ready(private.served_worker_settings["minWorkers"])
            yield server
