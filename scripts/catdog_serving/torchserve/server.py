"""One TorchServe: start until a worker is READY, stop without a trace.

    with TorchServe(ServingConfig.read(path)) as server:
        server.versions()

`catdog serve` and `catdog stop` are `start` and `stop` in two processes; the
run directory connects them.
"""

import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Self, TypeAlias

import psutil

from catdog_serving.config_folder import command_line
from catdog_serving.errors import NotReadyError, ServerError
from catdog_serving.sample_images import CAT
from catdog_serving.torchserve.asgi_process import start_asgi
from catdog_serving.torchserve.java import start_java, why_no_socket
from catdog_serving.torchserve.java_libraries import choose_libraries
from catdog_serving.torchserve.listeners import Listener, find_listener
from catdog_serving.torchserve.loaded_archive import file_state, record_start
from catdog_serving.torchserve.loaded_libraries import loaded_libraries
from catdog_serving.torchserve.management import ManagementClient, ModelStatus, poll
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.server_locks import start_lock
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.staged_files import ABANDONED_S, remove_staged
from catdog_serving.torchserve.start_checks import check_start
from catdog_serving.torchserve.start_options import StartOptions, as_served
from catdog_serving.torchserve.tokens import KeyFile, KeyFileAuth, open_client

READY_TIMEOUT_S = 180
STOP_TIMEOUT_S = 20.0
# Java's, or another program's, after `terminate` or `catdog stop`.
_STOPPED_CODES = (0, 128 + signal.SIGTERM, -signal.SIGTERM)
_FIRST_REQUESTS = 3  # sent by `start`, so that Java has its classes loaded before clients come


_AS_CONFIGURED = StartOptions()
StartProcess: TypeAlias = Callable[[ServingConfig, RunDirectory], "subprocess.Popen[bytes]"]


class TorchServe:
    """The server of one config.properties."""

    def __init__(self, config: ServingConfig) -> None:
        self.config = config
        self.run = RunDirectory.of(config)
        self._child: subprocess.Popen[bytes] | None = None
        self._name = "TorchServe"  # what a sentence calls it

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def is_running(self) -> bool:
        return self.run.process() is not None

    def stranger(self) -> Listener | None:
        """What listens at this server's addresses although catdog did not start it for this user.

        The first that is found; None while this server runs.
        """
        return None if self.is_running() else find_listener(self.config)

    def start(
        self,
        timeout_s: float = READY_TIMEOUT_S,
        *,
        options: StartOptions = _AS_CONFIGURED,
        on_warning: Callable[[str], None] = lambda _: None,
        on_work: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Start and wait until a worker is READY.

        Args:
            timeout_s: How long to wait.
            options: What config.properties does not say.
            on_warning: Is given a line if the server may lack what it could use.
            on_work: Is given a line before what takes a while.

        Raises:
            NotReadyError: If something is missing, another process is starting it, or the start
                fails; nothing of it stays behind, and the message ends with the log's tail.
        """
        with start_lock(self.run):
            if self.is_running():
                raise NotReadyError(
                    "the server of this configuration runs already; see: catdog status"
                )
            self._end_orphans()
            config, start_process, warnings = self.prepare(options)
            for warning in warnings:
                on_warning(warning)
            self.run.create()
            remove_staged(config.model_store, ABANDONED_S)
            self._name = "the server" if options.asgi else "TorchServe"
            on_work(f"starting {self._name}; waiting for a worker")
            self._start_and_wait(config, timeout_s, start_process, options)

    def prepare(self, options: StartOptions) -> tuple[ServingConfig, StartProcess, Sequence[str]]:
        """Check all that a start needs, which may be asked while the server runs.

        Returns:
            What it would run on, how it is started, and what to tell before.

        Raises:
            NotReadyError, RefusedError: If it would not start.
        """
        config = options.apply(self.config, self.run)
        held = self.served.endpoints().values() if self.is_running() else ()
        ports = {port for _, port in held}
        warnings = check_start(config, self.run, options.asgi, ports, options.port)
        if options.asgi:
            return config, start_asgi, warnings
        libraries = choose_libraries(config)
        return config, partial(start_java, libraries), (*libraries.warnings, *warnings)

    def _start_and_wait(
        self,
        config: ServingConfig,
        timeout_s: float,
        start_process: StartProcess,
        options: StartOptions,
    ) -> None:
        try:
            options.record(self.config, self.run)
            config.write_for_server(self.run.config)
            archive = file_state(config.archive)
            self._child = start_process(config, self.run)
            self.run.record(psutil.Process(self._child.pid))
            self.wait_ready(timeout_s=timeout_s)
            record_start(self.run, config.archive, archive)
            with open_client(config.inference_url, self.config.path) as client:
                for _ in range(_FIRST_REQUESTS):
                    client.classify(CAT)
            if loaded := loaded_libraries(self.run):
                self.run.logs.note(f"Java loaded {', '.join(found.line for found in loaded)}")
        except BaseException as error:
            tail = self.run.logs.tail()
            self.stop()
            if isinstance(error, NotReadyError):
                raise NotReadyError(f"{error}{why_no_socket(config, tail)}\n{tail}") from error
            if isinstance(error, OSError):
                where = error.filename or self.run.path
                raise NotReadyError(f"cannot start with {where}: {error.strerror}") from error
            raise

    def stop(self) -> bool:
        """End the server and its workers, and remove its run directory.

        Returns:
            Whether there was a server.
        """
        process = self.run.process() or self._child_process()
        orphans = False
        try:
            if process is not None:
                _end_family(process)
            if self._child is not None:
                self._child.wait(STOP_TIMEOUT_S)
        finally:
            orphans = self._end_orphans()
            self.run.remove()
        return process is not None or orphans

    def _child_process(self) -> psutil.Process | None:
        """The Java that this process started, which a start that was cut off did not record."""
        if self._child is None or self._child.poll() is not None:
            return None
        return psutil.Process(self._child.pid)

    @property
    def key_file(self) -> KeyFile:
        """The server's tokens; a file that is not there where it needs none."""
        return KeyFile(self.run.key_file, self.management_url)

    @property
    def served(self) -> ServingConfig:
        """The configuration with the addresses of the server that runs, if one does."""
        return as_served(self.config, self.run)

    @property
    def management_url(self) -> str:
        """Where the running server's management API is: http://HOST:PORT, or unix:/PATH."""
        return self.served.management_url

    def management(self) -> ManagementClient:
        """A client of this server's management API, with its token where one is needed."""
        file = self.key_file
        return ManagementClient(
            file.management_url,
            KeyFileAuth(file, "management"),
            start=command_line(self.config.path, "serve"),
        )

    def versions(self) -> list[ModelStatus]:
        with self.management() as client:
            return client.versions()

    def wait_ready(
        self,
        workers: int = 1,
        *,
        version: str | None = None,
        timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        """Wait until that many workers of a version are READY.

        Args:
            workers: How many.
            version: One that was asked for; None for the default.
            timeout_s: How long to wait.

        Raises:
            NotReadyError: If the server ends, a worker fails to load, or time runs out; it
                names the workers that are not READY, and the reason.
        """
        since = datetime.now()
        killed_before = self.run.killed_for_memory()
        process = self.run.process()
        found: ModelStatus | None = None

        def not_ready(reason: str) -> NotReadyError:
            ready = found.ready_workers if found else 0
            missing = [w.id for w in found.workers if w.status != "READY"] if found else []
            name = found.version if found else version
            return NotReadyError(
                f"{ready} of {workers} workers of version {name or '-'} are READY, "
                f"worker {', '.join(missing) or '-'} is not: {reason}"
            )

        def look() -> bool:
            nonlocal found
            found = self._find(version)
            if found and found.ready_workers >= workers:
                return True
            runs = self.run.process()
            if runs is None or (process is not None and runs != process):  # another was started
                # Its threads may be about to end: it has a code only after the last one.
                code = self._child.wait(STOP_TIMEOUT_S) if self._child else None
                how = "" if code is None else f" with exit code {code}"
                raise NotReadyError(
                    f"{self._name} ended{how} while workers were waited for{self._and_the_kernel()}"
                )
            failure = self.run.logs.last_failure(since) or self.run.logs.load_failure(since)
            killed = self.run.killed_for_memory()
            if failure is None and killed != killed_before:
                failure = killed
            if failure:  # TorchServe itself would try again for five minutes
                raise not_ready(failure)
            return False

        if not poll(look, timeout_s):
            raise not_ready(
                f"not within {timeout_s:g} s, and {self.run.logs.workers} has no reason"
            )

    def wait(self) -> None:
        """Wait until the server that this process started is stopped, and clean up.

        Raises:
            NotReadyError: If it ended by itself.
        """
        code = self._child.wait() if self._child else 0
        tail = self.run.logs.tail()
        why = self._and_the_kernel()
        self.stop()
        if code not in _STOPPED_CODES:
            raise NotReadyError(f"{self._name} ended by itself with exit code {code}{why}\n{tail}")

    def _and_the_kernel(self) -> str:
        """The end of a sentence of how the server ended."""
        killed = self.run.killed_for_memory()
        return f": {killed}" if killed else ""

    def terminate(self) -> None:
        """Tell the server to end; `wait` sees it through.

        Always by SIGTERM: a Java that a shell started in the background ignores SIGINT.
        """
        process = self.run.process()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.terminate()

    def _find(self, version: str | None) -> ModelStatus | None:
        """A version, or the default; None if it is not loaded or nothing answers yet."""
        with suppress(ServerError):
            for model in self.versions():
                if version in (None, model.version):
                    return model
        return None

    def _end_orphans(self) -> bool:
        """Kill workers that outlived a Java that was killed, and a Java that nobody recorded.

        Returns:
            Whether there were any.
        """
        orphans = list(self.run.processes())
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(orphans, timeout=STOP_TIMEOUT_S)
        return bool(orphans)


def _end_family(process: psutil.Process) -> None:
    """End Java and its workers, which it ends itself if it can."""
    try:
        family = [process, *process.children(recursive=True)]
        process.terminate()
    except psutil.NoSuchProcess:  # it just ended
        return
    _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
    for member in alive:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)
