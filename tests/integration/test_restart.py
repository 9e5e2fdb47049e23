"""An edit is said, and `catdog restart` applies it; --port moves a server, and commands find it."""

import json
import os
import re
from pathlib import Path

import pytest
import requests

from catdog_serving.model_archive import file_sha256
from catdog_serving.torchserve.listeners import is_taken
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.paths import SAMPLES
from tests.support.processes import assert_nothing_left


def five_free_ports() -> int:
    """The first of five that follow each other, below those that the system hands out."""
    for first in range(20_000 + os.getpid() % 1000 * 10, 32_000, 5):
        if not any(is_taken("127.0.0.1", port) for port in range(first, first + 5)):
            return first
    raise AssertionError("no five ports in a row are free")


@pytest.mark.parametrize("kind", ["torchserve", "asgi"])
def test_a_moved_server_is_found_and_restarts_where_it_was(
    archive: Path, make_config: MakeConfig, kind: str
) -> None:
    config = make_config(archive)
    port = five_free_ports()
    server = TorchServe(config)

    def here(command: str, *words: object) -> str:
        result = catdog_here(command, "--config", config.path, *words, COLUMNS="80")
        assert result.returncode == 0, result.stderr
        return result.stdout

    try:
        started = here("serve", "--port", port, "--server", kind)
        assert f"address  http://127.0.0.1:{port}\n" in started
        assert "changed" not in started
        ports = {address: at for address, (_, at) in server.served.endpoints().items()}
        assert list(ports.values()) == list(range(port, port + 5))
        assert requests.get(f"http://127.0.0.1:{port + 2}/metrics", timeout=10).ok
        assert f"http://127.0.0.1:{port + 1}/models/catdog" in here("status")
        assert "chelsea.png" in here("classify", SAMPLES / "chelsea.png")

        text = config.path.read_text()
        text = text.replace('"batchSize": 8', '"batchSize": 16')
        config.path.write_text(text.replace("job_queue_size=48", "job_queue_size=32"))
        restart = f"catdog --config {config.path} restart"
        changed = f"changed  batchSize 8 -> 16, job_queue_size 48 -> 32: {restart}\n"
        assert changed in here("serve")
        assert changed in here("status")
        loaded, sha256 = config.archive.read_bytes(), file_sha256(config.archive)
        config.archive.write_bytes(b"another")
        another = f"archive {sha256[:8]} -> {file_sha256(config.archive)[:8]}"
        for shown in (here("serve"), here("status")):
            assert f", {another}: catdog" in shown
            assert f"\narchive  SHA-256 {sha256}\n" in shown
        assert f"\nfiles    {server.run.path}\n" in here("status")
        config.archive.write_bytes(loaded)
        assert changed in here("status")
        elsewhere = catdog_here("serve", "--config", config.path, "--port", 1)
        assert elsewhere.returncode == 3
        assert f"the server runs already, at http://127.0.0.1:{port}; " in elsewhere.stderr

        edited = config.path.read_text()
        for wrong in (
            edited.replace("job_queue_size", "job_queue"),
            f"{edited}\nnumber_of_gpu=1000\n",
        ):
            config.path.write_text(wrong)
            refused = catdog_here("restart", "--config", config.path)
            assert (refused.returncode, refused.stdout) == (3, "")
            assert server.is_running()
        config.path.write_text(edited)

        again = here("restart")
        assert again.startswith("stopped\n")
        assert f"address  http://127.0.0.1:{port}\n" in again
        assert re.search(r"^1\.0 \(default\) .* READY +16 ", again, re.MULTILINE)
        assert "changed" not in again + here("serve")
        assert server.run.runs_without_java() == (kind == "asgi")

        config.path.write_text("job_queue=32\n")  # a server is stopped whatever its file says
        assert here("stop") == "stopped\n"
    finally:
        server.stop()
    assert_nothing_left(server)


def test_a_configuration_that_was_copied_alone_is_enough(
    archive: Path, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it names lies beside the default one."""
    default = make_config(archive)
    shipped = "catdog_serving.torchserve.serving_config.config_folder"
    monkeypatch.setattr(shipped, lambda: default.path.parent)
    copy = tmp_path / "production.properties"
    named = str(default.files()["metrics_config"])
    copy.write_text(default.path.read_text().replace(named, "config/metrics.yaml"))
    server = TorchServe(ServingConfig.read(copy))
    assert server.config.archive == default.archive
    assert server.config.model_settings == default.path.with_name("model-config.yaml")
    try:
        started = catdog_here("--config", copy, "serve")
        assert started.returncode == 0, started.stderr
        assert catdog_here("--config", copy, "status").returncode == 0
        facts = json.loads(catdog_here("status", "--json", CATDOG_CONFIG=str(copy)).stdout)
        assert facts["url"] == server.config.inference_url
    finally:
        server.stop()
