import errno
import os
import pwd
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve import run_directory as module
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.server_locks import operator_lock, start_lock
from catdog_serving.torchserve.serving_config import ServingConfig


def config_at(path: Path, **values: str) -> ServingConfig:
    return ServingConfig(path, values)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket, as pytest's may not be."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        monkeypatch.delenv("CATDOG_RUN_DIR", raising=False)
        yield Path(made)


@pytest.fixture
def run(tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("CATDOG_RUN_DIR", str(short))
    return RunDirectory.of(config_at(tmp_path / "config.properties"))


@pytest.fixture
def home(short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the password database has as this user's home."""
    made = short / "home"
    made.mkdir()
    entry = SimpleNamespace(pw_dir=str(made))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: entry)
    monkeypatch.setattr(module, "_FOR_ALL", short)
    return made


def test_it_is_private_and_found_again_by_the_configuration(
    run: RunDirectory, tmp_path: Path
) -> None:
    run.create()
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert RunDirectory.of(config_at(tmp_path / "x" / ".." / "config.properties")) == run
    assert RunDirectory.of(config_at(tmp_path / "other.properties")) != run
    run.remove()
    assert not run.path.exists()


def test_a_link_in_its_place_is_not_followed(run: RunDirectory, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "precious").touch()
    run.path.symlink_to(target)
    with pytest.raises(NotReadyError, match="belongs to another user or is a link"):
        run.create()
    run.remove()
    assert (target / "precious").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder of another user")
def test_another_users_folder_is_not_used(run: RunDirectory) -> None:
    run.path.mkdir()
    os.chown(run.path, 12345, 12345)
    with pytest.raises(NotReadyError, match="belongs to another user"):
        run.create()
    assert run.process() is None
    assert run.path.exists()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HOME": "/root", "LOGNAME": "root", "SHELL": "/bin/sh"},  # cron's
        {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/nonexistent"},  # a login's, that may end
        {"SUDO_USER": "alice", "HOME": "/home/alice", "TMPDIR": "/tmp"},  # sudo's
        {"XDG_STATE_HOME": "/tmp/state", "CATDOG_RUN_DIR": ""},
    ],
)
def test_no_shell_changes_where_it_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name in ("HOME", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = RunDirectory.of(config_at(tmp_path / "config.properties"))
    assert found.path.parent == home / ".local" / "state" / "catdog" / "run"
    assert found.path.name.startswith(f"{socket.gethostname()[:20]}-")
    with start_lock(found):
        found.create()
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o700


def test_the_file_wins_over_the_environment_and_both_over_the_home(
    home: Path, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATDOG_RUN_DIR", str(short / "b"))
    path = tmp_path / "c"
    by_file = RunDirectory.of(config_at(path, run_directory=str(short / "a")))
    assert by_file.path.parent == short / "a"
    assert RunDirectory.of(config_at(path)).path.parent == short / "b"
    for value, why in (("relative", "must begin with /"), (f"/{'x' * 70}", "too long")):
        monkeypatch.setenv("CATDOG_RUN_DIR", value)
        with pytest.raises(NotReadyError, match=f"CATDOG_RUN_DIR is {value}.* {why}"):
            RunDirectory.of(config_at(path))
        with pytest.raises(NotReadyError, match=f"run_directory in .* is {value}.* {why}"):
            RunDirectory.of(config_at(path, run_directory=value))


@pytest.mark.parametrize("home_is", ["gone", "another user's", "too long", "not in the database"])
def test_without_a_home_that_can_be_used_it_is_in_var_tmp(
    home: Path, short: Path, monkeypatch: pytest.MonkeyPatch, home_is: str
) -> None:
    config = config_at(short / "c")
    before = RunDirectory.of(config)
    if home_is == "gone":
        home.rmdir()
    elif home_is == "another user's":
        if os.getuid() != 0:
            pytest.skip("only root can make a folder of another user")
        os.chown(home, 12345, 12345)
    elif home_is == "too long":
        long = short / ("x" * 90)
        long.mkdir()
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=str(long)))
    else:
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    found = RunDirectory.of(config)
    assert found.path.parent == short / f"catdog-{os.getuid()}"
    assert found != before
    with start_lock(found):
        found.create()
    found.record(psutil.Process())
    assert stat.S_IMODE(found.path.parent.stat().st_mode) == 0o700
    # It is found even when the home can be used again.
    monkeypatch.setattr(module, "_in_home", lambda name: [before.path])
    assert RunDirectory.of(config) == found


@pytest.mark.parametrize("hostile", ["link", "open to all", "another user's"])
def test_a_folder_in_var_tmp_that_others_prepared_is_not_used(
    home: Path, short: Path, tmp_path: Path, hostile: str
) -> None:
    home.rmdir()
    base = short / f"catdog-{os.getuid()}"
    base.mkdir()
    if hostile == "link":
        base.rmdir()
        base.symlink_to(tmp_path)
    elif hostile == "open to all":
        base.chmod(0o777)
    elif os.getuid() != 0:
        pytest.skip("only root can make a folder of another user")
    else:
        os.chown(base, 12345, 12345)
    run = RunDirectory.of(config_at(tmp_path / "c"))
    for start in (run.create, lambda: start_lock(run).__enter__()):
        with pytest.raises(NotReadyError, match="is not a folder of this user alone; remove it"):
            start()
    assert list(tmp_path.iterdir()) == []


def test_a_reused_pid_is_not_taken_for_the_server(run: RunDirectory) -> None:
    run.create()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        run.record(psutil.Process(child.pid))
        found = run.process()
        assert found is not None
        assert found.pid == child.pid
        pid_file = run.path / "pid"
        pid_file.write_text(pid_file.read_text().replace('"create_time": ', '"create_time": 1'))
        assert run.process() is None
    finally:
        child.communicate(b"\n")
    run.record(psutil.Process())
    assert run.process() is not None


@pytest.mark.parametrize("content", ["", '{"pid": 1', "[]", '{"pid": "x", "create_time": 1}'])
def test_a_pid_that_cannot_be_read_is_no_server(run: RunDirectory, content: str) -> None:
    run.create()
    (run.path / "pid").write_text(content)
    assert run.process() is None


def test_a_server_that_ends_while_it_is_looked_at_is_none(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.create()
    run.record(psutil.Process())

    def ended(process: psutil.Process) -> str:
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "status", ended)
    assert run.process() is None


def test_a_folder_that_cannot_be_made_is_one_error(run: RunDirectory) -> None:
    (run.path.parent / "file").touch()
    blocked = RunDirectory(run.path.parent / "file" / "run")
    with pytest.raises(NotReadyError, match="cannot make .*file: File exists"):
        blocked.create()
    with pytest.raises(NotReadyError, match="cannot make .*file: File exists"):
        with start_lock(blocked):
            pass
    run.path.with_name(f"{run.path.name}.lock").mkdir()
    with pytest.raises(NotReadyError, match="cannot open .*lock: Is a directory"):
        with start_lock(run):
            pass


def test_a_disk_that_is_full_leaves_no_half_folder(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.mkdir

    def full(path: Path, *arguments: int) -> None:
        if Path(path).name == "logs":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        make(path, *arguments)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(NotReadyError, match="cannot make .*logs: No space left on device"):
        run.create()
    assert not run.path.exists()


def test_one_process_starts_a_server_and_a_killed_one_locks_nobody_out(run: RunDirectory) -> None:
    with start_lock(run):
        with pytest.raises(NotReadyError, match="another command is starting this server"):
            with start_lock(run):
                pass
    assert list(run.path.parent.iterdir()) == []
    run.path.with_name(f"{run.path.name}.lock").touch()  # as a process leaves it that was killed
    with start_lock(run):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_is_one_line(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    run.create()
    run.record(psutil.Process())
    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(NotReadyError, match="cannot lock .*: (No locks|Function not)"):
        with start_lock(run):
            pass
    with pytest.raises(NotReadyError, match="cannot lock .*: (No locks|Function not)"):
        with operator_lock(run, "deploy"):
            pass


def test_a_second_operator_is_told_who_is_at_it(run: RunDirectory) -> None:
    with pytest.raises(NotReadyError, match="start it with: catdog serve"):
        with operator_lock(run, "deploy"):
            pass
    run.create()
    run.record(psutil.Process())  # as if this process were the server
    for first, second in (("deploy", "scale 2"), ("scale 2", "deploy")):
        with operator_lock(run, first):
            with pytest.raises(
                NotReadyError, match=rf"catdog {first} \(process {os.getpid()}\) is changing"
            ):
                with operator_lock(run, second):
                    pass


def test_a_killed_operator_locks_nobody_out(run: RunDirectory) -> None:
    run.create()
    run.record(psutil.Process())
    program = f"""
import os, signal
from pathlib import Path
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.server_locks import operator_lock
with operator_lock(RunDirectory(Path({str(run.path)!r})), "deploy"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    with operator_lock(run, "scale 2"):
        pass
