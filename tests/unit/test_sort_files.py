import os
from pathlib import Path

import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.folder.process import process_folder
from catdog_serving.folder.rows import Row
from catdog_serving.folder.sort_files import SortReport, sort_files
from tests.stub_backend import NameBackend, touch


def classified(folder: Path) -> list[Row]:
    rows: list[Row] = []
    process_folder(folder, NameBackend(), rows.append)
    return rows


def sort(rows: list[Row], target: Path, move: bool = False, dry_run: bool = False) -> SortReport:
    return sort_files(rows, target, move, dry_run, lambda line: None)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def album(tmp_path: Path) -> Path:
    touch(tmp_path / "album", "cat.jpg", "cup.jpg", "sub/cat.jpg", "bad.jpg")
    return tmp_path / "album"


SORTED = {
    "cat/cat (2).jpg": "sub/cat.jpg",
    "cat/cat.jpg": "cat.jpg",
    "failed/bad.jpg": "bad.jpg",
    "neither/cup.jpg": "cup.jpg",
}


def test_pictures_are_copied_by_label_and_the_originals_stay(album: Path, tmp_path: Path) -> None:
    before = tree(album)
    report = sort(classified(album), tmp_path / "sorted")
    assert tree(tmp_path / "sorted") == SORTED
    assert tree(album) == before
    assert report.sorted == {"cat": 2, "neither": 1, "failed": 1}


def test_moving_leaves_nothing_behind_and_loses_nothing(album: Path, tmp_path: Path) -> None:
    sort(classified(album), tmp_path / "sorted", move=True)
    assert tree(tmp_path / "sorted") == SORTED
    assert tree(album) == {}


def test_moving_to_another_disk_is_the_same(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_replace = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(source).is_relative_to(album):
            raise OSError(18, "Invalid cross-device link")
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    sort(classified(album), tmp_path / "sorted", move=True)
    assert tree(tmp_path / "sorted") == SORTED
    assert tree(album) == {}


def test_a_dry_run_says_the_same_and_touches_nothing(album: Path, tmp_path: Path) -> None:
    rows, lines = classified(album), []
    report = sort_files(rows, tmp_path / "sorted", True, True, lines.append)
    assert not (tmp_path / "sorted").exists()
    assert report.sorted == {"cat": 2, "neither": 1, "failed": 1}
    assert f"{album}/sub/cat.jpg -> {tmp_path}/sorted/cat/cat (2).jpg" in lines


@pytest.mark.parametrize("move", [False, True])
def test_a_name_that_is_taken_is_never_overwritten(album: Path, tmp_path: Path, move: bool) -> None:
    touch(tmp_path / "sorted", "cat/cat.jpg", "neither/cup.jpg")
    (tmp_path / "sorted/neither/cup.jpg").write_text("someone else's")
    sort(classified(album), tmp_path / "sorted", move)
    found = tree(tmp_path / "sorted")
    assert found["neither/cup.jpg"] == "someone else's"
    assert found["neither/cup (2).jpg"] == "cup.jpg"
    assert sorted(found.values()) == sorted(
        ["someone else's", "cup.jpg", "cat/cat.jpg", "cat.jpg", "sub/cat.jpg", "bad.jpg"]
    )


@pytest.mark.parametrize("move", [False, True])
def test_a_repeated_run_adds_nothing(album: Path, tmp_path: Path, move: bool) -> None:
    rows = classified(album)
    sort(rows, tmp_path / "sorted", move=False)
    report = sort(rows, tmp_path / "sorted", move)
    assert tree(tmp_path / "sorted") == SORTED
    assert report.unchanged == 4
    assert (tree(album) == {}) is move


def test_a_file_that_changed_since_is_left_alone(album: Path, tmp_path: Path) -> None:
    rows = classified(album)
    (album / "cup.jpg").write_text("another picture")
    (album / "bad.jpg").unlink()
    report = sort(rows, tmp_path / "sorted", move=True)
    assert tree(album) == {"cup.jpg": "another picture"}
    assert report.left == [
        f"{album}/bad.jpg: No such file or directory",
        f"{album}/cup.jpg: it changed since it was classified",
    ]


def test_a_link_is_replaced_by_what_it_points_to(album: Path, tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere.txt")
    (album / "cat link.jpg").symlink_to("../elsewhere.txt")
    sort(classified(album), tmp_path / "sorted", move=True)
    assert tree(tmp_path / "sorted")["cat/cat link.jpg"] == "elsewhere.txt"
    assert (tmp_path / "elsewhere.txt").exists()
    assert not (album / "cat link.jpg").is_symlink()


def test_a_target_that_cannot_be_written_loses_nothing(album: Path, tmp_path: Path) -> None:
    (tmp_path / "sorted").write_text("a file")
    before = tree(album)
    with pytest.raises(NotReadyError, match="nothing was lost"):
        sort(classified(album), tmp_path / "sorted", move=True)
    assert tree(album) == before
