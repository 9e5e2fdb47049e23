"""Runs that are killed, interrupted and resumed: the rows are those of one run."""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from catdog_serving import find_images
from catdog_serving.cli.classify import run_classify
from catdog_serving.cli.progress import FolderProgress
from catdog_serving.errors import CatDogError, NotReadyError, RefusedError
from catdog_serving.folder import place_file
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.merge import merge_states
from catdog_serving.folder.run_options import RunOptions
from catdog_serving.remote_path import AnyPath
from tests.support.albums import rows_of
from tests.support.run_states import left_beside, rows_done
from tests.support.stub_backend import NameBackend, touch


def classify(
    *paths: Path, backend: NameBackend | None = None, output: Path, **options: object
) -> list[str]:
    """Run, and give the names of the files that were really classified."""
    backend = backend or NameBackend()
    run_classify(RunOptions(paths, output=output, **options), backend)  # type: ignore[arg-type]
    return [path.name for path in backend.asked]


def interrupted(*paths: Path, after: int, output: Path, **options: object) -> None:
    """Ctrl-C when so many files are classified."""

    class Interrupted(NameBackend):
        def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
            for number, result in enumerate(super().classify_files(paths)):  # type: ignore[arg-type]
                if number == after:
                    raise KeyboardInterrupt
                yield result

    with pytest.raises(KeyboardInterrupt):
        classify(*paths, backend=Interrupted(), output=output, **options)
    assert left_beside(output) == [""]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    touch(tmp_path / "album", *(f"{number:02}.jpg" for number in range(20)), "bad.jpg", "cat.jpg")
    return tmp_path / "album"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def test_changes_between_two_interruptions_are_seen(
    album: Path, output: Path, tmp_path: Path
) -> None:
    interrupted(album, after=15, output=output)
    (album / "03.jpg").write_text("changed")
    (album / "10.jpg").unlink()
    touch(album, "05a.jpg")
    interrupted(album, after=2, output=output, resume=True)
    (album / "05a.jpg").write_text("changed again")
    asked = classify(album, output=output, resume=True)
    assert asked == ["05a.jpg", *(f"{n}.jpg" for n in range(15, 20)), "bad.jpg", "cat.jpg"]
    classify(album, output=tmp_path / "whole.jsonl")
    assert rows_of(output) == rows_of(tmp_path / "whole.jsonl")


class Gone(NameBackend):
    """Looks at all files before its first answer, and is lost then, as a cluster may be."""

    def classify_files(self, paths: Iterable[Path]) -> Iterator[ImageResult]:
        list(paths)
        raise KeyboardInterrupt
        yield


def test_rows_of_files_that_the_walk_has_passed_are_not_lost(album: Path, output: Path) -> None:
    interrupted(album, after=15, output=output)
    with pytest.raises(KeyboardInterrupt):
        classify(album, backend=Gone(), output=output, resume=True)
    assert rows_done(output) == 15
    assert len(classify(album, output=output, resume=True)) == 7


def test_rows_of_files_that_are_gone_go(album: Path, output: Path, tmp_path: Path) -> None:
    classify(album, output=output, keep_state=True)
    for name in ("00.jpg", "bad.jpg", "cat.jpg"):
        (album / name).unlink()
    assert classify(album, output=output, resume=True, keep_state=True) == []
    classify(album, output=tmp_path / "whole.jsonl")
    assert rows_of(output) == rows_of(tmp_path / "whole.jsonl")
    assert rows_done(output) == 19


def test_a_run_goes_on_with_the_same_selection_only(album: Path, output: Path) -> None:
    interrupted(album, after=3, output=output, exclude=("bad*",))
    for other in ((), ("cat*",)):
        with pytest.raises(RefusedError, match="--exclude"):
            classify(album, output=output, resume=True, exclude=other)
    assert "bad.jpg" not in classify(album, output=output, resume=True, exclude=("bad*",))
    assert len(rows_of(output)) == 21


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


def test_a_refused_resume_leaves_the_run_at_its_end(
    album: Path, output: Path, tmp_path: Path
) -> None:
    touch(tmp_path / "more", "x.jpg")
    classify(album, tmp_path / "more", output=output, keep_state=True)
    with pytest.raises(RefusedError, match="with the same"):
        classify(album, output=output, resume=True)
    (tmp_path / "more/x.jpg").unlink()
    with pytest.raises(NotReadyError, match="holds no images"):
        classify(album, tmp_path / "more", output=output, resume=True)
    assert merge_states(tmp_path / "all.csv", [tmp_path / "out.jsonl.catdog"]).rows == 23
    touch(album, "new.jpg")
    interrupted(album, tmp_path / "more", after=0, output=output, resume=True)
    assert merge_states(tmp_path / "again.csv", [tmp_path / "out.jsonl.catdog"]).rows == 23
    with pytest.raises(NotReadyError, match="holds no images"):
        classify(album, tmp_path / "more", output=output, resume=True)
    with pytest.raises(RefusedError, match="did not end"):
        merge_states(tmp_path / "no.csv", [tmp_path / "out.jsonl.catdog"])


def test_a_done_file_outside_of_this_run_is_never_dropped(
    album: Path, output: Path, tmp_path: Path
) -> None:
    touch(tmp_path / "more", "x.jpg")
    classify(album, tmp_path / "more", output=output, keep_state=True)
    for paths, options in (
        ((album,), {}),
        ((tmp_path / "more",), {}),
        ((album, tmp_path / "more"), {"patterns": ("*.jpg",)}),
    ):
        with pytest.raises(RefusedError, match="with the same"):
            classify(*paths, output=output, resume=True, **options)
    assert rows_done(output) == 23


def test_only_what_could_not_be_read_is_tried_again(
    album: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (album / "link.jpg").symlink_to(album.parent / "target")
    classify(album, output=output)
    assert left_beside(output) == [""]
    said = capsys.readouterr().err
    assert "1 files could not be read" in said
    assert "--resume tries them again" in said
    touch(album.parent, "target")
    assert classify(album, output=output, resume=True) == ["link.jpg"]
    assert left_beside(output) == []
    assert not any(row.get("error", {}).get("type") == "Unreadable" for row in rows_of(output))


@pytest.mark.parametrize("by", ["its name", "a symbolic link", "a hard link"])
def test_the_runs_own_files_are_no_images(by: str, album: Path) -> None:
    """Whatever --glob takes; so such a run can be resumed."""
    output = album / "out.jsonl"
    interrupted(album, after=5, output=output, patterns=("*",))
    if by == "a symbolic link":
        (album / "link.jpg").symlink_to("out.jsonl.catdog")
    elif by == "a hard link":
        (album / "link.jpg").hardlink_to(album / "out.jsonl.catdog")
    classify(album, output=output, patterns=("*",), resume=True)
    assert len(rows_of(output)) == 22


def test_names_that_are_not_utf_8_are_resumed_too(tmp_path: Path, output: Path) -> None:
    album = tmp_path / "alb\udcffum"
    touch(album, *(f"{number}-\udcfe-é.jpg" for number in range(9)))
    interrupted(album, after=4, output=output)
    assert len(classify(album, output=output, resume=True)) == 5
    assert [row["path"] for row in rows_of(output)] == sorted(map(str, album.iterdir()))


def test_what_is_shown_as_it_comes_is_in_order_after_a_resume(
    album: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Rows that were there, and new ones between them."""
    page = tmp_path / "page.html"
    options = RunOptions((album,), report=page, format="jsonl", keep_state=True)
    run_classify(options, NameBackend())
    first = capsysbinary.readouterr().out
    for name in ("00.jpg", "07.jpg", "cat.jpg"):
        os.utime(album / name, ns=(1, 1))
    options = RunOptions((album,), report=page, format="jsonl", resume=True)
    run_classify(options, NameBackend())
    again = capsysbinary.readouterr().out

    def names(lines: bytes) -> list[bytes]:
        return [line.partition(b'"size"')[0] for line in lines.splitlines()]

    assert names(again) == names(first)
    assert len(names(again)) == 23


def test_an_interruption_says_how_many_rows_are_kept_whatever_was_counted(
    album: Path, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = FolderProgress.add

    def add_or_end(progress: FolderProgress, failed: bool) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt
        add(progress, failed)

    monkeypatch.setattr(FolderProgress, "add", add_or_end)
    for kept, options in ((3, {}), (3, {"resume": True})):
        with pytest.raises(KeyboardInterrupt):
            classify(album, output=output, **options)
        assert f"interrupted; {kept} files are in {output}.catdog" in capsys.readouterr().err


class Ends(NameBackend):
    """Ends in the middle, in some way."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        for number, result in enumerate(super().classify_files(paths)):
            if number == 4:
                raise self._error
            yield result


@pytest.mark.parametrize(
    "error",
    [SystemExit(143), NotReadyError("full"), RefusedError("another model"), OSError(5, "a bug")],
    ids=repr,
)
def test_whatever_ends_a_run_it_says_how_to_go_on(
    error: BaseException, album: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)):
        classify(album, backend=Ends(error), output=output)
    said = capsys.readouterr().err
    assert f"4 files are in {output}.catdog; to go on: the same command with --resume" in said
    assert len(classify(album, output=output, resume=True)) == 18


def test_a_sorting_that_fails_says_how_to_go_on(
    album: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, "sorted/cat", "sorted/neither")  # where folders should be
    options = {"sort_into": tmp_path / "sorted", "move": True}
    with pytest.raises(NotReadyError, match="and the same command with --resume goes on"):
        classify(album, output=output, **options)
    assert "to go on: the same command with --resume" in capsys.readouterr().err
    with pytest.raises(NotReadyError, match="and the same command goes on"):
        run_classify(RunOptions((album,), **options), NameBackend())  # type: ignore[arg-type]


def test_a_refusal_before_the_run_does_not_say_that_it_goes_on(
    album: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classify(album, output=output, keep_state=True)
    with pytest.raises(RefusedError, match="with the same"):
        classify(album / "cat.jpg", output=output, resume=True)
    assert "to go on" not in capsys.readouterr().err


def test_json_lines_are_a_live_stream(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    lines: list[int] = []

    class Watched(NameBackend):
        def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
            for result in super().classify_files(paths):
                lines.append(pipe.read_bytes().count(b"\n"))
                yield result

    with pipe.open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        run_classify(RunOptions((album,), format="jsonl"), Watched())
    assert lines == list(range(1, 23))  # the first says which model it is


def test_images_that_were_moved_are_done(
    album: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in the middle of --move-to: what is not at its old place is not forgotten."""
    options = {"sort_into": tmp_path / "sorted", "move": True}
    classify(album, output=tmp_path / "whole.jsonl")
    rename, moved = place_file._rename_noreplace, 0

    def rename_some(source: Path, target: Path) -> None:
        nonlocal moved
        moved += 1
        if moved == 8:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(place_file, "_rename_noreplace", rename_some)
        with pytest.raises(KeyboardInterrupt):
            classify(album, output=output, **options)
    assert len(list(album.iterdir())) == 15
    assert classify(album, output=output, resume=True, **options) == []
    assert list(album.iterdir()) == []
    assert len([path for path in (tmp_path / "sorted").rglob("*") if path.is_file()]) == 22
    assert rows_of(output) == rows_of(tmp_path / "whole.jsonl")
    assert left_beside(output) == []


def test_a_new_file_with_a_moved_ones_name_is_a_row_of_its_own(
    album: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera numbers anew, after a kill in the middle of --move-to; here it does so twice."""
    options = {"sort_into": tmp_path / "sorted", "move": True}
    rename = place_file._rename_noreplace

    def rename_some(source: Path, target: Path) -> None:
        if source == album / "03.jpg":
            raise KeyboardInterrupt
        rename(source, target)

    contents = {path.read_text() for path in album.iterdir()}
    for again in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(place_file, "_rename_noreplace", rename_some)
            with pytest.raises(KeyboardInterrupt):
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
    kind: str, album: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not while the folder is empty, as when its disk is not mounted."""
    paths = (album,) if kind == "a folder" else tuple(sorted(album.iterdir()))
    options = {"sort_into": tmp_path / "sorted", "move": True}
    rename = place_file._rename_noreplace

    def rename_some(source: Path, target: Path) -> None:
        if source == album / "03.jpg":
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(place_file, "_rename_noreplace", rename_some)
        with pytest.raises(KeyboardInterrupt):
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


def test_a_named_file_that_is_missing_makes_no_state(album: Path, output: Path) -> None:
    for options in ({}, {"resume": True}):
        with pytest.raises(NotReadyError, match="there is no file or folder"):
            classify(album / "none.jpg", output=output, **options)
        assert left_beside(output) == []


def test_a_kill_after_the_last_move_is_no_empty_folder(
    album: Path, output: Path, tmp_path: Path
) -> None:
    options = {"sort_into": tmp_path / "sorted", "move": True, "keep_state": True}
    classify(album, output=output, **options)
    assert list(album.iterdir()) == []
    assert classify(album, output=output, resume=True, **options) == []
    assert len(rows_of(output)) == 22


def test_restart_classifies_everything_again(album: Path, output: Path) -> None:
    interrupted(album, after=5, output=output)
    with pytest.raises(RefusedError, match="by --resume, or begin again by --restart"):
        classify(album, output=output)
    assert len(classify(album, output=output, restart=True)) == 22


def test_nothing_is_kept_of_a_run_without_outputs(
    album: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for output_format in ("table", "json", "csv", "jsonl"):
        run_classify(RunOptions((album,), format=output_format), NameBackend())
        assert b"cat.jpg" in capsysbinary.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_run_of_the_first_edition_is_refused_and_stays(name: str, album: Path) -> None:
    output = album.parent / name
    journal = output if name == "out.jsonl" else album.parent / f"{name}.journal.jsonl"
    line = b'{"catdog_journal":1,"network":"net"}\n'
    journal.write_bytes(line)
    for options in ({}, {"resume": True}):
        with pytest.raises(CatDogError, match=r"journal of catdog 0\.1.* by --restart"):
            classify(album, output=output, **options)
        assert journal.read_bytes() == line
    assert len(classify(album, output=output, restart=True)) == 22
    assert classify(album, output=output.with_name("new.csv")) != []
