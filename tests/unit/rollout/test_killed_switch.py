"""A command that is killed at any step: the next one makes memory and disk agree."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import psutil
import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.model_archive import file_sha256
from catdog_serving.rollout import drain as draining
from catdog_serving.rollout import switch as module
from catdog_serving.rollout.drain import drain
from catdog_serving.rollout.switch import (
    PendingSwitch,
    Replacement,
    operator,
    read_pending,
    switch,
    write_pending,
)
from catdog_serving.torchserve.loaded_archive import (
    archive_change,
    file_state,
    loaded_sha256,
    record_start,
)
from catdog_serving.torchserve.management import ManagementClient
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.staged_files import (
    ABANDONED_S,
    next_archive,
    remove_staged,
    staged_archive,
)
from tests.support.configs import MakeConfig
from tests.support.http_servers import http_server
from tests.support.two_versions import NEW, OLD, SETTINGS, Versions

# What a switch does, in this order; two files are replaced.
STEPS: list[tuple[object, str]] = [
    (module, "write_pending"),
    (ManagementClient, "register"),
    (ManagementClient, "set_default"),
    (module, "write_pending"),
    (module, "replace_file"),
    (module, "replace_file"),
    (module, "record_deployed"),
    (ManagementClient, "unregister"),
    (module, "remove_pending"),
]


@pytest.fixture
def versions() -> Versions:
    return Versions()


@pytest.fixture
def server(
    versions: Versions, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TorchServe]:
    monkeypatch.setattr(draining, "GRACE_S", 0.05)
    monkeypatch.setattr(module, "REGISTERED_S", 0.5)
    for each in (module, draining):
        monkeypatch.setattr(each, "_PAUSE_S", 0.02)
    with http_server(versions) as url:
        found = TorchServe(make_config(None, management_address=url))
        versions.store = found.config.model_store
        found.config.archive.write_text("old")
        found.config.previous_archive.write_text("older")
        found.run.create()
        found.run.record(psutil.Process())  # as if this process were the server
        record_start(found.run, found.config.archive, file_state(found.config.archive))
        try:
            yield found
        finally:
            found.run.remove()


def deploy(server: TorchServe) -> None:
    """What a deploy does with files and versions."""
    config = server.config
    with operator(server, "deploy") as management, staged_archive(config) as staged:
        files = {config.model_store / f".catdog-{n}.mar": n for n in ("previous", "current")}
        for path, text in zip((staged, *files), ("new", "old", "new"), strict=True):
            path.write_text(text)
        places = dict(zip(files, (config.previous_archive, config.archive), strict=True))
        with switch(server, management, OLD, NEW, files=places):
            management.register(staged.name, SETTINGS)
            management.set_default(NEW)
            drain(management, OLD)


def killed_before(step: int, action: Callable[[], None]) -> int:
    """Run `action` in a process that is killed before its step of that number; its exit status."""
    child = os.fork()
    if child == 0:
        done = 0

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*arguments: Any, **options: Any) -> Any:
                nonlocal done
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1
                return function(*arguments, **options)

            return counting

        for owner, name in dict.fromkeys(STEPS):
            setattr(owner, name, counted(getattr(owner, name)))
        try:
            action()
        finally:
            os._exit(done)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("step", range(len(STEPS)), ids=[name for _, name in STEPS])
def test_memory_and_disk_agree_after_the_next_command(
    step: int, server: TorchServe, versions: Versions
) -> None:
    assert killed_before(step, lambda: deploy(server)) == -signal.SIGKILL
    with operator(server, "scale 1"):
        pass
    (left,) = versions.loaded
    assert left == versions.default
    config = server.config
    found = (versions.loaded[left], config.archive.read_text(), config.previous_archive.read_text())
    assert found == (("old", "old", "older") if step < 4 else ("new", "new", "old"))
    assert loaded_sha256(server.run) == file_sha256(config.archive)
    assert archive_change(server.run, config.archive) is None
    assert read_pending(server.run) is None
    assert not list(config.model_store.glob(".catdog-*"))


def test_all_steps_were_tried(server: TorchServe, versions: Versions) -> None:
    assert killed_before(len(STEPS), lambda: deploy(server)) == len(STEPS)
    assert versions.loaded == {NEW: "new"}


def test_a_version_that_shows_only_afterwards_is_removed(
    server: TorchServe, versions: Versions
) -> None:
    """TorchServe goes on with a POST whose sender was killed."""
    write_pending(server.run, PendingSwitch(keep=OLD, drop=NEW))
    next_archive(server.config.model_store).write_text("new")
    timer = Timer(0.2, versions.loaded.__setitem__, (NEW, "new"))
    timer.start()
    with operator(server, "scale 1"):
        timer.join()
    assert versions.loaded == {OLD: "old"}


def test_a_staged_file_that_is_gone_counts_as_done_only_at_its_place(
    server: TorchServe, tmp_path: Path
) -> None:
    place, same = server.config.archive, tmp_path / "same"
    same.write_text("new")
    file = Replacement(str(tmp_path / "gone.mar"), str(place), file_sha256(same))
    pending = PendingSwitch(keep=OLD, drop=NEW, files=(file,))
    write_pending(server.run, pending)
    with pytest.raises(
        NotReadyError, match=rf"1\.0 serves, but {place} .* by .*gone\.mar: No such"
    ):
        with operator(server, "scale 1"):
            pass
    assert read_pending(server.run) == pending
    place.write_text("new")
    with operator(server, "scale 1"):
        assert read_pending(server.run) is None


def test_a_note_of_before_is_read(server: TorchServe) -> None:
    note = {"keep": NEW, "drop": OLD, "files": [["a", "b"]]}
    (server.run.path / "rollover.json").write_text(json.dumps(note))
    assert read_pending(server.run) == PendingSwitch(NEW, OLD, (Replacement("a", "b"),))


def test_a_start_removes_what_was_left_long_ago_and_nothing_else(server: TorchServe) -> None:
    store = server.config.model_store
    left = [next_archive(store), store / ".catdog-deploy", store / ".catdog-current.mar"]
    for path in left:
        path.mkdir() if not path.suffix else path.write_text("x")
    remove_staged(store, ABANDONED_S)
    assert all(path.exists() for path in left)
    for path in left[1:]:
        os.utime(path, (0, time.time() - 2 * ABANDONED_S))
    remove_staged(store, ABANDONED_S)
    assert [path.exists() for path in left] == [True, False, False]
    remove_staged(store)
    assert {path.name for path in store.iterdir()} == {"catdog.mar", "catdog.previous.mar"}
