"""The private folder of one running server: pid, locks, logs, keys, sockets.

It is found again by the configuration's path, so `catdog stop` needs no more
than `catdog serve` did. Everything in it goes when the server stops.
"""

import hashlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import psutil

from catdog.control_groups import oom_kills, read_oom_kills
from catdog_serving.atomic_write import atomic_write
from catdog_serving.config_folder import account_home
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.server_logs import ServerLogs
from catdog_serving.torchserve.serving_config import ServingConfig

SERVER_CLASS = "org.pytorch.serve.ModelServer"
ASGI_MODULE = "catdog_serving.asgi"  # of a server without Java

VARIABLE = "CATDOG_RUN_DIR"

ELSEWHERE = f"set {VARIABLE} to a folder of your own"
_FOR_ALL = Path("/var/tmp")  # noqa: S108 (a folder in it is checked, see `create`)
# A Unix socket's path holds 107 bytes on Linux; "/tmp/.ts.sock.NNNNN" comes behind this folder,
# or "/management.sock".
_MAX_PATH_BYTES = 80
_WORKER_PROGRAM = "model_service_worker.py"


@dataclass(frozen=True)
class RunDirectory:
    """Where one server's files are; `create` makes it."""

    path: Path

    @classmethod
    def of(cls, config: ServingConfig) -> "RunDirectory":
        """The run directory of a configuration, which need not exist.

        `run_directory=` of the file, else CATDOG_RUN_DIR, else the home that the password database
        has, else /var/tmp: nothing that cron, sudo, a log-out or a second login changes.

        Raises:
            NotReadyError: If what was asked for is relative, or too long for a Unix socket.
        """
        digest = hashlib.sha256(os.fsencode(config.path.resolve())).hexdigest()[:10]
        for key, value in (
            (f"run_directory in {config.path}", config.values.get("run_directory")),
            (VARIABLE, os.environ.get(VARIABLE)),
        ):
            if value:
                return cls(_asked_for(key, value) / f"catdog-{digest}")
        shared = _FOR_ALL / f"catdog-{os.getuid()}" / digest
        places = [*_in_home(f"{socket.gethostname()[:20]}-{digest}"), shared]
        fit = [path for path in places if len(os.fsencode(path)) <= _MAX_PATH_BYTES]
        # One that is in use wins, whatever has happened to the home since.
        return cls(next((path for path in fit if cls(path)._is_used()), fit[0]))

    @property
    def config(self) -> Path:
        return self.path / "config.properties"

    @property
    def temporary(self) -> Path:
        """TMPDIR and TEMP of the server: its sockets and unpacked archives."""
        return self.path / "tmp"

    @property
    def torchserve_home(self) -> Path:
        """A link to the site-packages that hold TorchServe."""
        return self.path / "home"

    @property
    def programs(self) -> Path:
        """What the server finds before the machine's own programs."""
        return self.path / "bin"

    @property
    def java_option(self) -> str:
        """What Java is told of `temporary`; it also tells this server's Java from any other."""
        return f"-Djava.io.tmpdir={self.temporary}"

    @property
    def asgi_settings(self) -> Path:
        """What a server without Java runs on; its command line names it, and no other server's."""
        return self.path / "asgi.json"

    @property
    def start_options(self) -> Path:
        """What the server was started with; see start_options.py."""
        return self.path / "start.json"

    @property
    def loaded_archive(self) -> Path:
        """Which archive the server has loaded; see loaded_archive.py."""
        return self.path / "archive.json"

    @property
    def logs(self) -> ServerLogs:
        return ServerLogs(self.path / "logs")

    @property
    def key_file(self) -> Path:
        return self.path / "key_file.json"

    @property
    def _pid_file(self) -> Path:
        return self.path / "pid"

    def create(self) -> None:
        """Make the folder anew, readable by this user alone.

        Raises:
            NotReadyError: If somebody else's folder or a link is in its place, or it cannot be
                made; nothing of it stays behind.
        """
        self.make_base()
        self.remove()
        try:
            self.path.mkdir(mode=0o700)
            self.temporary.mkdir()
            self.logs.folder.mkdir()
        except FileExistsError:
            raise NotReadyError(
                f"{self.path} belongs to another user or is a link; remove it, or {ELSEWHERE}"
            ) from None
        except OSError as error:
            if self.path.is_dir():
                shutil.rmtree(self.path, ignore_errors=True)
            raise NotReadyError(f"cannot make {error.filename}: {error.strerror}") from error

    def make_base(self) -> None:
        """Make the folder that this one lies in, which under /var/tmp anybody could have made."""
        base = self.path.parent
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = base.lstat()
        except OSError as error:
            raise NotReadyError(
                f"cannot make {error.filename}: {error.strerror}; {ELSEWHERE}"
            ) from error
        theirs = status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode)
        if base.parent == _FOR_ALL and (theirs or status.st_mode & 0o077):
            raise NotReadyError(
                f"{base} is not a folder of this user alone; remove it, or {ELSEWHERE}"
            )

    def remove(self) -> None:
        """Delete the folder, if it is this user's.

        Raises:
            NotReadyError: If it cannot be deleted.
        """
        if self._is_ours():
            try:
                shutil.rmtree(self.path)
            except OSError as error:
                raise NotReadyError(f"cannot delete {self.path}: {error.strerror}") from error

    def _is_used(self) -> bool:
        """Whether a server of this user has it; anybody may make folders in the shared place."""
        is_safe = self._is_ours() and RunDirectory(self.path.parent)._is_ours()
        return is_safe and os.path.isfile(self._pid_file)

    def _is_ours(self) -> bool:
        """Whether it is a folder of this user, and no link."""
        try:
            status = self.path.lstat()
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()

    def record(self, process: psutil.Process) -> None:
        """Remember the server's process.

        Raises:
            NotReadyError: If it cannot be written.
        """
        entry = {
            "pid": process.pid,
            "create_time": process.create_time(),
            "oom_kills": oom_kills(process.pid),
        }
        atomic_write(self._pid_file, [json.dumps(entry, default=str).encode()])

    def runs_without_java(self) -> bool:
        """Whether a server runs, and it is one of `catdog serve --server asgi`."""
        try:
            process = self.process()
            return process is not None and self._is_asgi(process.cmdline())
        except psutil.Error:  # it just ended
            return False

    def process(self) -> psutil.Process | None:
        """The server's process, Java or `catdog_serving.asgi`; None if it does not run.

        A reused pid is not taken for it.

        A server whose pid file is missing or torn is found by its command line.
        """
        return self._recorded_process() or next(
            (found for found in self.processes() if self._is_server(found.info["cmdline"])), None
        )

    def processes(self) -> Iterator[psutil.Process]:
        """This user's processes that are this server's: itself, and the workers of any Java."""
        for process in psutil.process_iter(["cmdline", "status", "uids"]):
            uids, arguments = process.info["uids"], process.info["cmdline"]
            if uids is None or uids.real != os.getuid() or not arguments:
                continue
            ours = self._is_server(arguments) or self._is_worker(arguments)
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                yield process

    def _is_server(self, arguments: Sequence[str]) -> bool:
        is_java = SERVER_CLASS in arguments and self.java_option in arguments
        return is_java or self._is_asgi(arguments)

    def _is_asgi(self, arguments: Sequence[str]) -> bool:
        return ASGI_MODULE in arguments and str(self.asgi_settings) in arguments

    def _is_worker(self, arguments: Sequence[str]) -> bool:
        """Whether it is TorchServe's worker program, on a socket in this folder."""
        return any(Path(argument).name == _WORKER_PROGRAM for argument in arguments) and any(
            option == "--sock-name" and Path(name).parent == self.temporary
            for option, name in pairwise(arguments)
        )

    def _recorded_process(self) -> psutil.Process | None:
        try:
            if not self._is_ours():
                return None
            entry = json.loads(self._pid_file.read_text())
            process = psutil.Process(entry["pid"])
            if process.create_time() != entry["create_time"]:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
            return None  # no pid, none that can be read, or it ended while it was looked at

    def why_a_worker_died(self, since: datetime | None = None) -> str | None:
        """The reason that its log has since that local time, or the kernel; None without any."""
        return self.logs.last_failure(since) or self.killed_for_memory()

    def killed_for_memory(self) -> str | None:
        """That the kernel killed processes of the server's control group for memory, if it did.

        TorchServe itself says no more than that a worker died. Another count is another sentence.
        """
        try:
            counter, before = json.loads(self._pid_file.read_text())["oom_kills"]
        except (OSError, ValueError, KeyError, TypeError):
            return None  # no server, or a kernel that does not count them
        rose = (read_oom_kills(Path(counter)) or 0) - before
        if rose <= 0:
            return None
        return (
            f"out of memory: the kernel killed {rose} since the server started (oom_kill in "
            f"{counter}); allow it more memory, or use fewer workers"
        )

    def free_bytes(self) -> int:
        """Room on the disk that the folder is on, or will be.

        Raises:
            NotReadyError: If it cannot be looked at.
        """
        made = next(path for path in (self.path, *self.path.parents) if os.path.isdir(path))
        try:
            return shutil.disk_usage(made).free
        except OSError as error:
            raise NotReadyError(f"cannot look into {made}: {error.strerror}") from error

    def used_bytes(self) -> int:
        """What its files take of the disk; they may come and go meanwhile."""
        used = 0
        for folder, _, names in os.walk(self.path) if self._is_ours() else ():
            for name in names:
                with suppress(FileNotFoundError):
                    used += os.lstat(os.path.join(folder, name)).st_blocks * 512
        return used


def _asked_for(key: str, value: str) -> Path:
    """The base folder that somebody named."""
    base = Path(value)
    if not base.is_absolute():
        raise NotReadyError(f"{key} is {value}, and must begin with /")
    if len(os.fsencode(base)) > _MAX_PATH_BYTES - len("/catdog-0123456789"):
        raise NotReadyError(f"{key} is {value}, which is too long for a Unix socket in it")
    return base


def _in_home(name: str) -> list[Path]:
    """The run directory below this user's home; none if it has no home that it can use."""
    home = account_home()
    if home is None:
        return []
    try:
        usable = home.stat().st_uid == os.getuid() and os.access(home, os.W_OK | os.X_OK)
    except OSError:  # no such folder
        return []
    return [home / ".local" / "state" / "catdog" / "run" / name] if usable else []
