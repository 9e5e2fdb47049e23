"""The lock of a run's state where the file system knows no locks: a file, with its owner in it.

It is taken over when its owner is dead on this machine: its process is gone, another has its
number, or the machine was started again since. What another machine holds is left alone, and what
another container holds, though it may have the name of this one.
"""

import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from catdog_serving.errors import NotReadyError

_MACHINE_ID = Path("/etc/machine-id")  # of the installation, the same after each start
_ATTEMPTS = 5  # to find the file gone, or its owner alive


def locks_work(folder: Path) -> bool:
    """Whether both kinds of locks work in a folder; tried on a scratch file of its own.

    Raises:
        OSError: If no file can be written there.
    """
    with tempfile.TemporaryFile(dir=folder) as scratch:
        try:
            fcntl.lockf(scratch, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(scratch, fcntl.LOCK_UN)  # over NFS the other kind is the same lock
            fcntl.flock(scratch, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # ENOLCK and ENOSYS are what is seen
            return False
    return True


@dataclass(frozen=True)
class _Owner:
    """Which process holds a lock.

    Attributes:
        host: The machine's name.
        machine_id: "" if it is not known.
        pid_namespace: In which process numbers are counted, such as "pid:[4026531836]".
        boot_id: Of its last start.
        pid: The process's number there.
        start_time: When the process began, in the kernel's ticks since that start.
    """

    host: str
    machine_id: str
    pid_namespace: str
    boot_id: str
    pid: int
    start_time: str

    @classmethod
    def this_process(cls) -> "_Owner":
        pid = os.getpid()
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        try:
            machine_id = _MACHINE_ID.read_text(encoding="ascii").strip()
        except OSError:
            machine_id = ""
        namespace = os.readlink("/proc/self/ns/pid")
        return cls(socket.gethostname(), machine_id, namespace, boot_id, pid, _start_time(pid))

    def is_dead(self) -> bool:
        """Whether it is known to be gone; of another machine or container nothing is known."""
        here = _Owner.this_process()
        if (self.host, self.machine_id) != (here.host, here.machine_id):
            return False
        if self.pid_namespace != here.pid_namespace:
            return False
        if self.boot_id != here.boot_id:  # only the same machine was started again
            return self.machine_id != ""
        return self.start_time != _start_time(self.pid)


@contextmanager
def lock_file(path: Path, held: Path) -> Iterator[None]:
    """Hold a lock that is a file until the end of the block.

    Args:
        path: The lock file.
        held: What it is the lock of, for messages.

    Raises:
        NotReadyError: If another process holds it, or may do so.
        OSError: If it cannot be written.
    """
    content = json.dumps(asdict(_Owner.this_process())).encode()
    for _ in range(_ATTEMPTS):
        try:
            with path.open("xb", buffering=0) as file:
                file.write(content)
            break
        except FileExistsError:
            _take_away(path, held)
    else:
        raise NotReadyError(f"other processes are about to work on {held}; try again")
    try:
        yield
    finally:
        if _content(path) == content:  # not one that somebody put there after deleting ours
            path.unlink()


def _take_away(path: Path, held: Path) -> None:
    """Remove the lock of a dead owner.

    Raises:
        NotReadyError: If it is not known to be dead.
    """
    content = _content(path)
    if content is None:  # gone just now
        return
    try:
        owner = _Owner(**json.loads(content))
    except (ValueError, TypeError) as error:
        raise NotReadyError(
            f"another catdog may be at work on {held}: its lock {path} names no process; delete "
            "it if there is none"
        ) from error
    if not owner.is_dead():
        raise NotReadyError(
            f"another catdog is at work on {held}: process {owner.pid} on {owner.host}; if it is "
            f"gone, delete {path}"
        )
    # Of several that found it, one renames it; the others find no file, or the lock of the first.
    aside = path.with_name(f"{path.name}-{os.getpid()}-{socket.gethostname()}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    renamed = _content(aside)
    if renamed is not None and renamed != content:  # of somebody who was faster, and is alive
        with suppress(FileExistsError), path.open("xb", buffering=0) as file:  # not a third's
            file.write(renamed)
    aside.unlink()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _start_time(pid: int) -> str:
    """When a process began, "" if it is gone: field 22 of its stat, counted after its name."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
