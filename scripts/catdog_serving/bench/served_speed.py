"""How fast a running server is, and what each of its processes takes for an image.

The load comes from several processes, because one would be the bottleneck in front of a GPU.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from statistics import mean

import psutil

from catdog_serving.bench.load_generator import LoadResult, closed_loop
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.server import TorchServe

_CLIENTS_PER_PROCESS = 16
_MOST_PROCESSES = 16
_SAMPLE_MS = 200

_images: Sequence[bytes] = ()  # of a process that makes load


@contextmanager
def load_processes(images: Sequence[bytes]) -> Iterator[ProcessPoolExecutor]:
    """Processes that send images; started before anything is measured."""
    processes = _most_processes()
    with ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=_keep, initargs=(images,)
    ) as pool:
        for future in [pool.submit(time.sleep, 0.5) for _ in range(processes)]:
            future.result()
        yield pool


def served_speed(
    server: TorchServe, pool: ProcessPoolExecutor, clients: int, seconds: float
) -> dict[str, float]:
    """A closed loop of so many clients.

    Returns:
        What `LoadResult.quantities` says, and `cpu_ms_per_image` of the server's Java, of its
        workers and of the clients, `cpu_busy` (share of all cores), and of GPUs
        `gpu_utilisation` and `gpu_memory_gb`.
    """
    processes = server_processes(server)
    shares = _shares(clients)
    with _gpu_samples() as samples:
        before = _cpu_s(processes)
        psutil.cpu_percent()  # the next call counts from here
        futures = [
            pool.submit(_closed_loop, server.config.inference_url, share, seconds)
            for share in shares
        ]
        result = merged([future.result() for future in futures])
        spent = {name: value - before[name] for name, value in _cpu_s(processes).items()}
        busy_percent = psutil.cpu_percent()
    answers = len(result.latencies_s)
    found = result.quantities() | {
        f"{name}_cpu_ms_per_image": seconds / answers * 1000 for name, seconds in spent.items()
    }
    return found | {"cpu_busy": busy_percent / 100} | _summary(samples)


def server_processes(server: TorchServe) -> dict[str, list[psutil.Process]]:
    """Java, and all workers."""
    java = server.run.process()
    if java is None:
        raise NotReadyError("the server ended while it was measured")
    workers = [worker.pid for version in server.versions() for worker in version.workers]
    return {"java": [psutil.Process(java.pid)], "worker": [psutil.Process(pid) for pid in workers]}


def merged(results: Sequence[LoadResult]) -> LoadResult:
    """What several processes saw that sent at the same time."""
    statuses: dict[int, int] = {}
    for result in results:
        for status, count in result.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return LoadResult(
        seconds=max(result.seconds for result in results),
        latencies_s=tuple(latency for result in results for latency in result.latencies_s),
        statuses=statuses,
        client_cpu_s=sum(result.client_cpu_s for result in results),
    )


def _most_processes() -> int:
    return min(_MOST_PROCESSES, psutil.cpu_count() or 1)


def _shares(clients: int) -> list[int]:
    """So many clients spread evenly over processes."""
    processes = min(_most_processes(), -(-clients // _CLIENTS_PER_PROCESS))
    return [clients // processes + (number < clients % processes) for number in range(processes)]


def _keep(images: Sequence[bytes]) -> None:
    global _images
    _images = images


def _closed_loop(url: str, clients: int, seconds: float) -> LoadResult:
    """In a process that makes load; all of its CPU time counts, not its sending alone."""
    before = time.process_time()
    result = closed_loop(url, _images, clients, seconds)
    return replace(result, client_cpu_s=time.process_time() - before)


def _cpu_s(processes: Mapping[str, Sequence[psutil.Process]]) -> dict[str, float]:
    return {
        name: sum(sum(process.cpu_times()[:2]) for process in group)
        for name, group in processes.items()
    }


@contextmanager
def _gpu_samples() -> Iterator[list[tuple[float, float]]]:
    """Utilisation in percent and memory in MiB of the GPUs, sampled while the block runs."""
    samples: list[tuple[float, float]] = []
    query = "--query-gpu=utilization.gpu,memory.used"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits", f"-lms={_SAMPLE_MS}"]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        yield samples
        return
    try:
        yield samples
    finally:
        process.terminate()
        for line in process.communicate()[0].splitlines():
            utilisation, memory = line.split(",")
            if utilisation.strip().isdecimal():  # a GPU may not know
                samples.append((float(utilisation), float(memory)))


def _summary(samples: Sequence[tuple[float, float]]) -> dict[str, float]:
    if not samples:
        return {}
    utilisation, memory = zip(*samples, strict=True)
    return {"gpu_utilisation": mean(utilisation), "gpu_memory_gb": max(memory) * 2**20 / 1e9}
