"""A lock that is a file, for file systems without locks: who has it, and whose is taken over."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.folder import state_lock
from catdog_serving.folder.state_lock import lock_file, locks_work


def owner_of(lock: Path) -> dict[str, Any]:
    """What a lock file of this process says."""
    with lock_file(lock, lock):
        values: dict[str, Any] = json.loads(lock.read_text())
    return values


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


STALE: dict[str, Callable[[], dict[str, Any]]] = {
    "its process is gone": lambda: {"pid": ended_process()},
    "another process has its number": lambda: {"start_time": "1"},
    "the machine was started again": lambda: {"boot_id": "another", "pid": os.getpid()},
}


@pytest.mark.parametrize("change", STALE.values(), ids=STALE)
def test_the_lock_of_a_dead_owner_is_taken_over(
    change: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    lock = tmp_path / "out.catdog-lock"
    lock.write_text(json.dumps(owner_of(lock) | change()))
    with lock_file(lock, tmp_path / "out.catdog"):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(autouse=True)
def machine_id(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says which machine this is; some containers have none."""
    path = tmp_path_factory.mktemp("etc") / "machine-id"
    path.write_text("this one\n")
    monkeypatch.setattr(state_lock, "_MACHINE_ID", path)
    return path


FOREIGN = {
    "another name": {"host": "elsewhere", "boot_id": "other"},
    "another machine of this name": {"machine_id": "other", "boot_id": "other"},
    "another PID namespace": {"pid_namespace": "pid:[1]", "start_time": "1"},
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_what_another_machine_holds_is_left_alone(change: dict[str, str], tmp_path: Path) -> None:
    lock = tmp_path / "out.catdog-lock"
    owner = owner_of(lock) | {"pid": 4711} | change
    held = json.dumps(owner)
    lock.write_text(held)
    said = rf"process 4711 on {owner['host']}; .* delete .*-lock"
    with pytest.raises(NotReadyError, match=said):
        with lock_file(lock, tmp_path / "out.catdog"):
            pass
    assert lock.read_text() == held


@pytest.mark.parametrize("content", ["", "my notes", "[1]", '{"host": "a"}'])
def test_a_lock_that_names_nobody_is_not_deleted(content: str, tmp_path: Path) -> None:
    lock = tmp_path / "out.catdog-lock"
    lock.write_text(content)
    with pytest.raises(NotReadyError, match="names no process; delete it if there is none"):
        with lock_file(lock, tmp_path / "out.catdog"):
            pass
    assert lock.read_text() == content


def test_the_probe_leaves_nothing(tmp_path: Path) -> None:
    assert locks_work(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_machine_id_another_start_is_not_known_to_be_of_this_machine(
    machine_id: Path, tmp_path: Path
) -> None:
    machine_id.unlink()
    lock = tmp_path / "out.catdog-lock"
    lock.write_text(json.dumps(owner_of(lock) | {"boot_id": "other"}))
    with pytest.raises(NotReadyError, match="another catdog is at work"):
        with lock_file(lock, tmp_path / "out.catdog"):
            pass


def test_of_three_that_find_a_dead_owner_no_live_lock_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second takes the lock just before ours renames it, a third just after."""
    lock = tmp_path / "out.catdog-lock"
    alive = owner_of(lock)
    lock.write_text(json.dumps(alive | {"start_time": "1"}))
    rename = Path.rename

    def rename_between_two(path: Path, target: Path) -> Path:
        if path != lock:
            return rename(path, target)
        lock.write_text(json.dumps({"second": 2}))
        renamed = rename(path, target)
        lock.write_text(json.dumps(alive))
        return renamed

    monkeypatch.setattr(Path, "rename", rename_between_two)
    with pytest.raises(NotReadyError, match=f"process {os.getpid()} on"):
        with lock_file(lock, tmp_path / "out.catdog"):
            pass
    assert json.loads(lock.read_text()) == alive
    assert list(tmp_path.iterdir()) == [lock]
