"""Resumed while a disk, a root or a folder is away: every row stays."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from catdog_serving import find_images
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.remote_path import AnyPath
from tests.support.albums import rows_of
from tests.support.resumed_runs import classify
from tests.support.run_states import left_beside, rows_done
from tests.support.stub_backend import NameBackend, touch


@pytest.mark.parametrize("state_of_root", ["gone", "empty", "no folder"])
def test_a_resumed_run_whose_first_root_is_gone_or_empty_keeps_every_row(
    state_of_root: str, album: Path, output: Path, tmp_path: Path
) -> None:
    """As when a disk is not mounted."""
    touch(tmp_path / "more", "x.jpg", "y.jpg")
    paths = (album, tmp_path / "more")
    classify(*paths, output=output, keep_state=True)
    before = output.read_bytes()
    album.rename(tmp_path / "elsewhere")
    if state_of_root == "empty":
        album.mkdir()
    elif state_of_root == "no folder":
        album.symlink_to("nowhere")
    with pytest.raises(NotReadyError, match="holds no images|there is no file or folder"):
        classify(*paths, output=output, resume=True, keep_state=True)
    assert rows_done(output) == 24
    assert output.read_bytes() == before
    if state_of_root != "gone":
        shutil.rmtree(album) if state_of_root == "empty" else album.unlink()
    (tmp_path / "elsewhere").rename(album)
    assert classify(*paths, output=output, resume=True) == []
    assert output.read_bytes() == before


@pytest.mark.parametrize("state_of_root", ["gone", "empty"])
def test_a_restart_on_a_root_that_is_away_keeps_every_row(
    state_of_root: str, album: Path, output: Path, tmp_path: Path
) -> None:
    touch(tmp_path / "more", "x.jpg", "y.jpg")
    paths = (tmp_path / "more", album)
    classify(*paths, output=output, keep_state=True)
    before = output.read_bytes()
    album.rename(tmp_path / "elsewhere")
    if state_of_root == "empty":
        album.mkdir()
    with pytest.raises(NotReadyError, match="holds no images|there is no file or folder"):
        classify(*paths, output=output, restart=True, keep_state=True)
    assert rows_done(output) == 24
    assert output.read_bytes() == before


@pytest.mark.parametrize("below", ["card", "card/2026/day"])
def test_rows_below_a_folder_that_is_empty_now_stay(
    below: str, album: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when what is mounted there is away; where the folder is gone too, they go."""
    touch(album, f"{below}/y.jpg", f"{below}/z.jpg")
    classify(album, output=output, keep_state=True)
    before = output.read_bytes()
    shutil.move(album / "card", album.parent / "away")
    (album / "card").mkdir()
    assert classify(album, output=output, resume=True) == []
    assert rows_done(output) == 24
    said = capsys.readouterr().err
    assert f"2 rows of files that were not found stay in {output}.catdog; --resume looks" in said
    assert "or --restart" in said
    (album / "card").rmdir()
    shutil.move(album.parent / "away", album / "card")
    assert classify(album, output=output, resume=True, keep_state=True) == []
    assert output.read_bytes() == before
    shutil.rmtree(album / "card")
    assert classify(album, output=output, resume=True) == []
    assert len(rows_of(output)) == 22
    assert left_beside(output) == []


def test_rows_of_a_root_that_is_not_named_again_stay_when_it_is_gone(
    album: Path, output: Path, tmp_path: Path
) -> None:
    """Two folders, then one of them is unmounted, and only the other is gone on with."""
    touch(tmp_path / "more", "x.jpg", "y.jpg")
    classify(album, tmp_path / "more", output=output, keep_state=True)
    (tmp_path / "more").rename(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="with the same"):
        classify(album, output=output, resume=True)
    assert rows_done(output) == 24


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Folders that cannot be listed, though it is root who asks."""
    folders: set[Path] = set()
    entries = find_images.sorted_entries

    def entries_or_error(folder: AnyPath) -> Iterator[tuple[AnyPath, bool]]:
        if folder in folders:
            raise PermissionError(13, "Permission denied")
        return entries(folder)

    monkeypatch.setattr(find_images, "sorted_entries", entries_or_error)
    return folders


def test_rows_below_a_folder_that_cannot_be_listed_stay(
    album: Path, output: Path, closed: set[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    touch(album, "sub/a.jpg", "sub/b.jpg")
    classify(album, output=output, keep_state=True)
    closed.add(album / "sub")
    classify(album, output=output, resume=True, keep_state=True)
    assert rows_done(output) == 25
    assert "2 rows of files that were not found stay in" in capsys.readouterr().err
    closed.clear()
    assert classify(album, output=output, resume=True) == []
    assert left_beside(output) == []


def test_the_row_of_a_folder_goes_when_it_can_be_listed(
    album: Path, output: Path, closed: set[Path]
) -> None:
    touch(album, "sub/a.jpg")
    closed.add(album / "sub")
    classify(album, output=output)
    assert left_beside(output) == [""]
    closed.clear()
    assert classify(album, output=output, resume=True) == ["a.jpg"]
    assert left_beside(output) == []


def test_rows_below_a_root_that_is_gone_in_the_middle_stay(
    album: Path, output: Path, closed: set[Path], tmp_path: Path
) -> None:
    classify(album, output=output, keep_state=True)

    class Unmounting(NameBackend):
        def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
            album.rename(tmp_path / "elsewhere")
            return super().classify_files(paths)

    classify(album, backend=Unmounting(), output=output, resume=True)
    assert rows_done(output) == 23
