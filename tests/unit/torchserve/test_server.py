"""How a server is started and stopped, where no Java needs to run."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve import server as module
from catdog_serving.torchserve.run_directory import SERVER_CLASS, RunDirectory
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.configs import MakeConfig


@pytest.fixture
def server(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> TorchServe:
    """One whose checks pass, and whose Java is a process that sleeps."""
    made = TorchServe(make_config(None))
    monkeypatch.setattr(module, "find_java", lambda: Path(sys.executable))
    monkeypatch.setattr(module, "check_owner", lambda archive: None)
    monkeypatch.setattr(module, "check_archive_format", lambda archive: None)
    monkeypatch.setattr(ServingConfig, "write_for_server", lambda *_: None)
    monkeypatch.setattr(module, "start_java", lambda *_: _sleeper())
    return made


@pytest.fixture
def look_alike(tmp_path: Path) -> Iterator[Callable[..., psutil.Process]]:
    """Start a process that sleeps under any command line."""
    program = tmp_path / "model_service_worker.py"
    program.write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> psutil.Process:
        command = [sys.executable, str(program), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return psutil.Process(process.pid)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_start_that_is_cut_off_before_its_pid_is_written_leaves_no_process(
    server: TorchServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[psutil.Process] = []

    def cut_off(_: RunDirectory, process: psutil.Process) -> None:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "record", cut_off)
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 2)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert not started[0].is_running()
    assert not server.run.path.exists()


def test_a_second_start_leaves_the_first_alone(server: TorchServe) -> None:
    with server.run.start_lock():
        server.run.create()
        with pytest.raises(NotReadyError, match="another command is starting this server"):
            server.start()
        assert server.run.path.exists()
    server.run.remove()


def test_an_archive_that_was_deleted_is_not_newer(server: TorchServe) -> None:
    server.run.create()
    server.run.record(psutil.Process())  # as if this process were the server
    assert not server.config.archive.exists()
    assert not server.archive_is_newer()
    server.run.remove()


def test_a_server_that_ends_while_it_is_stopped_is_stopped(
    server: TorchServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = _sleeper()
    process = psutil.Process(child.pid)
    monkeypatch.setattr(RunDirectory, "process", lambda _: process)
    child.kill()
    child.wait()
    assert server.stop()
    server.terminate()


def test_only_a_servers_own_java_and_workers_are_ended(
    server: TorchServe, look_alike: Callable[..., psutil.Process]
) -> None:
    run = server.run
    strangers = [
        look_alike("-f", run.model_log),  # a tail, an editor, a backup
        look_alike("--sock-name", "/tmp/other/.ts.sock.9000", "--note", run.temporary),
        look_alike(f"{run.java_option}x", SERVER_CLASS),
        look_alike(run.java_option, "org.example.Main"),
    ]
    ours = [
        look_alike("--sock-type", "unix", "--sock-name", run.temporary / ".ts.sock.9000"),
        look_alike(run.java_option, SERVER_CLASS),
    ]
    assert server.stop()
    assert not any(process.is_running() for process in ours)
    assert all(process.is_running() for process in strangers)
    assert not server.stop()


def test_a_java_that_nobody_recorded_is_the_server(
    server: TorchServe, look_alike: Callable[..., psutil.Process]
) -> None:
    """As a `catdog serve` that was killed leaves it, or a folder that a clean-up has aged."""
    java = look_alike(server.run.java_option, SERVER_CLASS)
    assert server.run.process() == java
    with pytest.raises(NotReadyError, match="runs already"):
        server.start()
    assert java.is_running()


def test_workers_that_outlived_their_java_do_not_block_a_start(
    server: TorchServe, look_alike: Callable[..., psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = look_alike("--sock-name", server.run.temporary / ".ts.sock.9000")
    monkeypatch.setattr(module, "is_taken", lambda *_: worker.is_running())
    monkeypatch.setattr(TorchServe, "wait_ready", lambda *_, **__: None)
    monkeypatch.setattr(module, "_FIRST_REQUESTS", 0)
    server.start()
    assert server.stop()
