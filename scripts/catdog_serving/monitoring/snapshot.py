"""What a running server says of itself: once, or again and again without disturbing it.

The describe API and the metrics address are answered by Java alone. The one question that
a worker must answer is for the model's facts; snapshots ask it once per set of workers, and
only while no request waits.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil

from catdog.cpu import VISIBLE_GPUS_VARIABLE
from catdog.model_info import Agreement
from catdog.results import ModelId
from catdog_serving.config_folder import command_line
from catdog_serving.errors import CatDogError, ServerError
from catdog_serving.monitoring.metrics import Rates, Scrape, scrape
from catdog_serving.torchserve.gpus import Gpu, visible_gpus
from catdog_serving.torchserve.loaded_archive import loaded_sha256
from catdog_serving.torchserve.loaded_libraries import LoadedLibrary, loaded_libraries
from catdog_serving.torchserve.management import ManagementClient, ModelStatus
from catdog_serving.torchserve.server import TorchServe

_NVIDIA_SMI_S = 3.0  # it answers at once while workers keep the driver loaded, or hangs


@dataclass(frozen=True)
class GpuStatus:
    """One GPU of the machine, and who computes on it.

    Attributes:
        id: As workers count: 0 for cuda:0.
        workers: The ids of those that were given it, of all versions.
        device: What nvidia-smi says of it; None if it does not answer, or was not asked.
    """

    id: int
    workers: tuple[str, ...]
    device: Gpu | None

    @property
    def line(self) -> str:
        """Workers, memory and utilisation in one line."""
        count = len(self.workers)
        found = [f"{count} worker{'' if count == 1 else 's'}"]
        gpu = self.device
        if gpu is None:
            return f"{found[0]}; nvidia-smi says nothing of it"
        if gpu.memory_used_bytes is not None and gpu.memory_total_bytes is not None:
            used, total = gpu.memory_used_bytes / 1e9, gpu.memory_total_bytes / 1e9
            found.append(f"{used:.1f} of {total:.1f} GB of memory used")
        if gpu.utilisation_percent is not None:
            found.append(f"{gpu.utilisation_percent} % utilised")
        return ", ".join(found)


@dataclass(frozen=True)
class ServerStatus:
    """State of a server at one moment, as its management API has it.

    Attributes:
        url: Where it answers predictions.
        management: Where its management API is: http://HOST:PORT, or unix:/PATH.
        models: Its versions, the default first.
        facts: The default version's model.json, with what the worker adds; None while no
            worker is READY, and if the queue was too full or too slow to ask.
        failure: While none is, the last line of the traceback that ended a worker.
        gpus: Those of the machine, as far as nvidia-smi was asked; none if no worker was given one.
        java_libraries: What its Java loaded; none if `catdog serve` did not start it.
        archive_sha256: Of the archive that it has loaded; None if nobody knows, as while two
            versions are loaded.
        run_directory: Its private folder, with the logs; None if `catdog serve` did not start it.
    """

    url: str
    management: str
    models: tuple[ModelStatus, ...]
    facts: dict[str, Any] | None
    failure: str | None
    gpus: tuple[GpuStatus, ...] = ()
    java_libraries: tuple[LoadedLibrary, ...] = ()
    archive_sha256: str | None = None
    run_directory: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a prediction would be answered: a worker of the default version is READY."""
        return bool(self.models) and self.models[0].ready_workers > 0

    @property
    def model_line(self) -> str:
        """Network, weights, engine, precision and device in one line."""
        if self.facts is None and self.is_ready:
            return "not known while the queue is full"
        if self.facts is None:
            return "unknown until a worker is READY"
        packed = self.facts["precision"]
        computed = self.facts.get("computed_precision", packed)  # 0.1.0 tells neither
        engine = self.facts.get("engine", self.facts["runtime"])
        line = (
            f"{ModelId.from_dict(self.facts).name}, {engine} {computed} on {self.facts['device']}"
        )
        if computed != packed:
            line += f" (packed for {packed})"
        if self.facts["device"] == "cpu" and any(w.gpu for m in self.models for w in m.workers):
            line += " (a GPU was given and is not used: see the worker's log)"
        return line

    @property
    def agreement(self) -> Agreement | None:
        """With fp32, if the model is int8 or a CPU's bf16, and it was measured."""
        found = (self.facts or {}).get("agreement")
        return found and Agreement(**found)

    def to_dict(self) -> dict[str, Any]:
        facts = self.facts and {k: v for k, v in self.facts.items() if k != "categories"}
        return {
            "url": self.url,
            "management": self.management,
            "run_directory": self.run_directory,
            "ready": self.is_ready,
            "failure": self.failure,
            "versions": [asdict(model) for model in self.models],
            "gpus": [asdict(gpu) for gpu in self.gpus],
            "java_libraries": [asdict(library) for library in self.java_libraries],
            "archive_sha256": self.archive_sha256,
            "model": facts,
        }


@dataclass(frozen=True)
class Snapshot:
    """State of a server that answers, at one moment.

    Attributes:
        status: Its versions, workers and model.
        rates: Since the snapshot before; None for the first one, and after the server was away.
        memory_bytes: Resident memory by worker id; without workers that do not run here.
        uptime_s: None if `catdog serve` did not start it.
    """

    status: ServerStatus
    rates: Rates | None
    memory_bytes: dict[str, int]
    uptime_s: float | None


def read_status(server: TorchServe) -> ServerStatus:
    """State of the server at this moment.

    The model's facts come through the queue. One that is full or slow refuses the question,
    and is no reason to call the server unfit: its workers are READY all the same.

    Raises:
        ServerUnavailableError: If it does not answer.
    """
    with server.management() as management:
        models = management.versions()
        facts = None
        ready = any(model.ready_workers for model in models)
        if ready:
            with suppress(ServerError):
                facts = management.facts()
    failure = None if ready else server.run.why_a_worker_died()
    url, gpus = server.served.inference_url, _gpus(models, _devices(server, models))
    found = ServerStatus(url, management.url, tuple(models), facts, failure, gpus)
    if not server.is_running():
        return found
    return replace(
        found,
        java_libraries=tuple(loaded_libraries(server.run)),
        archive_sha256=loaded_sha256(server.run) if len(models) == 1 else None,
        run_directory=str(server.run.path),
    )


def nothing_loaded(server: TorchServe) -> str:
    """What to say of a server that answers, and has no version of the model."""
    why = server.run.logs.load_failure() or "it was unregistered"
    return f"no catdog is loaded ({why}): {command_line(server.config.path, 'restart')}"


def _devices(server: TorchServe, models: Sequence[ModelStatus]) -> list[Gpu] | None:
    """Those that the server can use; none if no worker was given one. None without an answer."""
    if not any(worker.gpu for model in models for worker in model.workers):
        return []
    return visible_gpus(_named_gpus(server), _NVIDIA_SMI_S)


def _gpus(models: Sequence[ModelStatus], known: Sequence[Gpu] | None) -> tuple[GpuStatus, ...]:
    """The GPUs of a server's workers, and those of the machine that have none."""
    workers = [worker for model in models for worker in model.workers]
    devices = dict(enumerate(known or ()))
    given = {worker.gpu_id for worker in workers if worker.gpu_id is not None}
    return tuple(
        GpuStatus(gpu, tuple(w.id for w in workers if w.gpu_id == gpu), devices.get(gpu))
        for gpu in sorted(given | devices.keys())
    )


def _named_gpus(server: TorchServe) -> str | None:
    """CUDA_VISIBLE_DEVICES of the server, by which its workers count, else of this shell."""
    process = server.run.process()
    if process:
        with suppress(psutil.Error):  # it just ended
            return process.environ().get(VISIBLE_GPUS_VARIABLE)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def take_snapshots(
    server: TorchServe, interval_s: float, *, with_gpus: bool = False
) -> Iterator[Snapshot | CatDogError]:
    """A snapshot every `interval_s` seconds, without end; while there is none to have, its error.

    That is a server which is away, or whose files are not whole while it starts again.

    Args:
        server: To be asked.
        interval_s: From one to the next.
        with_gpus: Whether nvidia-smi is asked, too. Once it gave no answer it is asked no more:
            one that hangs takes seconds, and leaves a process that no kill ends.
    """
    before: Scrape | None = None
    facts = _Facts()
    while True:
        start = time.monotonic()
        try:
            with server.management() as management:  # a server that was away may have another
                models = tuple(management.versions())
                now = scrape(server.served.metrics_url)
                known = facts.of(models, management)
            failure = None if known else server.run.why_a_worker_died()
            devices = _devices(server, models) if with_gpus else None
            with_gpus = devices is not None
            url, gpus = server.served.inference_url, _gpus(models, devices)
            status = ServerStatus(url, management.url, models, known, failure, gpus)
            rates = Rates.between(before, now) if before else None
            before = now
            yield Snapshot(status, rates, _memory(models), _uptime_s(server))
        except CatDogError as error:
            before = None
            yield error
        time.sleep(max(0.0, start + interval_s - time.monotonic()))


class _Facts:
    """The facts of the default version, asked for anew when its workers are others."""

    def __init__(self) -> None:
        self._workers: tuple[object, ...] = ()
        self._facts: dict[str, Any] | None = None

    def of(
        self, models: Sequence[ModelStatus], management: ManagementClient
    ) -> dict[str, Any] | None:
        if not models or not models[0].ready_workers:
            return None
        workers = (models[0].version, *(worker.pid for worker in models[0].workers))
        if workers != self._workers and models[0].pending_requests == 0:
            self._facts = management.facts()
            self._workers = workers
        return self._facts


def _memory(models: Sequence[ModelStatus]) -> dict[str, int]:
    workers = (worker for model in models for worker in model.workers)
    return {w.id: w.memory_bytes for w in workers if w.memory_bytes is not None}


def _uptime_s(server: TorchServe) -> float | None:
    process = server.run.process()
    return time.time() - process.create_time() if process else None
