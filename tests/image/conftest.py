"""The image, built once for all tests of this folder.

Of the environment: CATDOG_TEST_IMAGE_FOLDER keeps base and layers for the next run, TORCH_INDEX
is where CPU wheels are, CATDOG_TEST_BUILD_ARGS are more arguments of the build, as in "TORCH=cuda".
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import MISSING, Container, Engine, documented, running_engine
from tests.support.image_build import CPU_WHEELS, WEIGHTS, copy_checkout, reached_index
from tests.support.pods import Secrets

FIGURES: dict[str, str] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("figures")
    for name, figure in FIGURES.items():
        terminalreporter.write_line(f"{name}: {figure}")


@pytest.fixture(scope="session")
def figures() -> dict[str, str]:
    """What was measured, which is shown in the end."""
    return FIGURES


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    if os.geteuid() != 0 or MISSING:
        pytest.fail(f"tests of the image need root and Debian's programs; missing: {MISSING}")
    kept = os.environ.get("CATDOG_TEST_IMAGE_FOLDER")
    folder = Path(kept or tempfile.mkdtemp(prefix="catdog-image-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with running_engine(folder) as running:
            yield running
    finally:
        if not kept:
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    return Secrets(tmp_path_factory.mktemp("secrets"))


@pytest.fixture(scope="session")
def checkout(given: Secrets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkout")
    copy_checkout(made, given)
    return made


@pytest.fixture(scope="session")
def build_arguments(figures: dict[str, str]) -> dict[str, str]:
    chosen = {"NETWORK": "efficientnet_lite0", "WEIGHTS": WEIGHTS}
    words = os.environ.get("CATDOG_TEST_BUILD_ARGS", "").split()
    chosen |= dict(word.split("=", 1) for word in words)
    if chosen.get("TORCH") != "cuda":
        url = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
        chosen["TORCH_INDEX"] = reached_index(url)
    figures["build arguments"] = " ".join(f"{k}={v}" for k, v in chosen.items())
    if chosen.get("TORCH_INDEX") == CPU_WHEELS.as_uri():
        figures["torch"] = "stand-ins for PyTorch's CPU wheels, which could not be reached"
    return chosen


@pytest.fixture(scope="session")
def image(
    engine: Engine, checkout: Path, build_arguments: dict[str, str], figures: dict[str, str]
) -> str:
    """The image's name, once it is built as docs/containers.md says."""
    assert documented("build")[:2] == ["-f", "config/docker/Dockerfile"]
    tag = documented("build")[3]
    start = time.monotonic()
    engine.make_base()
    figures["base made in"] = f"{time.monotonic() - start:.0f} s"
    start = time.monotonic()
    engine.build(checkout, tag, **build_arguments)
    figures["built in"] = f"{time.monotonic() - start:.0f} s"
    figures["size of the image"] = f"{engine.inspected(tag)['Size'] / 1e9:.2f} GB"
    return tag


@pytest.fixture(scope="module")
def server(engine: Engine, image: str, figures: dict[str, str]) -> Iterator[Container]:
    """The image as docs/containers.md runs it, on loopback of the engine's own network."""
    *options, tag = documented("run")
    assert tag == image
    # podman's read-only brings a tmpfs on /run and /tmp, which Docker's does not.
    with engine.running("server", "--read-only-tmpfs=false", *options, tag) as running:
        figures["healthy after"] = f"{running.wait_healthy():.1f} s"
        yield running
