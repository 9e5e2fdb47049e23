"""One run has a state at a time: with locks, without them, and whatever a dead run left."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.folder.run_state import RunState
from catdog_serving.folder.state_file import files_of, state_of
from catdog_serving.folder.state_lock import lock_file, locks_work
from tests.support.albums import rows_of
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.run_states import left_beside, rows_done
from tests.support.stub_backend import MODEL, touch
from tests.support.stub_command import ended, stub_classify

FILES = 60
LOCKS = ("locks", "ENOLCK", "ENOSYS")

# Stops between the look at the header and the lock, until somebody writes to it.
LOOKS_FIRST = """
import sys
from catdog_serving.folder import state_file
from tests.support.stub_command import _run
check = state_file.check_header
def check_and_wait(path, stack):
    found = check(path, stack)
    print("looked", flush=True)
    sys.stdin.readline()
    return found
state_file.check_header = check_and_wait
_run("0", "classify", *sys.argv[1:])
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each error the library that makes every lock fail with it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler, to make a file system without locks")
    made = {}
    for name in LOCKS[1:]:
        made[name] = tmp_path_factory.mktemp("library") / f"{name}.so"
        source = ROOT / "tests" / "support" / "no_locks.c"
        definition = f"-DREFUSED_WITH={getattr(errno, name)}"
        build = [compiler, "-shared", "-fPIC", definition, "-o", made[name], source, "-ldl"]
        subprocess.run(build, check=True)
    return made


@pytest.fixture(params=LOCKS)
def env(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of runs whose file system has locks, or none."""
    if request.param == "locks":
        return dict(os.environ)
    library = request.getfixturevalue("libraries")[request.param]
    return os.environ | {"LD_PRELOAD": str(library)}


@pytest.fixture
def album(tmp_path: Path) -> Path:
    touch(tmp_path / "album", *(f"{number:03}.jpg" for number in range(FILES)))
    return tmp_path / "album"


def test_a_second_run_is_refused_in_one_line_and_the_first_goes_on(
    env: dict[str, str], album: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    first = stub_classify(album, "--output", output, delay_ms=100, env=env)
    wait_until(lambda: rows_done(output) > 0, "a row")
    for options in ((), ("--resume",), ("--restart",)):
        code, errors = ended(stub_classify(album, "--output", output, *options, env=env))
        assert (code, errors.count("\n")) == (3, 1)
        assert f"another catdog is at work on {state_of(output)}" in errors
        if "LD_PRELOAD" in env:
            assert f"process {first.pid} on {socket.gethostname()}" in errors
    assert ended(first) == (0, "")
    assert len(rows_of(output)) == FILES
    assert left_beside(output) == []


def test_a_run_that_only_looked_at_the_header_is_the_one_that_is_refused(
    album: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    killed = stub_classify(album, "--output", output, delay_ms=50)
    wait_until(lambda: rows_done(output) > 3, "rows")
    killed.kill()
    killed.communicate()
    looked = subprocess.Popen(
        [sys.executable, "-c", LOOKS_FIRST, album, "--output", output, "--resume"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert looked.stdout is not None
    assert looked.stdout.readline() == "looked\n"
    at_work = stub_classify(album, "--output", output, "--resume", delay_ms=50)
    wait_until(lambda: rows_done(output) > 10, "rows")
    _, errors = looked.communicate("go on\n", timeout=60)
    assert (looked.returncode, errors.count("\n")) == (3, 1)
    assert "another catdog is at work on" in errors
    assert ended(at_work)[0] == 0
    assert len(rows_of(output)) == FILES


def test_what_ended_meanwhile_is_not_taken_for_a_state(album: Path, tmp_path: Path) -> None:
    """Its file has no name any more when the lock is free."""
    output = tmp_path / "out.jsonl"
    RunState.open(state_of(output), MODEL).close()
    looked = subprocess.Popen(
        [sys.executable, "-c", LOOKS_FIRST, album, "--output", output, "--restart"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert looked.stdout is not None
    assert looked.stdout.readline() == "looked\n"
    assert ended(stub_classify(album, "--output", output, "--restart")) == (0, "")
    _, errors = looked.communicate("go on\n", timeout=60)
    assert (looked.returncode, errors.count("\n")) == (3, 1)
    assert left_beside(output) == []


def test_killed_without_locks_the_next_run_takes_over(
    env: dict[str, str], album: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    first = stub_classify(album, "--output", output, delay_ms=50, env=env)
    wait_until(lambda: rows_done(output) > 3, "rows")
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    assert left_beside(output) == ["", *(["-lock"] if "LD_PRELOAD" in env else []), "-wal"]
    assert ended(stub_classify(album, "--output", output, "--resume", env=env)) == (0, "")
    assert len(rows_of(output)) == FILES
    assert left_beside(output) == []


def test_ctrl_c_without_locks_leaves_one_file(
    env: dict[str, str], album: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    run = stub_classify(album, "--output", output, delay_ms=50, env=env)
    wait_until(lambda: rows_done(output) > 3, "rows")
    run.send_signal(signal.SIGINT)
    code, errors = ended(run)
    done = rows_done(output)
    assert code == 130
    assert errors == (
        f"interrupted; {done} files are in {state_of(output)}; to go on: the same command with "
        "--resume\n"
    )
    assert left_beside(output) == [""]


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
    assert len(files_of(tmp_path / "x.catdog")) == 4
