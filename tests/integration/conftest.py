"""One real TorchServe for all tests that only ask; others start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from catdog_serving.client import CatDogClient
from catdog_serving.operate.server import TorchServe
from tests.conftest import MakeConfig


@pytest.fixture(scope="session")
def server(make_config: MakeConfig, archive: Path) -> Iterator[TorchServe]:
    """efficientnet_lite0, onnx, one worker, batches of 8."""
    with TorchServe(make_config(archive)) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: TorchServe) -> Iterator[CatDogClient]:
    with CatDogClient(server.config.inference_url) as connected:
        yield connected
