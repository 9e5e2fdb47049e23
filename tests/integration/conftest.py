"""What several modules of integration tests share: servers by what they promise, nginx before the
shared one, a browser."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser

from catdog_serving.torchserve.private_config import free_ports
from catdog_serving.torchserve.server import TorchServe
from tests.support.browser import chromium
from tests.support.configs import MakeConfig
from tests.support.edge import Edge, running_edge
from tests.support.edge_upstream import StandIn
from tests.support.http_servers import http_server
from tests.support.operators import WORKER_SETTINGS, slow_archive
from tests.support.processes import wait_until
from tests.support.servers import SERVERS, running_server

# Of these a test goes with the first that it uses: `pytest --dist loadgroup` runs a group in one
# process, so that a server is started once. Tests without one go with their module.
SHARED = (
    *("running", "own", "one_of_its_own", "small_queue", "guarded", "server"),
    *("seeded_resnet", "photo_masses", "packed"),  # the same for what takes seconds to make
)
TOGETHER = {"one_of_its_own": "own", "photo_masses": "server", "packed": "own"}

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # of several processes that share the cores


@pytest.hookimpl(tryfirst=True)  # before xdist, which writes the group into each test's id
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue
        used = getattr(item, "fixturenames", ())
        kind = getattr(item, "callspec", None)
        asked = kind and kind.params.get("served", kind.params.get("target"))
        group = asked or next((name for name in SHARED if name in used), item.path.stem)
        item.add_marker(pytest.mark.xdist_group(TOGETHER.get(group, group)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """A pytest whose groups xdist does not see would start each server in each process."""
    if getattr(session.config.option, "loadgroup", False):  # xdist sets it in its processes
        assert all("@" in item.nodeid for item in session.items)


@pytest.fixture(scope="session")
def edge(server: TorchServe) -> Iterator[Edge]:
    with running_edge(server.config.inference_url.removeprefix("http://")) as running:
        yield running


@pytest.fixture
def key(edge: Edge) -> str:
    """A key that no other test uses, so that no other test's requests count against its rate."""
    return next(edge.keys)


@pytest.fixture(scope="module")
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture(scope="module")
def edge_of_stand_in(stand_in: StandIn) -> Iterator[Edge]:
    with http_server(stand_in) as url, running_edge(url.removeprefix("http://")) as running:
        yield running


@pytest.fixture
def upstream(stand_in: StandIn) -> StandIn:
    """What is behind `edge_of_stand_in`, as new."""
    stand_in.reset()
    return stand_in


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="session", params=SERVERS)
def guarded(
    archive: Path, make_config: MakeConfig, request: pytest.FixtureRequest
) -> Iterator[TorchServe]:
    """A server one of whose addresses is not loopback, so that its tokens stay on."""
    (port,) = free_ports(1)
    config = make_config(archive, inference_address=f"http://0.0.0.0:{port}")
    with running_server(config, asgi=request.param == "asgi_server") as server:
        yield server


@pytest.fixture(scope="session")
def small_queue(archive: Path, make_config: MakeConfig) -> Iterator[TorchServe]:
    """A server that takes three requests: one under way, two that wait."""
    config = make_config(archive, job_queue_size="2", worker_settings={"batchSize": 1})
    with TorchServe(config) as server:
        yield server


@pytest.fixture(scope="session")
def one_of_its_own(archive: Path, make_config: MakeConfig) -> Iterator[TorchServe]:
    """See `own`."""
    server = TorchServe(make_config(archive))
    yield server
    server.stop()


@pytest.fixture
def own(one_of_its_own: TorchServe) -> TorchServe:
    """A server that a test may stop, scale or kill; whoever comes next finds it READY."""
    if not one_of_its_own.is_running():
        one_of_its_own.start()
    wait_until(lambda: one_of_its_own.versions()[0].ready_workers >= 1, "READY", timeout_s=60)
    return one_of_its_own


@pytest.fixture(scope="session")
def good(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """efficientnet_lite0 that can be told to be slow."""
    return slow_archive(archive, tmp_path_factory.mktemp("good") / "good.mar")


@pytest.fixture(scope="session")
def running(good: Path, make_config: MakeConfig) -> Iterator[TorchServe]:
    """A server to scale and to deploy to; each test leaves one worker of `good` serving."""
    with TorchServe(make_config(good, worker_settings=WORKER_SETTINGS)) as server:
        yield server
