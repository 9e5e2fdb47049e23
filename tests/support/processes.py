"""Wait for conditions, and see what a server left behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
import requests

from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig


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


@contextmanager
def foreground_server(
    config: ServingConfig, *options: str
) -> Iterator[tuple[subprocess.Popen[str], TorchServe]]:
    """`catdog serve --foreground`, READY; whatever the test does, it is gone in the end."""
    server = TorchServe(config)
    process = subprocess.Popen(
        [sys.executable, "-m", "catdog_serving", "serve", "--foreground", *options],
        env=os.environ | {"CATDOG_CONFIG": str(config.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        wait_until(lambda: "try " in process.stdout.readline(), "READY", timeout_s=120)  # type: ignore[union-attr]
        yield process, server
    finally:
        process.kill()
        process.communicate()
        server.stop()
