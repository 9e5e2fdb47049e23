"""Atomic write: a file is there with all its content, or not at all."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from catdog_serving.errors import NotReadyError


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
        with tempfile.TemporaryDirectory(prefix=".catdog-", dir=path.parent) as scratch:
            partial = Path(scratch, path.name)
            yield partial
            replace_file(partial, path)
    except OSError as error:
        raise NotReadyError(f"cannot write {path}: {error.strerror or error}") from error


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
    sync(target.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk.

    Raises:
        OSError: If they cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
