"""Atomic write: a file is there with all its content, or not at all."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".catdog-", dir=path.parent) as scratch:
            partial = Path(scratch, path.name)
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    except OSError as error:
        raise NotReadyError(f"cannot write {path}: {error.strerror or error}") from error
