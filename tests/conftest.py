"""What unit and integration tests share: photos, archives, free ports, configurations."""

import functools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from catdog_serving.build.weights import Weights
from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.private_config import private_config
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.archive_cache import BuildArchive, cached_archive, found_weights
from tests.support.configs import MakeConfig
from tests.support.paths import PHOTOS, ROOT
from tests.support.reference import reference_masses
from tests.support.servers import SERVERS, running_server


def pytest_configure() -> None:
    """Have Ctrl-C end what the tests start, though a shell's background job ignores it.

    No example has a time limit: on a busy machine the first one of a property waits for imports.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("catdog", deadline=None)
    hypothesis.settings.load_profile("catdog")


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """100 real photos: 50 of cats, then 50 of dogs."""
    found = [*sorted((PHOTOS / "cats").glob("*.jpg")), *sorted((PHOTOS / "dogs").glob("*.jpg"))]
    if len(found) != 100:
        pytest.skip(f"the real photos are not in {PHOTOS}; they are not part of the product")
    return found


@pytest.fixture(scope="session")
def build() -> BuildArchive:
    """Build an archive, or find it in the cache."""

    @functools.cache
    def build_once(network: str, weights: str | None = None, runtime: str = "onnx") -> Path:
        return cached_archive(network, weights, runtime)

    return build_once


@pytest.fixture(scope="session")
def archive(build: BuildArchive) -> Path:
    """efficientnet_lite0 with its real weights, onnx."""
    return build("efficientnet_lite0")


@pytest.fixture(scope="session")
def seeded_resnet() -> Weights:
    """ResNet-152's seeded weights; making them takes 5 s."""
    return found_weights("resnet152", "seeded")


@pytest.fixture(scope="session")
def photo_masses(photos: list[Path]) -> np.ndarray:
    """What the reference says of the photos, with efficientnet_lite0: (cat, dog), (100, 2)."""
    return reference_masses(found_weights("efficientnet_lite0", None), photos)


@pytest.fixture(scope="session")
def make_config(tmp_path_factory: pytest.TempPathFactory) -> MakeConfig:
    """The product's own config/, on free ports and with a model store of its own.

    CATDOG_TEST_JAVA_LIBRARIES is what `java_libraries=` takes: the same tests on other jars.
    """
    libraries = os.environ.get("CATDOG_TEST_JAVA_LIBRARIES")

    def make(
        archive: Path | None, worker_settings: dict[str, object] | None = None, **values: str
    ) -> ServingConfig:
        root = tmp_path_factory.mktemp("serving")
        shutil.copytree(ROOT / "config", root / "config")
        source = ServingConfig.read(ROOT / "config" / "config.properties")
        chosen = {"java_libraries": libraries} if libraries else {}
        return private_config(source, root, archive, worker_settings, chosen | values)

    return make


@pytest.fixture(scope="session")
def server(make_config: MakeConfig, archive: Path) -> Iterator[TorchServe]:
    """One real TorchServe for all tests that only ask: efficientnet_lite0, onnx, one worker."""
    with TorchServe(make_config(archive)) as running:
        yield running


@pytest.fixture(scope="session")
def asgi_server(make_config: MakeConfig, archive: Path) -> Iterator[TorchServe]:
    """The same without Java."""
    with running_server(make_config(archive), asgi=True) as running:
        yield running


@pytest.fixture(scope="session", params=SERVERS)
def served(request: pytest.FixtureRequest) -> TorchServe:
    """A server to ask, of each kind in turn."""
    found: TorchServe = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def client(server: TorchServe) -> Iterator[CatDogClient]:
    with CatDogClient(server.config.inference_url) as connected:
        yield connected
