"""Files appear whole, and what a killed process left goes."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from catdog_serving.atomic_write import (
    atomic_file,
    atomic_write,
    make_folder,
    remove_leftovers,
    scratch_folder,
)
from catdog_serving.errors import NotReadyError
from tests.support.leftovers import make_old, names
from tests.support.ordinary_user import as_ordinary_user
from tests.support.processes import wait_until
from tests.support.stub_backend import touch

AT_WORK = """
import sys, time
from pathlib import Path
from catdog_serving.atomic_write import atomic_file
with atomic_file(Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half")
    time.sleep(60)
"""


def at_work(target: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A process that has half of a file, and its scratch folder, which looks old."""
    process = subprocess.Popen([sys.executable, "-c", AT_WORK, str(target)])
    wait_until(lambda: any(target.parent.glob(".catdog-*/*")), "half of a file")
    (scratch,) = target.parent.glob(".catdog-*")
    make_old(scratch)
    return process, scratch


def test_what_a_killed_process_left_goes_and_what_a_live_one_has_stays(tmp_path: Path) -> None:
    process, scratch = at_work(tmp_path / "out.bin")
    try:
        remove_leftovers(tmp_path)
        assert names(scratch) == ["out.bin"]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert names(tmp_path) == [scratch.name]  # no half of a file under its name
    atomic_write(tmp_path / "other.bin", [b"whole"])
    assert names(tmp_path) == ["other.bin"]


def test_what_is_young_or_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere, "kept")
    folder = tmp_path / "here"
    touch(folder, ".catdog-notes/x", ".catdog-tmp", ".catdog-tmp-young/x", "catdog-tmp-a/x")
    touch(
        folder, ".catdog-deploy/x", ".catdog-next.mar", ".catdog-tmp-old/a/b", ".catdog-tmp-x.part"
    )
    (folder / ".catdog-tmp-link").symlink_to(elsewhere)
    before = names(folder)
    for path in folder.iterdir():
        if "young" not in path.name:
            make_old(path)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    remove_leftovers(folder)
    assert names(folder) == before
    monkeypatch.undo()
    remove_leftovers(folder)
    assert set(before) - set(names(folder)) == {".catdog-tmp-old", ".catdog-tmp-x.part"}
    assert names(elsewhere) == ["kept"]


def test_a_folder_is_looked_through_once(tmp_path: Path) -> None:
    """Or the files of a large folder would be read again for each that is written."""
    atomic_write(tmp_path / "a", [b""])
    touch(tmp_path, ".catdog-tmp-old/a")
    make_old(tmp_path / ".catdog-tmp-old")
    atomic_write(tmp_path / "b", [b""])
    assert names(tmp_path) == [".catdog-tmp-old", "a", "b"]


def test_a_scratch_folder_is_private_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_folder() as scratch:
        assert scratch.parent == tmp_path
        assert scratch.stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == []


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
def test_a_file_that_is_replaced_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    touch(tmp_path, "results.csv")
    (tmp_path / "results.csv").chmod(mode)
    atomic_write(tmp_path / "results.csv", [b"new"])
    assert (tmp_path / "results.csv").stat().st_mode & 0o777 == mode


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "out.bin")

    def fill_the_disk() -> None:
        with atomic_file(tmp_path / "out.bin") as partial:
            partial.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(NotReadyError, match="cannot write .*: No space left"):
        fill_the_disk()
    assert names(tmp_path) == ["out.bin"]
    assert (tmp_path / "out.bin").read_text() == "out.bin"


def test_a_folder_that_may_be_written_but_not_listed_is_written_into(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    folder.chmod(0o300)
    assert as_ordinary_user(lambda: atomic_write(folder / "out.csv", [b"whole"])) == 0
    folder.chmod(0o700)
    assert names(folder) == ["out.csv"]


def test_a_folder_is_made_to_any_depth_or_says_why_not(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 1_100)
    make_folder(deep)
    make_folder(deep)
    assert deep.is_dir()
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
    (tmp_path / "link").symlink_to("nowhere")
    touch(tmp_path, "file")
    for wrong in ("link/x", "link", "file/x", "file", "x" * 300):
        with pytest.raises(OSError, match="exists|Not a directory|too long"):
            make_folder(tmp_path / wrong)
