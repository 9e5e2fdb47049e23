"""One operator at a time, and a note of what to undo if one is killed.

Both lie in the run directory, so they are gone when the server stops.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.run_directory import RunDirectory

_LOCK = "operator.lock"
_NOTE = "rollover.json"


@contextmanager
def exclusive(run: RunDirectory, command: str) -> Iterator[None]:
    """Nobody else changes versions or workers meanwhile; the lock goes with this process.

    Args:
        run: Of the server that will be changed.
        command: What to tell another operator, such as "deploy".

    Raises:
        NotReadyError: If the server does not run, or another command is changing it.
    """
    if run.process() is None:
        raise NotReadyError(
            "no server of this configuration runs that catdog started; start it with: catdog serve"
        )
    with (run.path / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read() or "another command"
            raise NotReadyError(
                f"{who} is changing this server; try again when it is done"
            ) from None
        file.truncate(0)
        file.write(f"catdog {command} (process {os.getpid()})")
        file.flush()
        yield


@dataclass(frozen=True)
class Unfinished:
    """Two versions of which one is to go."""

    keep: str
    drop: str


def write_note(run: RunDirectory, note: Unfinished) -> None:
    """Remember what to do if this process does not live to do it."""
    atomic_write(run.path / _NOTE, [json.dumps(asdict(note)).encode()])


def read_note(run: RunDirectory) -> Unfinished | None:
    """What an operator's command that was killed left to do; None if there was none."""
    path = run.path / _NOTE
    return Unfinished(**json.loads(path.read_bytes())) if path.is_file() else None


def remove_note(run: RunDirectory) -> None:
    (run.path / _NOTE).unlink(missing_ok=True)
