"""A private configuration meets nothing of the one it comes from."""

import socket
from pathlib import Path

import pytest

from catdog_serving.torchserve.listeners import is_taken
from catdog_serving.torchserve.private_config import free_ports, private_config
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.paths import ROOT


def test_ports_store_and_run_directory_are_its_own_and_the_rest_is_the_sources(
    tmp_path: Path,
) -> None:
    source = ServingConfig.read(ROOT / "config" / "config.properties")
    archive = tmp_path / "any.mar"
    archive.write_bytes(b"an archive")
    private = private_config(source, tmp_path / "own", archive, {"batchSize": 3}, {"python": "x=y"})
    ours, theirs = private.endpoints(), source.endpoints()
    assert set(ours.values()).isdisjoint(theirs.values())
    assert len(set(ours.values())) == 5
    assert private.is_loopback_only()
    assert private.archive.read_bytes() == b"an archive"
    assert RunDirectory.of(private) != RunDirectory.of(source)
    assert private.worker_settings == source.worker_settings | {"batchSize": 3}
    assert private.job_queue_size == source.job_queue_size
    assert private.java_options() == source.java_options()
    assert private.values["metrics_config"] == str(ROOT / "config" / "metrics.yaml")
    assert private.values["python"] == "x=y"


def test_addresses_off_loopback_do_not_come_along(tmp_path: Path) -> None:
    source = ServingConfig.read(ROOT / "config" / "config.properties")
    public = ServingConfig(source.path, source.values | {"grpc_inference_address": "0.0.0.0"})
    assert private_config(public, tmp_path, None).is_loopback_only()


def test_a_free_port_stays_free_until_its_server_listens() -> None:
    """The system once gave one to a connection, before the server that it was for had started."""
    first, *others = free_ports(5)
    assert len({first, *others}) == 5
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", first))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first))
    for host in ("127.0.0.1", "0.0.0.0"):
        assert not is_taken(host, first)
        socket.create_server((host, first)).close()
