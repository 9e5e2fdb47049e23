"""Resumed after a --move-to that was cut short: what is not at its old place is done."""

from pathlib import Path

import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.folder.merge import merge_states
from tests.support.albums import rows_of
from tests.support.resumed_runs import classify
from tests.support.run_states import left_beside, rows_done
from tests.support.sorted_files import ctrl_c_instead_of_moving


def test_images_that_were_moved_are_done(album: Path, output: Path, tmp_path: Path) -> None:
    """A kill in the middle of --move-to: what is not at its old place is not forgotten."""
    options = {"sort_into": tmp_path / "sorted", "move": True}
    classify(album, output=tmp_path / "whole.jsonl")
    with ctrl_c_instead_of_moving(album / "07.jpg"):
        classify(album, output=output, **options)
    assert len(list(album.iterdir())) == 15
    assert classify(album, output=output, resume=True, **options) == []
    assert list(album.iterdir()) == []
    assert len([path for path in (tmp_path / "sorted").rglob("*") if path.is_file()]) == 22
    assert rows_of(output) == rows_of(tmp_path / "whole.jsonl")
    assert left_beside(output) == []


def test_a_new_file_with_a_moved_ones_name_is_a_row_of_its_own(
    album: Path, output: Path, tmp_path: Path
) -> None:
    """A camera numbers anew, after a kill in the middle of --move-to; here it does so twice."""
    options = {"sort_into": tmp_path / "sorted", "move": True}
    contents = {path.read_text() for path in album.iterdir()}
    for again in range(2):
        with ctrl_c_instead_of_moving(album / "03.jpg"):
            classify(album, output=output, resume=bool(again), **options)
        (album / "01.jpg").write_text(f"a new one, {again}")
    asked = classify(album, output=output, resume=True, keep_state=True, **options)
    assert asked == ["01.jpg"]
    rows = rows_of(output)
    assert len(rows) == 24
    assert sum(row["path"] == f"{album}/01.jpg" for row in rows) == 3
    assert len({row["sha256"] for row in rows}) == 24
    assert list(album.iterdir()) == []
    sorted_files = [path for path in (tmp_path / "sorted").rglob("*") if path.is_file()]
    found = [path.read_text() for path in sorted_files]
    assert sorted(found) == sorted([*contents, "a new one, 0", "a new one, 1"])
    for name in ("all.jsonl", "all.catdog"):
        merged = merge_states(tmp_path / name, [tmp_path / "out.jsonl.catdog"])
        assert (merged.rows, merged.repeated) == (24, 0)
    assert rows_of(tmp_path / "all.jsonl") == rows
    again_merged = merge_states(tmp_path / "again.jsonl", [tmp_path / "all.catdog"])
    assert again_merged.rows == 24


@pytest.mark.parametrize("kind", ["a folder", "files"])
def test_what_a_kill_left_half_moved_is_gone_on_with(
    kind: str, album: Path, output: Path, tmp_path: Path
) -> None:
    """But not while the folder is empty, as when its disk is not mounted."""
    paths = (album,) if kind == "a folder" else tuple(sorted(album.iterdir()))
    options = {"sort_into": tmp_path / "sorted", "move": True}
    with ctrl_c_instead_of_moving(album / "03.jpg"):
        classify(*paths, output=output, **options)
    album.rename(tmp_path / "elsewhere")
    album.mkdir()
    with pytest.raises(NotReadyError, match="holds no images|there is no file or folder"):
        classify(*paths, output=output, resume=True, **options)
    assert rows_done(output) == 22
    album.rmdir()
    (tmp_path / "elsewhere").rename(album)
    assert classify(*paths, output=output, resume=True, **options) == []
    assert len(rows_of(output)) == 22
    assert list(album.iterdir()) == []


def test_a_kill_after_the_last_move_is_no_empty_folder(
    album: Path, output: Path, tmp_path: Path
) -> None:
    options = {"sort_into": tmp_path / "sorted", "move": True, "keep_state": True}
    classify(album, output=output, **options)
    assert list(album.iterdir()) == []
    assert classify(album, output=output, resume=True, **options) == []
    assert len(rows_of(output)) == 22
