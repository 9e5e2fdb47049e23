"""How a server is started and stopped, where no Java needs to run."""

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.model_archive import file_sha256
from catdog_serving.torchserve import server as module
from catdog_serving.torchserve import start_checks
from catdog_serving.torchserve.loaded_archive import (
    archive_change,
    file_state,
    loaded_sha256,
    record_deployed,
    record_start,
)
from catdog_serving.torchserve.run_directory import SERVER_CLASS, RunDirectory
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.server_locks import start_lock
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.start_options import StartOptions
from tests.support.control_groups import ControlGroups
from tests.support.java_stand_ins import sleeper


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


def test_the_archive_that_runs_is_told_from_the_file_that_lies_there_now(
    server: TorchServe, tmp_path: Path
) -> None:
    archive, run = server.config.archive, server.run
    run.create()
    try:
        archive.write_bytes(b"one")
        assert archive_change(run, archive) is None  # nobody knows what runs
        state = file_state(archive)
        record_start(run, archive, state)
        one = file_sha256(archive)
        assert loaded_sha256(run) == one
        assert archive_change(run, archive) is None
        archive.write_bytes(b"another")
        another = file_sha256(archive)
        assert loaded_sha256(run) == one
        assert archive_change(run, archive) == f"archive {one[:8]} -> {another[:8]}"
        archive.write_bytes(b"one")  # the same content in another file
        assert archive_change(run, archive) is None
        archive.write_bytes(b"another")
        record_deployed(run, archive, one)  # and packed over right after
        assert archive_change(run, archive) == f"archive {one[:8]} -> {another[:8]}"
        archive.unlink()
        assert archive_change(run, archive) is None
    finally:
        run.remove()


@pytest.mark.parametrize("replaced", [False, True])
def test_an_archive_that_was_replaced_during_the_start_is_not_recorded(
    server: TorchServe, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """Nobody knows which of the two was loaded."""
    archive = server.config.archive
    archive.write_bytes(b"one")

    def load(*_: object, **__: object) -> None:
        if replaced:
            archive.write_bytes(b"two and more")

    monkeypatch.setattr(TorchServe, "wait_ready", load)
    monkeypatch.setattr(module, "_FIRST_REQUESTS", 0)
    server.start()
    try:
        found = loaded_sha256(server.run)
    finally:
        server.stop()
    assert found == (None if replaced else hashlib.sha256(b"one").hexdigest())


def test_a_server_that_ends_while_it_is_stopped_is_stopped(
    server: TorchServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = sleeper()
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
        return sleeper()

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
