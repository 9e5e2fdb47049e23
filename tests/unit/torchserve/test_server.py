"""How a server is started and stopped, where no Java needs to run."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve import server as module
from catdog_serving.torchserve import start_checks
from catdog_serving.torchserve.properties import write_properties
from catdog_serving.torchserve.run_directory import SERVER_CLASS, RunDirectory
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.server_locks import start_lock
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.start_options import StartOptions
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.control_groups import ControlGroups
from tests.support.nvidia_smi import TWO_GPUS, install_nvidia_smi


@pytest.fixture
def server(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> TorchServe:
    """One whose checks pass, and whose Java is a process that sleeps."""
    made = TorchServe(make_config(None))
    monkeypatch.setattr(start_checks, "find_java", lambda: Path(sys.executable))
    for name in ("check_owner", "check_archive_format", "check_room"):
        monkeypatch.setattr(start_checks, name, lambda *_, **__: None)
    for name in ("write_for_server", "values_for_server"):
        monkeypatch.setattr(ServingConfig, name, lambda *_: None)
    monkeypatch.setattr(module, "start_java", lambda *_: _sleeper())
    return made


@pytest.fixture
def look_alike(tmp_path: Path) -> Iterator[Callable[..., psutil.Process]]:
    """Start a process that sleeps under any command line."""
    program = tmp_path / "model_service_worker.py"
    program.write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> psutil.Process:
        command = [sys.executable, str(program), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return psutil.Process(process.pid)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_start_that_is_cut_off_before_its_pid_is_written_leaves_no_process(
    server: TorchServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[psutil.Process] = []

    def cut_off(_: RunDirectory, process: psutil.Process) -> None:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "record", cut_off)
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 2)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert not started[0].is_running()
    assert not server.run.path.exists()


def test_a_second_start_leaves_the_first_alone(server: TorchServe) -> None:
    with start_lock(server.run):
        server.run.create()
        with pytest.raises(NotReadyError, match="another command is starting this server"):
            server.start()
        assert server.run.path.exists()
    server.run.remove()


def test_an_archive_that_was_deleted_is_not_newer(server: TorchServe) -> None:
    server.run.create()
    server.run.record(psutil.Process())  # as if this process were the server
    assert not server.config.archive.exists()
    assert not server.archive_is_newer()
    server.run.remove()


def test_a_server_that_ends_while_it_is_stopped_is_stopped(
    server: TorchServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = _sleeper()
    process = psutil.Process(child.pid)
    monkeypatch.setattr(RunDirectory, "process", lambda _: process)
    child.kill()
    child.wait()
    assert server.stop()
    server.terminate()


def test_only_a_servers_own_java_and_workers_are_ended(
    server: TorchServe, look_alike: Callable[..., psutil.Process]
) -> None:
    run = server.run
    strangers = [
        look_alike("-f", run.logs.workers),  # a tail, an editor, a backup
        look_alike("--sock-name", "/tmp/other/.ts.sock.9000", "--note", run.temporary),
        look_alike(f"{run.java_option}x", SERVER_CLASS),
        look_alike(run.java_option, "org.example.Main"),
    ]
    ours = [
        look_alike("--sock-type", "unix", "--sock-name", run.temporary / ".ts.sock.9000"),
        look_alike(run.java_option, SERVER_CLASS),
    ]
    assert server.stop()
    assert not any(process.is_running() for process in ours)
    assert all(process.is_running() for process in strangers)
    assert not server.stop()


def test_a_java_that_nobody_recorded_is_the_server(
    server: TorchServe, look_alike: Callable[..., psutil.Process]
) -> None:
    """As a `catdog serve` that was killed leaves it, or a folder that a clean-up has aged."""
    java = look_alike(server.run.java_option, SERVER_CLASS)
    assert server.run.process() == java
    with pytest.raises(NotReadyError, match="runs already"):
        server.start()
    assert java.is_running()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("number_of_gpu", "1", "number_of_gpu is 1, and there are 0"),
        ("java_libraries", "/nowhere", "cannot look into /nowhere"),
        ("metrics_address", "http://127.0.0.1:{taken}", "port {taken} on 127.0.0.1 is taken"),
    ],
)
def test_a_restart_that_cannot_succeed_stops_nothing(
    server: TorchServe,
    look_alike: Callable[..., psutil.Process],
    key: str,
    value: str,
    told: str,
) -> None:
    server.run.create()
    write_properties(server.run.config, server.config.values)
    java = look_alike(server.run.java_option, SERVER_CLASS)
    with ExitStack() as taken:
        for _, port in server.config.endpoints().values():  # the server's own
            taken.enter_context(socket.create_server(("127.0.0.1", port)))
        other = taken.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        changed = server.config.values | {key: value.format(taken=other)}
        write_properties(server.config.path, changed)
        result = catdog_here("restart", "--config", server.config.path)
    assert told.format(taken=other) in result.stderr
    assert (result.returncode, result.stdout) == (3, "")
    assert java.is_running()
    assert "which catdog did not start" not in result.stderr
    server.run.remove()


def test_a_restart_that_failed_names_the_options_to_go_on_with(server: TorchServe) -> None:
    """They went with the folder of the server that was stopped."""
    server.run.create()
    options = {"port": 19_000, "asgi": True, "management_socket": True, "of_another_catdog": 1}
    server.run.start_options.write_text(json.dumps({"options": options}))
    assert StartOptions.of(server.run) == StartOptions(19_000, True, True)
    result = catdog_here("restart", "--config", server.config.path)  # it has no archive
    assert result.returncode == 3
    line = "catdog serve --port 19000 --server asgi --management-socket"
    assert f"no server runs now; to start it as it was: {line}\n" in result.stderr


def test_what_runs_otherwise_is_told_with_all_that_was_asked_for(
    server: TorchServe, look_alike: Callable[..., psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    look_alike(server.run.java_option, SERVER_CLASS)
    monkeypatch.setattr(TorchServe, "wait_ready", lambda *_, **__: None)
    asked = ("--server", "asgi", "--port", "19000")
    result = catdog_here("serve", "--config", server.config.path, *asked)
    assert f"runs already, with Java, at {server.config.inference_url}; " in result.stderr
    assert "catdog stop && catdog serve --port 19000 --server asgi\n" in result.stderr


def test_workers_that_outlived_their_java_do_not_block_a_start(
    server: TorchServe, look_alike: Callable[..., psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = look_alike("--sock-name", server.run.temporary / ".ts.sock.9000")
    monkeypatch.setattr(start_checks, "is_taken", lambda *_: worker.is_running())
    monkeypatch.setattr(TorchServe, "wait_ready", lambda *_, **__: None)
    monkeypatch.setattr(module, "_FIRST_REQUESTS", 0)
    server.start()
    assert server.stop()


@pytest.mark.parametrize(
    ("log", "groups_say", "reason"),
    [
        ("ERROR ModelServer - Failed to load model: catdog.mar", 0, "Failed to load model: catdog"),
        ("INFO ModelServer - all is well", 2, "out of memory: the kernel killed 2 since"),
    ],
)
def test_a_start_that_cannot_succeed_says_why_at_once(
    server: TorchServe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: str,
    groups_say: int,
    reason: str,
) -> None:
    groups = ControlGroups(tmp_path, monkeypatch)
    groups.put("memory.events", "oom_kill 5")
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 2)

    def java(*_: object) -> subprocess.Popen[bytes]:
        stamp = (datetime.now() + timedelta(minutes=1)).isoformat(timespec="milliseconds")
        server.run.logs.console.write_text(f"{stamp.replace('.', ',')} {log}\n")
        return _sleeper()

    monkeypatch.setattr(module, "start_java", java)
    find = TorchServe._find

    def and_killed(self: TorchServe, version: str | None) -> object:
        groups.put("memory.events", f"oom_kill {5 + groups_say}")  # while workers are waited for
        return find(self, version)

    monkeypatch.setattr(TorchServe, "_find", and_killed)
    with pytest.raises(NotReadyError, match=reason):
        server.start(timeout_s=30)
    assert not server.run.path.exists()


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
        start_checks.check_ports_differ(config, asgi)


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
    start_checks.check_room(server.run, server.config.archive)
    monkeypatch.setattr(shutil, "disk_usage", disk(66_900_000))
    with pytest.raises(NotReadyError, match="take 67 MB, and 67 MB are free for "):
        start_checks.check_room(server.run, server.config.archive)
    assert all(server.run.path.is_relative_to(path) and path.is_dir() for path in looked_at)
    server.run.create()  # a start empties the folder first
    (server.run.temporary / "unpacked").write_bytes(bytes(200_000))
    start_checks.check_room(server.run, server.config.archive, freed=server.run.used_bytes())
    server.run.remove()


@pytest.mark.parametrize(
    "writer", [(ServingConfig, "write_for_server"), (StartOptions, "record")], ids=str
)
def test_a_start_without_room_for_its_files_leaves_nothing(
    server: TorchServe, monkeypatch: pytest.MonkeyPatch, writer: tuple[type, str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*writer, full)
    with pytest.raises(NotReadyError, match=f"{server.run.path}: No space left on device"):
        server.start()
    assert not server.run.path.exists()


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
    monkeypatch.setattr(module, "start_java", lambda *_: subprocess.Popen(["true"]))
    told: list[str] = []
    with pytest.raises(NotReadyError, match="TorchServe ended"):  # what stands in for Java
        server.start(on_warning=told.append)
    assert [line.split(":")[0] for line in told] == ["nvidia-smi fails or hangs"] * warns
