"""What a start finds before it starts anything."""

import shutil
import socket
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.torchserve import server as server_module
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.start_checks import (
    check_addresses,
    check_limits,
    check_ports_differ,
    check_room,
)
from catdog_serving.torchserve.start_options import StartOptions
from tests.support.configs import MakeConfig
from tests.support.nvidia_smi import TWO_GPUS, install_nvidia_smi

INSIDE = {
    "management_address": ("http://0.0.0.0:8081", "http://[::]:8081", "http://192.0.2.1:8081"),
    "metrics_address": ("http://0.0.0.0:8082", "http://example.com:8082"),
    "grpc_inference_address": ("0.0.0.0", "::"),
    "grpc_management_address": ("0.0.0.0", "example.com"),
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in INSIDE.items() for v in values])
def test_only_predictions_are_for_others_unless_the_file_says_so(
    make_config: MakeConfig, key: str, value: str
) -> None:
    with pytest.raises(RefusedError, match=f"allow_remote={key}$"):
        check_addresses(make_config(None, **{key: value}))
    others = ",".join(set(INSIDE) - {key})
    with pytest.raises(RefusedError, match=f"^{key}="):
        check_addresses(make_config(None, **{key: value, "allow_remote": others}))
    (line,) = check_addresses(make_config(None, **{key: value, "allow_remote": key}))
    assert line.startswith(f"{key}={value}: whoever reaches it can ")
    with pytest.raises(NotReadyError, match="allow_remote=true, inference: it takes a list of man"):
        check_addresses(make_config(None, allow_remote="true, inference"))


@pytest.mark.parametrize(
    ("inference", "asgi", "refused"),
    [
        ("http://10.0.0.5:8081", True, True),  # it goes by the port: management for everybody
        ("http://10.0.0.5:8081", False, False),
        ("http://localhost:8081", False, True),
        ("http://localhost:8080", True, False),
    ],
)
def test_two_addresses_that_are_one_are_refused(
    make_config: MakeConfig, inference: str, asgi: bool, refused: bool
) -> None:
    management = "http://127.0.0.1:8081"
    config = make_config(None, inference_address=inference, management_address=management)
    with pytest.raises(NotReadyError, match="both port 8081") if refused else nullcontext():
        check_ports_differ(config, asgi)


def test_a_taken_port_is_told_with_where_it_was_chosen(server: TorchServe) -> None:
    serve = f"catdog --config {server.config.path} serve"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server.config.values["metrics_address"] = f"http://127.0.0.1:{port}"
        with pytest.raises(NotReadyError) as told:
            server.start()
        assert (
            f"port {port} on 127.0.0.1 is taken (metrics_address in {server.config.path}); "
            f"stop what uses it, or choose another port there, or: {serve} --port PORT"
        ) in str(told.value)
        with pytest.raises(NotReadyError) as told:
            server.start(options=StartOptions(port))
        assert (
            f"port {port} on 127.0.0.1 is taken (inference_address with --port {port}); stop what "
            f"uses it, or choose another with: {serve} --port PORT"
        ) in str(told.value)
        assert f" in {server.config.path}" not in str(told.value)


def test_a_disk_without_room_for_the_unpacked_archive_is_found_before_the_start(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "x.mar", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros", bytes(3_000_000))
    server = TorchServe(make_config(tmp_path / "x.mar"))
    looked_at = []

    def disk(free: int) -> Callable[[Path], object]:
        return lambda path: looked_at.append(path) or SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", disk(67_000_000))
    check_room(server.run, server.config.archive)
    monkeypatch.setattr(shutil, "disk_usage", disk(66_900_000))
    with pytest.raises(NotReadyError, match="take 67 MB, and 67 MB are free for "):
        check_room(server.run, server.config.archive)
    assert all(server.run.path.is_relative_to(path) and path.is_dir() for path in looked_at)
    server.run.create()  # a start empties the folder first
    (server.run.temporary / "unpacked").write_bytes(bytes(200_000))
    check_room(server.run, server.config.archive, freed=server.run.used_bytes())
    server.run.remove()


@pytest.mark.parametrize(
    ("values", "entry", "told"),
    [
        ({}, {}, False),
        ({"job_queue_size": "480"}, {}, True),
        ({"max_request_size": "104857600"}, {}, True),
        ({"vmargs": "-Xmx1g"}, {}, True),
        ({}, {"batchSize": 64}, True),
        ({"job_queue_size": "480", "vmargs": ""}, {}, False),  # Java's own heap is not known here
    ],
)
def test_limits_that_do_not_fit_together_are_said(
    make_config: MakeConfig, values: dict[str, str], entry: dict[str, object], told: bool
) -> None:
    lines = check_limits(make_config(None, entry, **values))
    assert len(lines) == told
    assert all("MB, and Java's heap is" in line for line in lines)


@pytest.mark.parametrize(
    ("does", "wanted", "visible", "told"),
    [
        (TWO_GPUS, "3", None, "number_of_gpu is 3, and there are 2 by nvidia-smi and CUDA_VIS"),
        (TWO_GPUS, "2", "1", "number_of_gpu is 2, and there are 1 by nvidia-smi and CUDA_VIS"),
        ("exit 9", "1", None, "number_of_gpu is 1, and nvidia-smi does not say which there are"),
    ],
)
def test_gpus_that_were_asked_for_and_are_not_there_end_a_start(
    server: TorchServe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    does: str,
    wanted: str,
    visible: str | None,
    told: str,
) -> None:
    """It would serve on the CPU, or on fewer, and nobody would know."""
    install_nvidia_smi(tmp_path, monkeypatch, does)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    server.config.values["number_of_gpu"] = wanted
    with pytest.raises(NotReadyError, match=told):
        server.start()
    assert not server.run.path.exists()


@pytest.mark.parametrize(
    ("does", "values", "visible", "warns"),
    [
        ("exit 9", {}, None, True),
        ("exit 9", {}, "0", True),
        ("exit 9", {}, "", False),  # hidden on purpose
        ("exit 9", {}, "-1", False),
        ("exit 9", {"number_of_gpu": "0"}, None, False),
        (TWO_GPUS, {}, None, False),
        (TWO_GPUS, {"number_of_gpu": "2"}, None, False),
    ],
)
def test_a_start_warns_if_it_cannot_know_whether_there_are_gpus(
    server: TorchServe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    does: str,
    values: dict[str, str],
    visible: str | None,
    warns: bool,
) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, does)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    server.config.values.update(values)
    monkeypatch.setattr(ServingConfig, "computes_on_gpus", True)  # as with a torch archive
    monkeypatch.setattr(server_module, "start_java", lambda *_: subprocess.Popen(["true"]))
    told: list[str] = []
    with pytest.raises(NotReadyError, match="TorchServe ended"):  # what stands in for Java
        server.start(on_warning=told.append)
    assert [line.split(":")[0] for line in told] == ["nvidia-smi fails or hangs"] * warns
