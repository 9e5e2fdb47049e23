"""What unit tests of a server share: one that starts no Java, and processes that look like it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from catdog_serving.torchserve.server import TorchServe
from tests.support.configs import MakeConfig
from tests.support.java_stand_ins import look_alikes, server_without_java


@pytest.fixture
def server(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> TorchServe:
    """One whose checks pass, and whose Java is a process that sleeps."""
    return server_without_java(make_config(None), monkeypatch)


@pytest.fixture
def look_alike(tmp_path: Path) -> Iterator[Callable[..., psutil.Process]]:
    """Start a process that sleeps under any command line."""
    with look_alikes(tmp_path) as start:
        yield start
