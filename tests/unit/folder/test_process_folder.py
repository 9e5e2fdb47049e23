"""Classifying and summing up, with a backend that needs no network."""

import hashlib
import os
from pathlib import Path

import pytest

from catdog.results import ModelId
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.folder.files import FileInfo, ImageFailure, read_file
from catdog_serving.folder.find_files import find_sources
from catdog_serving.folder.process_folder import FolderReport, process_folder, process_sources
from catdog_serving.folder.rows import ImageResult, Row, to_row
from tests.support.stub_backend import NameBackend, prediction, touch


def names(rows: list[Row]) -> list[str]:
    return [Path(row["path"]).name for row in rows]


def process(path: Path, old: list[Row]) -> tuple[list[Row], list[str]]:
    """The rows, and the names of the files that were really classified."""
    rows: list[Row] = []
    backend = NameBackend()
    process_sources(find_sources([path]), backend, rows.append, old)
    return rows, [asked.name for asked in backend.asked]


def test_an_empty_folder_is_an_error_and_not_nan(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(NotReadyError, match=r"holds no images \(1 other files\)"):
        process_folder(tmp_path, NameBackend(), print)


def test_the_summary_is_the_references(tmp_path: Path) -> None:
    touch(tmp_path, "cat1.jpg", "cat2.jpg", "cup.png", "bad.jpg", "notes.txt")
    rows: list[Row] = []
    report = process_folder(tmp_path, NameBackend(), rows.append)
    assert names(rows) == ["bad.jpg", "cat1.jpg", "cat2.jpg", "cup.png"]
    assert (report.images, report.failed, report.skipped) == (3, 1, 1)
    assert report.mean_cat == pytest.approx((0.8 + 0.8 + 0.1) / 3)
    assert report.mean_dog == pytest.approx(0.2 / 3)
    assert report.labels == {"cat": 2, "neither": 1}
    assert report.images_per_s == pytest.approx(3 / report.seconds)


def test_means_of_nothing_are_none() -> None:
    report = FolderReport("album")
    report.add(to_row(ImageResult(FileInfo(Path("a")), ImageFailure("InvalidImage", "x"))))
    assert report.mean_cat is None
    assert report.mean_dog is None


def test_folders_have_a_report_each_and_named_files_one_together(tmp_path: Path) -> None:
    touch(tmp_path, "a/cat.jpg", "b/cup.jpg", "b/bad.jpg", "one.jpg", "cat two.jpg")
    paths = [tmp_path / name for name in ("one.jpg", "b", "a", "cat two.jpg")]
    reports = process_sources(find_sources(paths), NameBackend(), lambda row: None)
    found = {Path(report.folder).name: (report.images, report.failed) for report in reports}
    assert found == {"a": (1, 0), "b": (1, 1), "2 files": (2, 0)}


def test_a_row_has_what_tells_whether_the_file_changed(tmp_path: Path) -> None:
    touch(tmp_path, "cat.jpg")
    rows, _ = process(tmp_path, [])
    assert list(rows[0])[:5] == ["path", "size", "mtime_ns", "sha256", "label"]
    assert rows[0]["size"] == len("cat.jpg")
    assert rows[0]["mtime_ns"] == (tmp_path / "cat.jpg").stat().st_mtime_ns
    assert rows[0]["sha256"] == hashlib.sha256(b"cat.jpg").hexdigest()


def test_what_cannot_be_read_is_a_row_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    rows, _ = process(tmp_path, [])
    assert [(row["error"]["type"], row["error"]["message"]) for row in rows] == [
        ("Unreadable", "No such file or directory"),
        ("TooLarge", "the file has 314572800 bytes, at most 268435456 are read"),
        ("Unreadable", "not a regular file"),
    ]


def test_done_files_keep_their_rows_and_the_others_are_classified_in_order(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number:04}.jpg" for number in range(3000)))
    first, _ = process(tmp_path, [])
    for number in (5, 6, 1500, 2999):
        (tmp_path / f"{number:04}.jpg").write_text("changed")
    touch(tmp_path, "0007a.jpg", "sub/new.jpg")
    (tmp_path / "0100.jpg").unlink()
    rows, asked = process(tmp_path, first)
    assert asked == [
        *("0005.jpg", "0006.jpg", "0007a.jpg", "1500.jpg", "2999.jpg", "new.jpg"),
    ]
    again, _ = process(tmp_path, [])
    assert rows == again


def test_unreadable_files_are_tried_again_and_bad_images_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "bad.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "target")
    first, _ = process(tmp_path, [])
    assert ["error" in row for row in first] == [True, True]
    (tmp_path / "target").write_text("a cat")
    rows, asked = process(tmp_path, first)
    assert asked == ["link.jpg"]
    assert ["error" in row for row in rows] == [True, False]


def test_a_done_file_outside_of_this_run_is_never_dropped(tmp_path: Path) -> None:
    touch(tmp_path, "a/cat.jpg", "b/cat.jpg")
    first, _ = process(tmp_path, [])
    with pytest.raises(RefusedError, match="is not among the files of this one"):
        process(tmp_path / "b", first)
    with pytest.raises(RefusedError, match="is not among the files of this one"):
        process(tmp_path / "a", first)


def test_a_server_that_changes_its_model_ends_the_run(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")

    class Changing(NameBackend):
        def classify_files(self, paths):  # type: ignore[no-untyped-def]
            other = ModelId("net", "ids", "int8")
            for number, path in enumerate(paths):
                model = other if number else self.model
                yield ImageResult(read_file(path)[0], prediction("cat", 0.8, 0.1, model))

    rows: list[Row] = []
    with pytest.raises(RefusedError, match="net ids, int8 now, and began with net ids, fp32"):
        process_folder(tmp_path, Changing(), rows.append)
    assert names(rows) == ["1.jpg"]
