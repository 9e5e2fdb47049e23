"""Classifying and summing up, with a backend that needs no network."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from catdog.results import ModelId
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.find_images import find_sources
from catdog_serving.folder.image_result import FolderReport, ImageFailure, ImageResult
from catdog_serving.folder.process_folder import check_any, process_sources
from catdog_serving.folder.read_image import read_file
from catdog_serving.folder.run_state import RunState
from catdog_serving.remote_path import AnyPath
from tests.support.albums import process_folder
from tests.support.state_rows import failure
from tests.support.stub_backend import MODEL, NameBackend, prediction, touch


def names(rows: list[ImageResult]) -> list[str]:
    return [row.path.name for row in rows]


def process(path: Path, state: Path | None = None) -> tuple[list[ImageResult], list[str]]:
    """The rows, and the names of the files that were really classified."""
    rows: list[ImageResult] = []
    backend = NameBackend()
    if state is None:
        process_sources(find_sources([path]), backend, rows.append)
    else:
        with RunState.open(state, MODEL, resume=True) as opened:
            process_sources(find_sources([path]), backend, rows.append, opened)
    return rows, [asked.name for asked in backend.asked]


def test_an_empty_folder_is_an_error_and_not_nan(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(NotReadyError, match=r"holds no images \(1 other files\)"):
        process_folder(tmp_path, NameBackend(), print)


def test_the_summary_is_the_references(tmp_path: Path) -> None:
    touch(tmp_path, "cat1.jpg", "cat2.jpg", "cup.png", "bad.jpg", "notes.txt")
    rows: list[ImageResult] = []
    report = process_folder(tmp_path, NameBackend(), rows.append)
    assert names(rows) == ["bad.jpg", "cat1.jpg", "cat2.jpg", "cup.png"]
    assert (report.images, report.failed, report.skipped) == (3, 1, 1)
    assert report.mean_cat == pytest.approx((0.8 + 0.8 + 0.1) / 3)
    assert report.mean_dog == pytest.approx(0.2 / 3)
    assert report.labels == {"cat": 2, "neither": 1}
    assert report.images_per_s == pytest.approx(3 / report.seconds)


def test_means_of_nothing_are_none() -> None:
    report = FolderReport("album")
    report.add(failure("a"))
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
    ((row,), _) = process(tmp_path)
    assert list(row.to_dict())[:5] == ["path", "size", "mtime_ns", "sha256", "label"]
    assert row.file.size == len("cat.jpg")
    assert row.file.mtime_ns == (tmp_path / "cat.jpg").stat().st_mtime_ns
    assert row.file.sha256 == hashlib.sha256(b"cat.jpg").hexdigest()


def test_what_cannot_be_read_is_a_row_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    rows, _ = process(tmp_path)
    assert [row.outcome for row in rows] == [
        ImageFailure("Unreadable", "No such file or directory"),
        ImageFailure("TooLarge", "the file has 314572800 bytes, at most 268435456 are read"),
        ImageFailure("Unreadable", "not a regular file"),
    ]


def test_done_files_keep_their_rows_and_the_others_are_classified_in_order(tmp_path: Path) -> None:
    album, state = tmp_path / "album", tmp_path / "out.catdog"
    touch(album, *(f"{number:04}.jpg" for number in range(1500)))
    process(album, state)
    for number in (5, 6, 900, 1499):
        (album / f"{number:04}.jpg").write_text("changed")
    touch(album, "0007a.jpg", "sub/new.jpg")
    (album / "0100.jpg").unlink()
    rows, asked = process(album, state)
    assert asked == ["0005.jpg", "0006.jpg", "0007a.jpg", "0900.jpg", "1499.jpg", "new.jpg"]
    again, _ = process(album)
    assert rows == again


def test_a_server_that_changes_its_model_ends_the_run(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")

    class Changing(NameBackend):
        def classify_files(self, paths):  # type: ignore[no-untyped-def]
            other = ModelId("net", "ids", "int8")
            for number, path in enumerate(paths):
                model = other if number else self.model
                yield ImageResult(read_file(path)[0], prediction("cat", 0.8, 0.1, model))

    rows: list[ImageResult] = []
    with pytest.raises(RefusedError, match="net ids, int8 now, and began with net ids, fp32"):
        process_folder(tmp_path, Changing(), rows.append)
    assert names(rows) == ["1.jpg"]


def test_seconds_and_rate_are_of_the_new_images_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second for each that is classified, ten for each look at one that was done before."""
    now = 0.0
    is_current = RunState.is_current

    def looking(state: RunState, path: AnyPath) -> bool:
        nonlocal now
        now += 10
        return is_current(state, path)

    class Slow(NameBackend):
        def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
            nonlocal now
            for result in super().classify_files(paths):
                now += 1
                yield result

    names = [f"{number}.jpg" for number in range(5)]
    touch(tmp_path / "album", *names)
    process(tmp_path / "album", tmp_path / "state")
    touch(tmp_path / "album", "7.jpg", "8.jpg")
    monkeypatch.setattr(RunState, "is_current", looking)
    monkeypatch.setattr(
        "catdog_serving.folder.process_folder.time", SimpleNamespace(perf_counter=lambda: now)
    )
    new: list[ImageResult] = []
    old: list[ImageResult] = []
    with RunState.open(tmp_path / "state", MODEL, resume=True) as opened:
        sources = find_sources([tmp_path / "album"])
        (report,) = process_sources(sources, Slow(), new.append, opened, old.append)
    assert (len(old), len(new)) == (5, 2)
    assert (report.images, report.reused, report.images_per_s) == (7, 5, 2 / report.seconds)
    assert report.seconds == 12  # a look at the second of the new ones is on its way


def test_a_pattern_that_nothing_matches_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    sources = find_sources([tmp_path], ("*.png", "x*"))
    with pytest.raises(NotReadyError, match=r"no file in .* matches --glob '\*\.png' or 'x\*' \(2"):
        check_any(sources)
