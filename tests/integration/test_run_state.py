"""Runs in processes of their own: killed, interrupted, two at once, and without locks."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from catdog_serving.folder.run_state import RunState
from catdog_serving.folder.state_file import state_of
from tests.support.albums import rows_of, said_of
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.run_states import left_beside, rows_done
from tests.support.step_kills import kill_and_resume_stub
from tests.support.stub_backend import MODEL, touch
from tests.support.stub_command import ended, stub_classify

KILLS = 3  # twenty in tests/stress
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


def looks_first(*arguments: object) -> "subprocess.Popen[str]":
    """A run that has looked at the header of its state, and waits for a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOOKS_FIRST, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "looked\n"
    return process


def test_killed_at_random_moments_and_resumed_the_rows_are_those_of_one_run(
    tmp_path: Path,
) -> None:
    kill_and_resume_stub(tmp_path, KILLS, files=300)


def test_a_second_run_is_refused_in_one_line_and_ctrl_c_leaves_one_file(
    env: dict[str, str], album: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    first = stub_classify(album, "--output", output, delay_ms=1000, env=env)
    wait_until(lambda: rows_done(output) > 0, "a row")
    all_options: tuple[tuple[str, ...], ...] = ((), ("--resume",), ("--restart",))
    others = [stub_classify(album, "--output", output, *some, env=env) for some in all_options]
    for other in others:
        code, errors = ended(other)
        assert (code, errors.count("\n")) == (3, 1)
        assert f"another catdog is at work on {state_of(output)}" in errors
        if "LD_PRELOAD" in env:
            assert f"process {first.pid} on {socket.gethostname()}" in errors
    first.send_signal(signal.SIGINT)
    code, errors = ended(first)
    assert code == 130
    assert errors.splitlines()[-1] == (
        f"interrupted; {rows_done(output)} files are in {state_of(output)}; to go on: the same "
        "command with --resume"
    )
    assert left_beside(output) == [""]


def test_a_run_that_only_looked_at_the_header_is_the_one_that_is_refused(
    album: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    killed = stub_classify(album, "--output", output, delay_ms=50)
    wait_until(lambda: rows_done(output) > 3, "rows")
    killed.kill()
    killed.communicate()
    looked = looks_first(album, "--output", output, "--resume")
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
    looked = looks_first(album, "--output", output, "--restart")
    assert ended(stub_classify(album, "--output", output, "--restart")) == (
        0,
        said_of(output, rows_of(output)),
    )
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
    assert ended(stub_classify(album, "--output", output, "--resume", env=env)) == (
        0,
        said_of(output, rows_of(output)),
    )
    assert len(rows_of(output)) == FILES
    assert left_beside(output) == []


def test_sigterm_ends_it_as_ctrl_c_does(album: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    run = stub_classify(album, "--output", output, delay_ms=100)
    wait_until(lambda: rows_done(output) > 0, "a row")
    run.send_signal(signal.SIGTERM)
    assert ended(run)[0] == 128 + signal.SIGTERM
    assert left_beside(output) == [""]
