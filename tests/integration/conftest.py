"""What several modules of integration tests share: nginx before the shared server, a browser,
and a server for an operator."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from catdog_serving.operate.server import TorchServe
from tests.support.browser import chromium
from tests.support.configs import MakeConfig
from tests.support.edge import Edge, running_edge
from tests.support.operators import BATCHING, slow_archive


@pytest.fixture(scope="session")
def edge(server: TorchServe) -> Iterator[Edge]:
    with running_edge(server.config.inference_url.removeprefix("http://")) as running:
        yield running


@pytest.fixture
def key(edge: Edge) -> str:
    """A key that no other test uses, so that no other test's requests count against its rate."""
    return next(edge.keys)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def good(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """efficientnet_lite0 that can be told to be slow."""
    return slow_archive(archive, tmp_path_factory.mktemp("good") / "good.mar")


@pytest.fixture(scope="session")
def running(good: Path, make_config: MakeConfig) -> Iterator[TorchServe]:
    """A server to scale and to deploy to; each test leaves one worker of `good` serving."""
    with TorchServe(make_config(good, batching=BATCHING)) as server:
        yield server
