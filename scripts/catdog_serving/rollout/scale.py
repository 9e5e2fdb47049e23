"""catdog scale: another number of workers, without a lost request.

More workers are simply started. For fewer, TorchServe would kill a worker with its batch;
a copy of the same archive comes up with fewer workers instead, and takes over.
"""

import time
from dataclasses import dataclass

from catdog_serving.archive_copies import next_version, pack_folder
from catdog_serving.errors import UsageError
from catdog_serving.rollout.drain import drain
from catdog_serving.rollout.free_memory import check_memory
from catdog_serving.rollout.switch import (
    default_version,
    operator,
    served_folder,
    switch,
)
from catdog_serving.torchserve.management import ManagementClient, ModelStatus, check_workers
from catdog_serving.torchserve.server import READY_TIMEOUT_S, TorchServe
from catdog_serving.torchserve.staged_files import staged_archive


@dataclass(frozen=True)
class Scaled:
    """What was done.

    Attributes:
        version: The one that serves now; another than before after a scale-down.
        before: Its workers before.
        workers: Its workers now.
        seconds: How long it took.
    """

    version: str
    before: int
    workers: int
    seconds: float


def scale(
    server: TorchServe, workers: int, *, wait_s: float = READY_TIMEOUT_S, wait: bool = True
) -> Scaled:
    """Change the number of workers of the default version and wait until they are READY.

    It lasts as long as the server does: a restart begins with config.properties' number.

    Args:
        server: One that `catdog serve` or `TorchServe.start` started.
        workers: At least 1.
        wait_s: Longest wait for new workers.
        wait: False to return when they were asked for; for more workers only.

    Raises:
        UsageError: If `workers` is below 1, or fewer than now are not to be waited for.
        NotReadyError: If the server does not run, another command is changing it, memory is
            short, or workers do not get READY: those that were started stay asked for.
        RefusedError: If fewer workers did not get READY: the version before serves on.
        ServerError: If the server answers with something else.
    """
    check_workers(workers)
    start = time.monotonic()
    with operator(server, f"scale {workers}") as management:
        model = default_version(management)
        version, before = model.version, len(model.workers)
        if workers < before and not wait:
            raise UsageError(
                f"going from {before} to {workers} workers must be waited for: the version "
                "that goes has to be drained; leave out --no-wait"
            )
        if workers < before:
            version = _scale_down(server, management, model, workers, wait_s)
        elif workers > before:
            check_memory(model, workers - before)
            management.scale_up(version, workers)
        if wait and workers >= before:
            server.wait_ready(workers, version=version, timeout_s=wait_s)
    return Scaled(version, before, workers, time.monotonic() - start)


def _scale_down(
    server: TorchServe,
    management: ManagementClient,
    old: ModelStatus,
    workers: int,
    wait_s: float,
) -> str:
    """Replace a version by a copy of itself with fewer workers; the new version's name."""
    new = next_version(model.version for model in management.versions())
    check_memory(old, workers)
    with staged_archive(server.config) as staged:
        pack_folder(served_folder(old), staged, new)
        with switch(server, management, old.version, new):
            management.register(staged.name, server.config.version_settings(staged, workers))
            server.wait_ready(workers, version=new, timeout_s=wait_s)
            management.set_default(new)
            drain(management, old.version)
    return new
