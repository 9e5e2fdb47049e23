"""Switch a running server from one version of catdog to another, without a lost request.

What lost no request on a real server (and what a plain scale-down or DELETE does lose: the
batches under way and all that waits): register, wait until READY, make the other one the
default, drain, remove. Whatever fails on the way is undone, Ctrl-C included; a process that
was killed leaves its pending switch in the run directory, and the next command finishes it.
"""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import CatDogError, NotReadyError, RefusedError
from catdog_serving.model_archive import archive_version
from catdog_serving.monitoring.memory import available_bytes
from catdog_serving.rollout.archive_copy import settings_for
from catdog_serving.rollout.draining import drain
from catdog_serving.torchserve.management import ManagementClient, ModelStatus
from catdog_serving.torchserve.model_log import last_failure
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig

OnStep = Callable[[str], None]

# In the run directory. The name is older than the module's: a killed command may have left one.
_PENDING = "rollover.json"
_POLL_S = 0.2


@dataclass(frozen=True)
class PendingSwitch:
    """Two versions of which one is to go."""

    keep: str
    drop: str


def write_pending(run: RunDirectory, pending: PendingSwitch) -> None:
    """Remember what to do if this process does not live to do it."""
    atomic_write(run.path / _PENDING, [json.dumps(asdict(pending)).encode()])


def read_pending(run: RunDirectory) -> PendingSwitch | None:
    """Read what an operator's command that was killed left to do; None if there was none."""
    path = run.path / _PENDING
    return PendingSwitch(**json.loads(path.read_bytes())) if path.is_file() else None


def remove_pending(run: RunDirectory) -> None:
    (run.path / _PENDING).unlink(missing_ok=True)


@contextmanager
def staged_archive(config: ServingConfig) -> Iterator[Path]:
    """A path in the model store, where TorchServe finds archives; gone at the end."""
    path = config.model_store / ".catdog-next.mar"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def rollout(
    server: TorchServe,
    management: ManagementClient,
    archive: Path,
    workers: int,
    timeout_s: float,
    on_step: OnStep = lambda _: None,
) -> Iterator[tuple[ModelStatus, str]]:
    """Have another version READY; in the end the old one is removed, or on a failure the new.

    The body makes the new version the default and drains the old. If it raises, all is undone.

    Args:
        server: To be changed by nobody else meanwhile, see `operator_lock`.
        management: Its client.
        archive: In the model store, stamped with a version that is not loaded.
        workers: Of the new version.
        timeout_s: Until they are READY.
        on_step: Is told when all was undone.

    Yields:
        The old version as it was, and the new one's name.

    Raises:
        RefusedError: If anything failed; the old version serves as before.
        NotReadyError: If undoing failed as well.
    """
    old, new = default_version(management), archive_version(archive)
    check_memory(old, workers)
    undo = PendingSwitch(keep=old.version, drop=new)
    commit = PendingSwitch(keep=new, drop=old.version)
    since = datetime.now()
    write_pending(server.run, undo)
    try:
        management.register(archive.name, settings_for(archive, server.config, workers))
        wait_ready(server, management, new, workers, timeout_s, since)
        yield old, new
    except BaseException as error:
        with _uninterrupted():
            try:
                finish(server, management, undo)
            except CatDogError as stuck:
                raise NotReadyError(f"{error!s}; and it could not be undone: {stuck}") from error
        on_step(f"undone   version {old.version} serves as before")
        if isinstance(error, CatDogError):
            raise RefusedError(f"{error}; version {old.version} serves as before") from error
        raise
    with _uninterrupted():
        write_pending(server.run, commit)
        management.unregister(old.version)
        remove_pending(server.run)


def resume(server: TorchServe, management: ManagementClient) -> None:
    """Finish what a command that was killed has left, if there is something."""
    for leftover in server.config.model_store.glob(".catdog-*.mar"):
        leftover.unlink()
    pending = read_pending(server.run)
    if pending is not None:
        finish(server, management, pending)


def finish(server: TorchServe, management: ManagementClient, pending: PendingSwitch) -> None:
    """Make sure that one version is the default, and let the other one go."""
    loaded = {model.version: model for model in management.versions()}
    if pending.drop in loaded and pending.keep in loaded:
        if loaded[pending.drop].default:
            management.set_default(pending.keep)
        drain(management, pending.drop)
        management.unregister(pending.drop)
    remove_pending(server.run)


def default_version(management: ManagementClient) -> ModelStatus:
    """The version that answers requests.

    Raises:
        NotReadyError: If none is loaded.
    """
    versions = management.versions()
    if not versions:
        raise NotReadyError("the server has no catdog loaded; see: catdog status")
    return versions[0]


def served_folder(model: ModelStatus) -> Path:
    """Where the archive of a version was unpacked: what is served, whatever is on disk by now.

    Raises:
        NotReadyError: If none of its workers is READY.
    """
    for worker in model.ready:
        try:
            return Path(psutil.Process(worker.pid).cwd())
        except psutil.Error:
            continue  # it just died
    raise NotReadyError(f"no worker of version {model.version} is READY; see: catdog status")


def check_memory(model: ModelStatus, more: int) -> None:
    """Make sure that this machine has room for more workers like those of `model`.

    Raises:
        NotReadyError: If not.
    """
    sizes = [0]
    for worker in model.workers:
        try:
            sizes.append(psutil.Process(worker.pid).memory_info().rss)
        except (psutil.Error, ValueError):
            continue  # it just died, or is not there yet and has the pid -1
    free = available_bytes()
    if more * max(sizes) > free:
        raise NotReadyError(
            f"{more} more workers would take {more * max(sizes) / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory is free; choose fewer"
        )


def wait_ready(
    server: TorchServe,
    management: ManagementClient,
    version: str,
    workers: int,
    timeout_s: float,
    since: datetime,
) -> None:
    """Wait until that many workers of a version are READY.

    Args:
        server: Whose log says why a worker failed.
        management: Its client.
        version: One that was asked for.
        workers: How many.
        timeout_s: How long to wait.
        since: When they were asked for.

    Raises:
        NotReadyError: If one fails to load, or time runs out; it names those that are not READY.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = management.version(version)
        if found and found.ready_workers >= workers:
            return
        failure = last_failure(server.run.model_log, since)
        if failure is None and time.monotonic() > deadline:
            failure = f"not within {timeout_s:g} s, and {server.run.model_log} has no reason"
        if failure:  # TorchServe itself would try again for five minutes
            ready = found.ready_workers if found else 0
            missing = [w.id for w in found.workers if w.status != "READY"] if found else []
            raise NotReadyError(
                f"{ready} of {workers} workers of version {version} are READY, "
                f"worker {', '.join(missing) or '-'} is not: {failure}"
            )
        time.sleep(_POLL_S)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM have no effect: undoing half of it would be worse."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
