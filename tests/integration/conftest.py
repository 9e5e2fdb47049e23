"""What several modules of integration tests share: nginx before the shared server."""

from collections.abc import Iterator

import pytest

from catdog_serving.operate.server import TorchServe
from tests.edge import Edge, running_edge


@pytest.fixture(scope="session")
def edge(server: TorchServe) -> Iterator[Edge]:
    with running_edge(server.config.inference_url.removeprefix("http://")) as running:
        yield running


@pytest.fixture
def key(edge: Edge) -> str:
    """A key that no other test uses, so that no other test's requests count against its rate."""
    return next(edge.keys)
