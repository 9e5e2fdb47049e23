"""Write files that are either there as a whole, or not at all."""

import os
from collections.abc import Iterable
from pathlib import Path

from catdog_serving.errors import NotReadyError


def write_whole(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file that appears under its name only when it is complete.

    Raises:
        NotReadyError: If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise NotReadyError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
