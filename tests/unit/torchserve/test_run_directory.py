import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunDirectory]:
    # pytest's folder may be too long for a Unix socket, and then another one would be taken.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        found = RunDirectory.of(tmp_path / "config.properties")
        assert found.path.parent == Path(short)
        yield found


def test_it_is_private_and_found_again_by_the_configuration(
    run: RunDirectory, tmp_path: Path
) -> None:
    run.create()
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert RunDirectory.of(tmp_path / "x" / ".." / "config.properties") == run
    assert RunDirectory.of(tmp_path / "other.properties") != run
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


def test_the_path_leaves_room_for_a_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert len(str(RunDirectory.of(tmp_path / "c").temporary / ".ts.sock.99999")) < 107


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


def test_a_runtime_folder_that_is_gone_or_another_users_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    expected = Path(tempfile.gettempdir())
    assert RunDirectory.of(tmp_path / "c").path.parent == expected
    if os.getuid() == 0:
        (tmp_path / "gone").mkdir()
        os.chown(tmp_path / "gone", 12345, 12345)
        assert RunDirectory.of(tmp_path / "c").path.parent == expected


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "gone" / "run")
    with pytest.raises(NotReadyError, match="cannot make .*: No such file or directory"):
        run.create()
    with pytest.raises(NotReadyError, match="cannot open .*lock: No such file or directory"):
        with run.start_lock():
            pass


def test_one_process_starts_a_server_and_a_killed_one_locks_nobody_out(run: RunDirectory) -> None:
    with run.start_lock():
        with pytest.raises(NotReadyError, match="another command is starting this server"):
            with run.start_lock():
                pass
    assert list(run.path.parent.iterdir()) == []
    run.path.with_name(f"{run.path.name}.lock").touch()  # as a process leaves it that was killed
    with run.start_lock():
        pass


def test_of_a_large_log_only_the_end_is_read(run: RunDirectory) -> None:
    run.create()
    stamp = "2026-11-24T05:00:00,000 "
    lines = ["Backend worker process died.", "Traceback (most recent call last):", "OSError: it"]
    with run.model_log.open("w") as log:
        log.truncate(1 << 36)  # 64 GB that nobody could read
        log.seek(0, os.SEEK_END)
        log.write("\n" + "".join(f"{stamp}{line}\n" for line in lines))
    assert run.last_failure() == "OSError: it"
    assert run.log_tail(1).endswith("OSError: it")


def test_the_log_tail_shows_both_logs(run: RunDirectory) -> None:
    run.create()
    run.console_log.write_text("".join(f"console {i}\n" for i in range(100)))
    run.model_log.write_text("Traceback\n")
    tail = run.log_tail(lines=2)
    assert "console 98\nconsole 99" in tail
    assert "console 97" not in tail
    assert "Traceback" in tail


def test_the_reason_is_the_last_line_of_the_last_deadly_traceback(run: RunDirectory) -> None:
    run.create()
    assert run.last_failure() is None
    stamp = "2026-11-24T05:00:00,000 "

    def write(lines: list[str]) -> None:
        run.model_log.write_text("".join(f"{stamp}{line}\n" for line in lines))

    lines = [
        *("loaded", "Backend worker process died.", "Traceback (most recent call last):"),
        *("  File x, line 1", "    load()", "OSError: first"),
        *("", "During handling of the above exception, another exception occurred:", ""),
        *("Traceback (most recent call last):", "  File y", "ValueError: the reason"),
        *("unrelated: later line",),
    ]
    write(lines[:1])
    assert run.last_failure() is None
    write(lines)
    assert run.last_failure() == "ValueError: the reason"
    assert run.last_failure(datetime(2026, 11, 24, 5, 0, 0)) == "ValueError: the reason"
    assert run.last_failure(datetime(2026, 11, 24, 5, 0, 0, 1000)) is None
    second_try = "ModuleNotFoundError: No module named 'ts.torch_handler.catdog_handler'"
    write([*lines, "Traceback (most recent call last):", "  File z", second_try])
    assert run.last_failure() == "ValueError: the reason"


def test_a_second_operator_is_told_who_is_at_it(run: RunDirectory) -> None:
    with pytest.raises(NotReadyError, match="start it with: catdog serve"):
        with run.operator_lock("deploy"):
            pass
    run.create()
    run.record(psutil.Process())  # as if this process were the server
    for first, second in (("deploy", "scale 2"), ("scale 2", "deploy")):
        with run.operator_lock(first):
            with pytest.raises(
                NotReadyError, match=rf"catdog {first} \(process {os.getpid()}\) is changing"
            ):
                with run.operator_lock(second):
                    pass


def test_a_killed_operator_locks_nobody_out(run: RunDirectory) -> None:
    run.create()
    run.record(psutil.Process())
    program = f"""
import os, signal
from pathlib import Path
from catdog_serving.torchserve.run_directory import RunDirectory
with RunDirectory(Path({str(run.path)!r})).operator_lock("deploy"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    with run.operator_lock("scale 2"):
        pass
