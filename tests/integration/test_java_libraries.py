"""`java_libraries=`: real servers on Netty and log4j of TorchServe's, of Debian's, and of a folder.

The rest of the suite runs on any of them, too: CATDOG_TEST_JAVA_LIBRARIES is what the key takes.
"""

import json
import shutil
from pathlib import Path

import pytest

from catdog_serving.torchserve.java_libraries import DEBIAN
from catdog_serving.torchserve.loaded_libraries import OF_TORCHSERVE
from catdog_serving.torchserve.server import TorchServe
from tests.support.command_line import catdog
from tests.support.configs import MakeConfig
from tests.support.processes import assert_nothing_left


@pytest.fixture
def debian() -> Path:
    if not (DEBIAN / "netty-codec-http.jar").exists() or not (DEBIAN / "log4j-core.jar").exists():
        pytest.skip("needs Debian's libnetty-java and liblog4j2-java")
    return DEBIAN


@pytest.mark.parametrize("case", ["bundled", "auto", "a folder of log4j"])
def test_status_and_log_say_which_libraries_run(
    debian: Path, tmp_path: Path, archive: Path, make_config: MakeConfig, case: str
) -> None:
    """With the management API on a socket, which needs Netty's native file to fit its classes."""
    folder = tmp_path / "log4j: a ü"
    folder.mkdir()
    for name in ("log4j-api.jar", "log4j-core.jar"):
        shutil.copy(debian / name, folder)
    origins, value = {
        "bundled": ((OF_TORCHSERVE, OF_TORCHSERVE), "bundled"),
        "auto": ((str(debian), str(debian)), "auto"),
        "a folder of log4j": ((OF_TORCHSERVE, str(folder)), str(folder)),
    }[case]
    server = TorchServe(make_config(archive, java_libraries=value))
    config = server.config.path
    try:
        started = catdog("serve", "--management-socket", "--config", config)
        assert started.returncode == 0, started.stderr
        told = catdog("status", "--json", "--config", config)
        found = {entry["name"]: entry for entry in json.loads(told.stdout)["java_libraries"]}
        assert (found["Netty"]["origin"], found["log4j"]["origin"]) == origins
        assert min(found["Netty"]["classes"], found["log4j"]["classes"]) > 100
        assert (found["Netty"]["version"] == "4.1.53.Final") == (case != "auto")
        netty, log4j = (found[name]["version"] for name in ("Netty", "log4j"))
        line = f"Netty {netty} ({origins[0]}), log4j {log4j} ({origins[1]}"
        assert f"java     {line}" in started.stdout
        assert f"catdog - Java loaded {line}" in server.run.logs.console.read_text()
        assert "apt-get" not in started.stdout  # it is there, or would not be looked at
    finally:
        server.stop()
    assert_nothing_left(server)


def test_a_set_that_does_not_fit_starts_nothing(
    debian: Path, tmp_path: Path, archive: Path, make_config: MakeConfig
) -> None:
    shutil.copy(debian / "log4j-core.jar", tmp_path)
    server = TorchServe(make_config(archive, java_libraries=str(tmp_path)))
    refused = catdog("serve", "--config", server.config.path)
    assert refused.returncode == 3
    assert "lacks log4j-api" in refused.stderr
    (tmp_path / "log4j-core.jar").chmod(0o666)
    refused = catdog("serve", "--config", server.config.path)
    assert refused.returncode == 4
    assert "can be written by others, and a jar is code" in refused.stderr
    assert_nothing_left(server)
