"""One process at a time: who starts a server, or changes versions or workers, keeps others out."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.torchserve.run_directory import ELSEWHERE, RunDirectory


@contextmanager
def start_lock(run: RunDirectory) -> Iterator[None]:
    """Keep others from starting a server here; a process that ends gives it back.

    The file lies beside the folder, which a start makes anew.

    Raises:
        NotReadyError: If another process is starting one.
    """
    run.make_base()
    path = run.path.with_name(f"{run.path.name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise NotReadyError(
            f"cannot open {path}: {error.strerror}; remove it, or {ELSEWHERE}"
        ) from error
    with open(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), path.lstat()):
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError):  # the latter: it was just given back
            raise NotReadyError(
                "another command is starting this server just now; see: catdog status"
            ) from None
        except OSError as error:
            raise NotReadyError(f"cannot lock {path}: {error.strerror}; {ELSEWHERE}") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def operator_lock(run: RunDirectory, command: str) -> Iterator[None]:
    """Keep others from changing a server; a process that ends gives the lock back.

    Args:
        run: The server's.
        command: What to tell another operator, such as "deploy".

    Raises:
        NotReadyError: If the server does not run, or another command is changing it.
        RefusedError: If it runs without Java.
    """
    if run.process() is None:
        raise NotReadyError(
            "no server of this configuration runs that catdog started; start it with: catdog serve"
        )
    refuse_without_java(run, command)
    with change_lock(run, command):
        yield


@contextmanager
def change_lock(run: RunDirectory, command: str) -> Iterator[None]:
    """As `operator_lock`, for any server; without one there is nothing to lock.

    The file goes with the folder when the server is stopped, and a start makes both anew: it
    does not meet the lock of the one that stopped it.

    Raises:
        NotReadyError: If another command is changing the server, or it cannot be locked.
    """
    if run.process() is None:
        yield
        return
    try:
        file = (run.path / "operator.lock").open("a+")
    except FileNotFoundError:  # it was just stopped
        yield
        return
    except OSError as error:
        raise NotReadyError(
            f"cannot open {run.path}/operator.lock: {error.strerror}; {ELSEWHERE}"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read() or "another command"
            raise NotReadyError(
                f"{who} is changing this server; try again when it is done"
            ) from None
        except OSError as error:
            raise NotReadyError(
                f"cannot lock {file.name}: {error.strerror}; {ELSEWHERE}"
            ) from error
        file.truncate(0)
        file.write(f"catdog {command} (process {os.getpid()})")
        file.flush()
        yield


def refuse_without_java(run: RunDirectory, command: str) -> None:
    """Raises RefusedError if that server runs, which has one worker with one archive."""
    if run.runs_without_java():
        raise RefusedError(
            f"catdog {command} is TorchServe's, and this server runs without Java, "
            "as one worker with one archive; run: catdog stop && catdog serve"
        )
