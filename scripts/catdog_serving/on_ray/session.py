"""A Ray to work on: a private one on this machine, or a cluster that is there already."""

import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catdog.cpu import usable_cores
from catdog_serving.atomic_write import scratch_folder
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.extras import install_hint

# A Unix socket's path holds 107 bytes on Linux, and Ray puts 66 behind this folder:
# /session_2026-01-01_00-00-00_000000_PID/sockets/plasma_store
_MAX_PATH_BYTES = 40
# Beside the archive, which each node keeps once: paths and rows are small, images never
# come here.
_OBJECT_STORE_BYTES = 256 * 2**20
_CONNECT_TIMEOUT_S = 10
# Ray reads these when it is imported. Its messages about lost actors would go to standard
# output, in between the rows.
_QUIET = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
}


def _silence() -> None:
    """Set what Ray reads when it is imported: nothing is sent home, whatever the shell says."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@contextmanager
def running_ray(address: str | None, archive_bytes: int) -> Iterator[None]:
    """Be connected to a Ray until the end of the block.

    Args:
        address: Of a cluster that this machine is part of, "auto" or "host:port". None: a
            Ray of our own on this machine, on loopback only, without a dashboard, which
            ends, with all its processes and files, at the end of the block.
        archive_bytes: Size of the archive that will be put into its object store.

    Raises:
        UsageError: If the address is one of Ray Client, through which Ray Data does not run.
        NotReadyError: If the extra `ray` is not installed, or no cluster answers.
    """
    if address and "://" in address:
        raise UsageError(
            f"Ray Data does not run through {address}; start the command on a machine of the "
            "cluster with --address auto, or HOST:PORT of its head"
        )
    _silence()
    if address is None:
        _close_to_others()
    try:
        import ray
        import ray.data
        from ray.exceptions import RayError
    except ImportError as error:
        raise NotReadyError(
            f"--backend ray needs {error.name}; run: {install_hint('ray')}"
        ) from error
    with scratch_folder(_short_folder()) as scratch:
        folder = str(scratch)
        settings: dict[str, Any] = {"address": address}
        if address is None:
            settings = {
                "address": "local",
                "num_cpus": usable_cores(),
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES + 2 * archive_bytes,
                "_temp_dir": folder,
            }
        try:
            _knock(address)
            with _stderr_into(Path(folder, "chatter.log")), _temporary_files_in(folder):
                ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            where = f"no Ray answers at {address}" if address else "Ray does not start"
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise NotReadyError(f"{where}: {reason}") from error
        try:
            _be_quiet()
            yield
        finally:
            ray.shutdown(wait_for_processes=True)  # they still write into the folder


def _knock(address: str | None) -> None:
    """Find out soon that nothing listens there: Ray would try for minutes."""
    host, separator, port = (address or "").rpartition(":")
    if separator and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()


def _close_to_others() -> None:
    """Have the local Ray listen on loopback, and run nothing without a token of its own.

    Ray reads all this when it is imported, and would listen on all addresses otherwise.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it does the same on Linux
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _short_folder() -> Path:
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) + 21 <= _MAX_PATH_BYTES else Path("/tmp")  # noqa: S108


@contextmanager
def _stderr_into(file: Path) -> Iterator[None]:
    """Keep from the terminal what Ray's C++ code writes to it, past Python's logging."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with file.open("wb") as opened:
            os.dup2(opened.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Have the processes that are started here keep theirs in a folder: Ray kills its actors."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _be_quiet() -> None:
    """Leave the terminal to our own progress; Ray's logs are in its folder."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    context.max_consecutive_actor_init_deaths = 3  # as when an actor is lost later
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised, too
