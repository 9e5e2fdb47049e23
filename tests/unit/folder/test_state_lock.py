"""A lock that is a file, for file systems without locks: who has it, and whose is taken over."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catdog_serving.errors import NotReadyError
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


def test_what_another_machine_holds_is_left_alone(tmp_path: Path) -> None:
    lock = tmp_path / "out.catdog-lock"
    held = json.dumps(owner_of(lock) | {"host": "elsewhere", "boot_id": "other", "pid": 4711})
    lock.write_text(held)
    with pytest.raises(NotReadyError, match=r"process 4711 on elsewhere; .* delete .*-lock"):
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
