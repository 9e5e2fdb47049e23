"""Which archive a running server has loaded: the file in the model store may be another by now.

What is recorded at a start and at a deploy is the SHA-256, and the file's state on disk at that
time: a file that has it yet is not read again, as `catdog status` is asked every few seconds.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from catdog_serving.model_archive import file_sha256
from catdog_serving.torchserve.run_directory import RunDirectory

_SHORT = 8  # digits that tell two archives apart for a reader

FileState = tuple[int, int, int]


def file_state(path: Path) -> FileState | None:
    """What changes when a file is replaced or written: inode, bytes, time; None without one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def record_start(run: RunDirectory, archive: Path, before: FileState | None) -> None:
    """Remember the archive that a server was started with, now that it has loaded it.

    Args:
        run: Where it runs.
        archive: The file.
        before: Its state before the start. If it is another now, nobody knows which of the two
            was loaded, and nothing is recorded.
    """
    with suppress(OSError):  # it was deleted just now, or the disk is full
        sha256 = file_sha256(archive)
        if before is not None and file_state(archive) == before:
            _write(run, sha256, before)


def record_deployed(run: RunDirectory, archive: Path, sha256: str) -> None:
    """Remember the archive that a deploy has put in place.

    Args:
        run: Where the server runs.
        archive: The file, which a `catdog package` may have replaced since.
        sha256: Of what was deployed; "" if a note of catdog 0.1 does not say.
    """
    run.loaded_archive.unlink(missing_ok=True)  # a full disk leaves nothing, and nothing wrong
    if not sha256:
        return
    state = file_state(archive)
    with suppress(OSError):
        unchanged = state is not None and file_sha256(archive) == sha256
        _write(run, sha256, state if unchanged else None)


def loaded_sha256(run: RunDirectory) -> str | None:
    """SHA-256 of the archive that the running server has loaded; None if nobody knows."""
    found: str | None = _recorded(run).get("sha256")
    return found


def archive_change(run: RunDirectory, archive: Path) -> str | None:
    """That the file is another archive than the one that runs, such as "archive bac8 -> 2103".

    None if it is the same, if it is gone, and if nobody knows what runs.
    """
    loaded, state = loaded_sha256(run), file_state(archive)
    if loaded is None or state is None or list(state) == _recorded(run).get("state"):
        return None
    try:
        now = file_sha256(archive)
    except OSError:
        return None
    return None if now == loaded else f"archive {loaded[:_SHORT]} -> {now[:_SHORT]}"


def _write(run: RunDirectory, sha256: str, state: FileState | None) -> None:
    run.loaded_archive.write_text(json.dumps({"sha256": sha256, "state": state}))


def _recorded(run: RunDirectory) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(run.loaded_archive.read_bytes())
    except (OSError, ValueError):  # no server, one of an older catdog, or not READY yet
        return {}
    return found
