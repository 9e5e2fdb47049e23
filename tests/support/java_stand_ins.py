"""A server that starts no Java: its checks pass, and processes that sleep are taken for its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from catdog_serving.torchserve import server as module
from catdog_serving.torchserve import start_checks
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig


def server_without_java(config: ServingConfig, monkeypatch: pytest.MonkeyPatch) -> TorchServe:
    """One whose checks pass without an archive, and whose Java is a process that sleeps."""
    monkeypatch.setattr(start_checks, "find_java", lambda: Path(sys.executable))
    for name in ("check_owner", "check_archive_format", "check_room"):
        monkeypatch.setattr(start_checks, name, lambda *_, **__: None)
    for name in ("write_for_server", "values_for_server"):
        monkeypatch.setattr(ServingConfig, name, lambda *_: None)
    monkeypatch.setattr(module, "start_java", lambda *_: sleeper())
    return TorchServe(config)


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


@contextmanager
def look_alikes(folder: Path) -> Iterator[Callable[..., psutil.Process]]:
    """What starts a process that sleeps under any command line; all of them end with it."""
    program = folder / "model_service_worker.py"
    program.write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> psutil.Process:
        command = [sys.executable, str(program), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return psutil.Process(process.pid)

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()
