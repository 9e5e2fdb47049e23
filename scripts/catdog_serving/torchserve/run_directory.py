"""The private folder of one running server: pid, lock, logs, keys, sockets.

It is found again by the configuration's path, so `catdog stop` needs no more
than `catdog serve` did. Everything in it goes when the server stops.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import psutil

from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import NotReadyError

SERVER_CLASS = "org.pytorch.serve.ModelServer"

# A Unix socket's path holds 107 bytes on Linux; "/tmp/.ts.sock.NNNNN" comes behind this folder.
_MAX_PATH_BYTES = 80
_TAIL_BYTES = 256_000
_WORKER_PROGRAM = "model_service_worker.py"
_WORKER_DIED = "Backend worker process died."  # TorchServe's worker says so before a traceback
_TRACEBACK = "Traceback (most recent call last):"
# After an ImportError in the handler TorchServe looks for a handler of its own with that name, and
# this is the last thing that it complains about; the reason came before.
_SECOND_TRY = "No module named 'ts.torch_handler."


@dataclass(frozen=True)
class RunDirectory:
    """Where one server's files are; `create` makes it."""

    path: Path

    @classmethod
    def of(cls, config: Path) -> "RunDirectory":
        """The run directory of a configuration, which need not exist."""
        digest = hashlib.sha256(str(config.resolve()).encode()).hexdigest()[:10]
        given = Path(os.environ.get("XDG_RUNTIME_DIR") or os.devnull)
        # One of another user, as sudo leaves it, or that went with a login is of no use.
        base = given if _is_own_folder(given) else Path(tempfile.gettempdir())
        path = base / f"catdog-{digest}"
        if len(os.fsencode(path)) > _MAX_PATH_BYTES:
            path = Path("/tmp") / path.name  # noqa: S108 (made private in `create`)
        return cls(path)

    @property
    def config(self) -> Path:
        return self.path / "config.properties"

    @property
    def temporary(self) -> Path:
        """TMPDIR and TEMP of the server: its sockets and unpacked archives."""
        return self.path / "tmp"

    @property
    def java_option(self) -> str:
        """What Java is told of `temporary`; it also tells this server's Java from any other."""
        return f"-Djava.io.tmpdir={self.temporary}"

    @property
    def console_log(self) -> Path:
        """What Java prints: its own trouble at the start."""
        return self.path / "logs" / "console.log"

    @property
    def model_log(self) -> Path:
        """What the workers print."""
        return self.path / "logs" / "model.log"

    @property
    def key_file(self) -> Path:
        return self.path / "key_file.json"

    @property
    def _pid_file(self) -> Path:
        return self.path / "pid"

    def create(self) -> None:
        """Make the folder anew, readable by this user alone.

        Raises:
            NotReadyError: If somebody else's folder or a link is in its place.
        """
        self.remove()
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            raise NotReadyError(
                f"{self.path} belongs to another user or is a link; remove it, or set "
                "XDG_RUNTIME_DIR to a folder of your own"
            ) from None
        except OSError as error:
            raise NotReadyError(f"cannot make {self.path}: {error.strerror}") from error
        self.temporary.mkdir()
        self.console_log.parent.mkdir()

    def remove(self) -> None:
        """Delete the folder, if it is this user's.

        Raises:
            NotReadyError: If it cannot be deleted.
        """
        if _is_own_folder(self.path):
            try:
                shutil.rmtree(self.path)
            except OSError as error:
                raise NotReadyError(f"cannot delete {self.path}: {error.strerror}") from error

    def record(self, process: psutil.Process) -> None:
        """Remember the server's Java process.

        Raises:
            NotReadyError: If it cannot be written.
        """
        entry = {"pid": process.pid, "create_time": process.create_time()}
        atomic_write(self._pid_file, [json.dumps(entry).encode()])

    def process(self) -> psutil.Process | None:
        """The server's Java process; None if it does not run (a reused pid is not taken for it).

        A server whose pid file is missing or torn is found by its command line.
        """
        return self._recorded_process() or next(
            (found for found in self.processes() if self._is_java(found.info["cmdline"])), None
        )

    def processes(self) -> Iterator[psutil.Process]:
        """This user's processes that are this server's: its Java, and the workers of any Java."""
        for process in psutil.process_iter(["cmdline", "status", "uids"]):
            uids, arguments = process.info["uids"], process.info["cmdline"]
            if uids is None or uids.real != os.getuid() or not arguments:
                continue
            ours = self._is_java(arguments) or self._is_worker(arguments)
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                yield process

    def _is_java(self, arguments: Sequence[str]) -> bool:
        return SERVER_CLASS in arguments and self.java_option in arguments

    def _is_worker(self, arguments: Sequence[str]) -> bool:
        """Whether it is TorchServe's worker program, on a socket in this folder."""
        return any(Path(argument).name == _WORKER_PROGRAM for argument in arguments) and any(
            option == "--sock-name" and Path(name).parent == self.temporary
            for option, name in pairwise(arguments)
        )

    def _recorded_process(self) -> psutil.Process | None:
        if not _is_own_folder(self.path):
            return None
        try:
            entry = json.loads(self._pid_file.read_text())
            process = psutil.Process(entry["pid"])
            if process.create_time() != entry["create_time"]:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
            return None  # no pid, none that can be read, or it ended while it was looked at

    @contextmanager
    def start_lock(self) -> Iterator[None]:
        """Keep others from starting a server here; a process that ends gives it back.

        The file lies beside the folder, which a start makes anew.

        Raises:
            NotReadyError: If another process is starting one.
        """
        path = self.path.with_name(f"{self.path.name}.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise NotReadyError(
                f"cannot open {path}: {error.strerror}; remove it, or set XDG_RUNTIME_DIR to a "
                "folder of your own"
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
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def operator_lock(self, command: str) -> Iterator[None]:
        """Keep others from changing versions or workers; a process that ends gives it back.

        Args:
            command: What to tell another operator, such as "deploy".

        Raises:
            NotReadyError: If the server does not run, or another command is changing it.
        """
        if self.process() is None:
            raise NotReadyError(
                "no server of this configuration runs that catdog started; "
                "start it with: catdog serve"
            )
        with (self.path / "operator.lock").open("a+") as file:
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

    def loaded_at(self) -> float:
        """When the archive was loaded, by the clock of the file system."""
        return self._pid_file.stat().st_mtime

    def record_loaded(self) -> None:
        """Remember that the archive that is on disk now is the one that is served."""
        self._pid_file.touch()

    def log_tail(self, lines: int = 25) -> str:
        """The last lines of the workers' log and of the console."""
        parts = []
        for log in (self.console_log, self.model_log):
            if log.is_file():
                tail = _last_lines(log)[-lines:]
                parts += [f"--- {log.name}, last {len(tail)} lines", *tail]
        return "\n".join(parts)

    def last_failure(self, since: datetime | None = None) -> str | None:
        """The last line of the last traceback that ended a worker; None if none died of one.

        Only the log's last 256 kB are read: it is asked for several times a second.

        Args:
            since: Failures before that local time do not count.
        """
        if not self.model_log.is_file():
            return None
        first = since.isoformat(timespec="milliseconds").replace(".", ",") if since else ""
        entries = (  # a time stamp, a space, and what the worker printed
            line.partition(" ") for line in _last_lines(self.model_log)
        )
        lines = [text for stamp, _, text in entries if stamp >= first]
        deaths = [number for number, line in enumerate(lines) if line.startswith(_WORKER_DIED)]
        if not deaths:
            return None
        reasons = []
        in_traceback = False
        for line in lines[deaths[-1] + 1 :]:
            if line == _TRACEBACK:
                in_traceback = True
            elif in_traceback and line and not line.startswith(" "):
                reasons.append(line)  # the first line that is not indented ends the traceback
                in_traceback = False
        if not reasons:
            return None  # the traceback is just being written, line by line
        telling = [reason for reason in reasons if _SECOND_TRY not in reason]
        return (telling or reasons)[-1]


def _is_own_folder(path: Path) -> bool:
    """Whether it is a folder of this user, and no link."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _last_lines(log: Path) -> list[str]:
    """The whole lines at the end of a log that may be large."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[1:] if size > _TAIL_BYTES else lines
