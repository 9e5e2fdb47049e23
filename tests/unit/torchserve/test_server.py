"""How a server is started and stopped, where no Java needs to run."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve import server as module
from catdog_serving.torchserve.run_directory import RunDirectory
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
