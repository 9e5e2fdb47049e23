"""Wait for conditions, and see what a server left behind."""

import time
from collections.abc import Callable

import psutil
import pytest
import requests

from catdog_serving.operate.server import TorchServe


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.05)


def processes_of(server: TorchServe) -> list[psutil.Process]:
    """Every process whose command line names the server's run directory."""
    needle = str(server.run.path)
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(needle in argument for argument in process.info["cmdline"] or ())
    ]


def assert_nothing_left(server: TorchServe) -> None:
    assert processes_of(server) == []
    assert not server.run.path.exists()
    for host, port in server.config.endpoints().values():
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{host}:{port}", timeout=2)
