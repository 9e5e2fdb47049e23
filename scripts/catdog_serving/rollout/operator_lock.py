"""Operator lock: one operator at a time changes versions or workers of a server.

It lies in the run directory, so it is gone when the server stops.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.run_directory import RunDirectory

_LOCK = "operator.lock"


@contextmanager
def operator_lock(run: RunDirectory, command: str) -> Iterator[None]:
    """Keep other commands from changing versions or workers; a process that ends gives it back.

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
