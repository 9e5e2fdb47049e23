"""Switch a running server from one version of catdog to another, without a lost request.

    with operator(server, "deploy") as management:
        with switch(server, management, old, new):
            ...  # register `new`, wait until it is READY, make it the default, drain `old`

What lost no request on a real server (and what a plain scale-down or DELETE does lose: the
batches under way and all that waits): register, wait until READY, make the other one the
default, drain, remove. Whatever fails on the way is undone, Ctrl-C included; a process that
was killed leaves its pending switch in the run directory, and the next command finishes it.
"""

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

from catdog_serving.atomic_write import replace_file
from catdog_serving.errors import CatDogError, NotReadyError, RefusedError, ServerError
from catdog_serving.model_archive import file_sha256
from catdog_serving.rollout.drain import drain
from catdog_serving.rollout.lost_server import LostServerError, is_lost, lost_server, refuse_lost
from catdog_serving.torchserve.loaded_archive import record_deployed
from catdog_serving.torchserve.management import ManagementClient, ModelStatus, poll
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.server_locks import operator_lock
from catdog_serving.torchserve.staged_files import next_archive, remove_staged

OnStep = Callable[[str], None]

# A version that TorchServe was asked to load shows within this time: it unpacks the archive first.
REGISTERED_S = 5.0
_PAUSE_S = 0.2

# In the run directory. The name is older than the function's: a killed command may have left one.
_PENDING = "rollover.json"


# --- one operator at a time ---------------------------------------------------------------------


@contextmanager
def operator(server: TorchServe, command: str) -> Iterator[ManagementClient]:
    """Change versions or workers of a server as the only one; yields its management API.

    What a command that was killed has left is finished first.

    Args:
        server: Which one.
        command: What to tell another operator, such as "deploy".

    Raises:
        NotReadyError: If the server does not run, another command is changing it, or it is
            stopped meanwhile.
    """
    with operator_lock(server.run, command), server.management() as management:
        process = server.run.process()
        pending = read_pending(server.run)
        if pending is not None:
            _finish(server, management, pending)
        _remove_staged(server)
        try:
            yield management
        except (NotReadyError, ServerError) as error:
            lost = None
            if not isinstance(error, LostServerError):
                lost = lost_server(server, process, error)
            if lost:
                raise lost from error
            raise
        finally:
            _remove_staged(server)


def _remove_staged(server: TorchServe) -> None:
    """Delete what commands lay into the model store, but for what a pending switch needs yet."""
    if read_pending(server.run) is None:
        remove_staged(server.config.model_store)


# --- commit or undo -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Replacement:
    """A complete file that is to take another's place.

    Attributes:
        staged: Where it lies until then.
        target: The place.
        sha256: Of the file: at the place, it tells that this was done. A note of catdog 0.1 has
            none.
    """

    staged: str
    target: str
    sha256: str = ""

    def is_done(self) -> bool:
        target = Path(self.target)
        return not self.sha256 or (target.is_file() and file_sha256(target) == self.sha256)


@dataclass(frozen=True)
class PendingSwitch:
    """Two versions of which one is to go.

    Attributes:
        keep: The one that is to be the default.
        drop: The one that is to go.
        files: What replaces what, in this order, where that was not done already.
    """

    keep: str
    drop: str
    files: tuple[Replacement, ...] = ()


@contextmanager
def switch(
    server: TorchServe,
    management: ManagementClient,
    old: str,
    new: str,
    *,
    files: Mapping[Path, Path] = MappingProxyType({}),
    on_step: OnStep = lambda _: None,
) -> Iterator[None]:
    """Let the new version stay if the body ends, and the old one if it raises.

    Args:
        server: To be changed by nobody else meanwhile, see `operator`.
        management: Its client.
        old: The default. The body makes the new one the default, and drains the old.
        new: Not loaded yet: the body registers it.
        files: What replaces what, in this order, when the new version is to stay.
        on_step: Is told before anything is undone, and when all was.

    Raises:
        RefusedError: If anything failed; the old version serves as before.
        NotReadyError: If undoing failed as well, or the new version stays and a file could not
            be replaced: the next command tries again.
        LostServerError: If the server was stopped meanwhile.
    """
    process = server.run.process()
    undone = PendingSwitch(keep=old, drop=new)
    replacements = (Replacement(str(a), str(b), file_sha256(a)) for a, b in files.items())
    committed = PendingSwitch(new, old, tuple(replacements))
    decided = False
    write_pending(server.run, undone)
    try:
        yield
        with _signals_held():
            refuse_lost(server, process)
            write_pending(server.run, committed)
            decided = True
            _replace(server, committed)
            refuse_lost(server, process)  # another may run, whose versions are its own
            management.unregister(old)
            remove_pending(server.run)
    except BaseException as error:
        if decided:
            is_changed = bool(files) and all(file.is_done() for file in committed.files)
            if is_changed or not files:
                lost = lost_server(server, process, error, is_changed=is_changed)
                if lost:
                    raise lost from error
            raise
        with _signals_held():
            _undo(server, management, undone, process, error, on_step)
        if isinstance(error, CatDogError):
            raise RefusedError(f"{error}; version {old} serves as before") from error
        raise


def _undo(
    server: TorchServe,
    management: ManagementClient,
    undone: PendingSwitch,
    process: psutil.Process | None,
    error: BaseException,
    on_step: OnStep,
) -> None:
    """Go back to the old version, unless the server has gone and both versions with it."""
    lost = lost_server(server, process, error) if is_lost(server, process) else None
    if lost:
        raise lost from error
    on_step(f"undoing  version {undone.drop} goes, and {undone.keep} stays")
    try:
        _finish(server, management, undone)
    except CatDogError as stuck:
        lost = lost_server(server, process, stuck)
        if lost:
            raise lost from error
        raise NotReadyError(f"{error!s}; and it could not be undone: {stuck}") from error
    on_step(f"undone   version {undone.keep} serves as before")


def _replace(server: TorchServe, pending: PendingSwitch) -> None:
    for file in pending.files:
        try:
            replace_file(Path(file.staged), Path(file.target))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and file.is_done():
                continue  # by the command that was killed
            raise NotReadyError(
                f"version {pending.keep} serves, but {file.target} cannot be replaced by "
                f"{file.staged}: {error.strerror}; mend that, and the next command such as "
                "catdog deploy goes on, or restart the server: it serves what is there then"
            ) from error
    archive = server.config.archive
    for file in pending.files:
        if Path(file.target) == archive:
            record_deployed(server.run, archive, file.sha256)


def write_pending(run: RunDirectory, pending: PendingSwitch) -> None:
    """Remember what to do if this process does not live to do it.

    It need not outlive the machine: the server would not, either.

    Raises:
        NotReadyError: If it cannot be written.
    """
    partial = run.path / f"{_PENDING}.partial"
    try:
        partial.write_text(json.dumps(asdict(pending)))
        partial.replace(run.path / _PENDING)
    except OSError as error:
        raise NotReadyError(f"cannot write {partial}: {error.strerror}") from error


def read_pending(run: RunDirectory) -> PendingSwitch | None:
    """Read what an operator's command that was killed left to do; None if there was none."""
    path = run.path / _PENDING
    if not path.is_file():
        return None
    values = json.loads(path.read_bytes())
    found = values.get("files", ())
    files = (Replacement(*f) if isinstance(f, list) else Replacement(**f) for f in found)
    return PendingSwitch(values["keep"], values["drop"], tuple(files))


def remove_pending(run: RunDirectory) -> None:
    (run.path / _PENDING).unlink(missing_ok=True)


def _finish(server: TorchServe, management: ManagementClient, pending: PendingSwitch) -> None:
    """Replace files, make sure that one version is the default, and let the other one go."""
    _replace(server, pending)
    if next_archive(server.config.model_store).exists():
        # It may have been asked for just now, by a command that did not wait for the answer.
        poll(lambda: management.version(pending.drop), REGISTERED_S, _PAUSE_S)
    loaded = {model.version: model for model in management.versions()}
    if pending.drop in loaded and pending.keep in loaded:
        if loaded[pending.drop].default:
            management.set_default(pending.keep)
        drain(management, pending.drop)
        management.unregister(pending.drop)
    remove_pending(server.run)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals have their effect at the end: undoing half of it would be worse."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda came, _: held.append(came)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        for came in held[:1]:
            signal.raise_signal(came)


# --- what is served -----------------------------------------------------------------------------


def default_version(management: ManagementClient) -> ModelStatus:
    """The version that answers requests.

    Raises:
        NotReadyError: If none is loaded.
    """
    versions = management.versions()
    if not versions:
        raise NotReadyError("the server has no catdog loaded; load it again with: catdog restart")
    return versions[0]


def served_folder(model: ModelStatus) -> Path:
    """Where the archive of a version was unpacked: what is served, whatever is on disk by now.

    Raises:
        NotReadyError: If none of its workers is READY.
    """
    for worker in model.ready:
        with suppress(psutil.Error):  # it just died
            return Path(psutil.Process(worker.pid).cwd())
    raise NotReadyError(f"no worker of version {model.version} is READY; see: catdog status")
