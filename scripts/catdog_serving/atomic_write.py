"""Atomic write: a file is there with all its content, or not at all."""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import takewhile
from pathlib import Path

from catdog_serving.errors import NotReadyError

_SCRATCH = ".catdog-tmp-"  # no other file of catdog's begins so: what does, is thrown away
_YOUNG_S = 60.0  # longer than one takes from the making to the lock
# A folder that may be written but not read; file systems whose folders cannot be waited for.
_CANNOT_SYNC = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def atomic_write(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file that appears under its name, or replaces what has it, when it is complete.

    Args:
        path: The file; its folder is made if missing.
        blocks: The content, taken as it is written.

    Raises:
        NotReadyError: If it cannot be written.
    """
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.writelines(blocks)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Atomic write for code that writes by itself: to the path that it is given here.

    Raises:
        NotReadyError: If it cannot be written.
    """
    try:
        make_folder(path.parent)
        with scratch_folder(path.parent) as scratch:
            partial = scratch / path.name
            yield partial
            with suppress(OSError):  # it is new, or the disk knows no modes
                shutil.copymode(path, partial)
            replace_file(partial, path)
    except OSError as error:
        raise NotReadyError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def scratch_folder(beside: Path | None = None) -> Iterator[Path]:
    """A private folder that is gone at the end; those that killed processes left go before.

    It is held by a lock on itself, so that it is known whether its process is at work.

    Args:
        beside: The folder to make it in; None for the system's temporary one.

    Raises:
        OSError: If it cannot be made.
    """
    folder = Path(tempfile.gettempdir()) if beside is None else beside
    _remove_leftovers_once(folder.absolute())
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
        descriptor = os.open(scratch, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with suppress(OSError):  # without locks it is left alone, too
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(scratch)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the scratch folders and files that killed processes of this user left in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_SCRATCH):
                with suppress(OSError):  # it is gone by now, or somebody else's
                    _remove_leftover(Path(entry.path))


_remove_leftovers_once = cache(remove_leftovers)  # a large folder is not listed for each file


def _remove_leftover(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid() or time.time() - status.st_mtime < _YOUNG_S:
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and what is missing above it, to any depth; pathlib makes them by recursion.

    Raises:
        OSError: If it cannot.
    """
    missing = list(takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    for path in (*reversed(missing[1:]), folder):
        path.mkdir(exist_ok=True)


def replace_file(path: Path, target: Path) -> None:
    """Give a complete file its name, so that a loss of power leaves the old content or the new.

    Raises:
        OSError: If it cannot.
    """
    sync(path)
    os.replace(path, target)
    sync_names(target.parent)


def sync_names(folder: Path) -> None:
    """Wait until a folder's names are on the disk, where it can be known.

    Raises:
        OSError: If they cannot be written.
    """
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def sync(path: Path) -> None:
    """Wait until a file's content is on the disk.

    Raises:
        OSError: If it cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
