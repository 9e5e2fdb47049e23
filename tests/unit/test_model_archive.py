"""What is read from an archive without running it, files that are none, and copies."""

import os
import stat
import tempfile
import zipfile
from pathlib import Path

import pytest

from catdog_serving.archive_copies import (
    copy_archive,
    has_files_of,
    next_version,
    pack_folder,
    private_copy,
)
from catdog_serving.atomic_write import atomic_write, replace_file
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.model_archive import (
    archive_facts,
    archive_runtime,
    archive_version,
    file_sha256,
    open_archive,
)
from tests.support.model_dirs import model_info, write_model_dir

PLACES = {"manifest": "MAR-INF/MANIFEST.json", "model": "model.json"}


def packed(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(PLACES[name], content)
    return path


def test_version_and_facts_are_read(tmp_path: Path) -> None:
    archive = packed(
        tmp_path / "x.mar",
        manifest='{"model": {"modelVersion": "2.0"}}',
        model='{"runtime": "onnx", "later": 1}',
    )
    assert archive_version(archive) == "2.0"
    assert archive_facts(archive) == {"runtime": "onnx", "later": 1}
    assert archive_runtime(archive) == "onnx"


@pytest.mark.parametrize(
    "files", [{}, {"manifest": "{", "model": "\xff{"}], ids=["empty", "broken"]
)
def test_a_zip_file_of_something_else_is_said_in_one_error(
    files: dict[str, str], tmp_path: Path
) -> None:
    archive = packed(tmp_path / "x.mar", **files)
    for read in (archive_version, archive_facts):
        with pytest.raises(NotReadyError, match=r"x\.mar is not a model archive: "):
            read(archive)
    assert archive_runtime(archive) is None


def test_a_file_that_is_no_zip_is_said_in_one_error(tmp_path: Path) -> None:
    junk = tmp_path / "x.mar"
    junk.write_bytes(b"junk")
    for read in (archive_version, archive_facts):
        with pytest.raises(NotReadyError, match="is not a model archive"):
            read(junk)
    with pytest.raises(NotReadyError, match="is not a model archive"), open_archive(junk):
        pass


def test_a_private_copy_stays_what_it_was_when_the_archive_is_replaced(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.mar", model="{}")
    before = file_sha256(archive)
    target = tmp_path / "private" / "x.mar"
    private_copy(archive, target)
    packed(archive, model='{"runtime": "torch"}')
    assert file_sha256(target) == before
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o700
    with pytest.raises(NotReadyError, match="there is no archive"):
        private_copy(tmp_path / "none.mar", target)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o602, 0o777])
def test_an_archive_that_others_may_write_is_refused(
    mode: int, folder: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "x.mar"
    pack_folder(folder, archive, "1.0")
    archive.chmod(mode)
    with pytest.raises(RefusedError, match=rf"written by others \(mode {mode:o}\).* chmod go-w"):
        archive_version(archive)
    with pytest.raises(RefusedError, match="chmod go-w"), open_archive(archive):
        pass
    with pytest.raises(RefusedError, match="chmod go-w"):
        private_copy(archive, tmp_path / "private" / "x.mar")
    archive.chmod(mode & ~0o022)
    assert archive_version(archive) == "1.0"


def test_what_is_written_is_never_others_whatever_the_umask(folder: Path, tmp_path: Path) -> None:
    packed_folder, same, other, private = (tmp_path / n / "x.mar" for n in "abcd")
    before = os.umask(0)
    try:
        for path in (packed_folder, same, other):
            path.parent.mkdir()
        pack_folder(folder, packed_folder, "1.0")
        copy_archive(packed_folder, same, "1.0")
        copy_archive(packed_folder, other, "2.0")
        private_copy(packed_folder, private)
    finally:
        os.umask(before)
    for path in (packed_folder, same, other, private):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_copies_and_renames_are_on_the_disk_before_they_count(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    packed_folder, same, other = (tmp_path / f"{n}.mar" for n in ("packed", "same", "other"))
    pack_folder(folder, packed_folder, "1.0")
    copy_archive(packed_folder, same, "1.0")
    copy_archive(packed_folder, other, "2.0")
    assert synced == [path.stat().st_ino for path in (packed_folder, same, other)]
    synced.clear()
    replace_file(other, same)
    assert synced == [same.stat().st_ino, tmp_path.stat().st_ino]
    synced.clear()
    atomic_write(same, [b"x"])
    assert synced == [same.stat().st_ino, tmp_path.stat().st_ino]


def test_an_archive_that_cannot_be_unpacked_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed(tmp_path / "x.mar", model="{}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(NotReadyError, match=r"cannot unpack .*x\.mar: No such file"):
        with open_archive(archive):
            pass
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError), open_archive(archive) as model_dir:
        (model_dir / "none").read_bytes()  # what the caller does is the caller's


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model directory as a server unpacks it and a worker leaves it."""
    (tmp_path / "unpacked").mkdir()
    made = write_model_dir(tmp_path / "unpacked", model_info(), version="1.0")
    (made / "model.onnx").write_bytes(b"weights" * 1000)
    (made / "catdog" / "__pycache__").mkdir(parents=True)
    (made / "catdog" / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    (made / "catdog" / "labels.py").write_text("code\n")
    return made


@pytest.mark.parametrize(
    ("loaded", "expected"),
    [
        (["1.0"], "2.0"),
        (["1.0", "10.0", "9.0"], "11.0"),
        (["2.7"], "3.0"),
        (["nightly"], "1.0"),
        (["2026-11-24"], "2027.0"),
        ([], "1.0"),
    ],
)
def test_the_next_version_is_the_next_whole_number(loaded: list[str], expected: str) -> None:
    assert next_version(loaded) == expected


def test_a_copy_differs_by_its_version_alone(folder: Path, tmp_path: Path) -> None:
    first, second, again = (tmp_path / f"{n}.mar" for n in ("first", "second", "again"))
    pack_folder(folder, first, "1.0")
    copy_archive(first, second, "2.0")
    assert [archive_version(path) for path in (first, second)] == ["1.0", "2.0"]
    assert has_files_of(first, folder)
    assert has_files_of(second, folder)
    with zipfile.ZipFile(second) as made:
        assert made.testzip() is None
        assert made.read("model.onnx") == b"weights" * 1000
        assert not [name for name in made.namelist() if "__pycache__" in name]
    # and the way back gives the first file's own bytes: an archive keeps its SHA-256
    copy_archive(second, again, "1.0")
    assert file_sha256(again) == file_sha256(first)
    copy_archive(first, again, "1.0")
    assert file_sha256(again) == file_sha256(first)


@pytest.mark.parametrize("change", ["model.onnx", "model-config.yaml", "new.txt"])
def test_other_content_is_found(folder: Path, tmp_path: Path, change: str) -> None:
    archive = tmp_path / "x.mar"
    pack_folder(folder, archive, "1.0")
    (folder / change).write_text("another")
    assert not has_files_of(archive, folder)
    assert not has_files_of(tmp_path / "none.mar", folder)
    (tmp_path / "junk.mar").write_text("junk")
    assert not has_files_of(tmp_path / "junk.mar", folder)


def test_a_copy_that_cannot_be_written_is_one_line(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "x.mar", "1.0")
    for version in ("1.0", "2.0"):
        with pytest.raises(NotReadyError, match=r"cannot write .*/none/y.mar: No such file"):
            copy_archive(tmp_path / "x.mar", tmp_path / "none" / "y.mar", version)
