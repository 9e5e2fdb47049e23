import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catdog_serving.errors import NotReadyError
from catdog_serving.find_images import find_sources
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.process_folder import process_sources
from catdog_serving.folder.sort_files import SortReport, sort_files, sorted_lines
from tests.support.sorted_files import (
    SORTED,
    both,
    classified,
    contents,
    everything,
    on_disk,
    sort,
    tree,
)
from tests.support.stub_backend import NameBackend, prediction, touch


@pytest.fixture
def album(tmp_path: Path) -> Path:
    touch(tmp_path / "album", "cat.jpg", "cup.jpg", "sub/cat.jpg", "bad.jpg")
    return tmp_path / "album"


def test_images_are_copied_by_label_and_the_originals_stay(album: Path, tmp_path: Path) -> None:
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
    on_disk("another", album, monkeypatch)
    sort(classified(album), tmp_path / "sorted", move=True)
    assert tree(tmp_path / "sorted") == SORTED
    assert tree(album) == {}


def test_an_original_goes_only_when_its_copy_would_survive_a_power_loss(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another disk, or where a copy is there already: its folder is on the disk by then."""
    rows = classified(album)
    sort([row for row in rows if row.path.name == "cup.jpg"], tmp_path / "sorted")
    synced: dict[Path, bool] = {}
    fsync = os.fsync

    def note(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            synced[path] = (album / {"cat": "sub/cat.jpg"}.get(path.name, "cup.jpg")).exists()
        fsync(descriptor)

    on_disk("another", album, monkeypatch)
    monkeypatch.setattr(os, "fsync", note)
    sort([row for row in rows if row.path.name != "bad.jpg"], tmp_path / "sorted", move=True)
    assert synced == {tmp_path / "sorted/cat": True, tmp_path / "sorted/neither": True}
    assert tree(album) == {"bad.jpg": "bad.jpg"}


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
    assert (report.duplicates if move else report.unchanged) == 4
    assert (tree(album) == {}) is move


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_move_says_that_originals_went_because_of_a_duplicate(
    album: Path, tmp_path: Path, dry_run: bool
) -> None:
    target, rows = tmp_path / "sorted", classified(album)
    sort(rows, target)
    copied = list(sorted_lines(sort(rows, target, dry_run=dry_run), target, dry_run))
    assert copied[1:] == ["4 were there already"]
    moved = list(sorted_lines(sort(rows, target, True, dry_run), target, dry_run))
    goes = "would be" if dry_run else "were"
    assert moved[1:] == [
        f"4 duplicates: the same content is in {target}, so the originals {goes} removed"
    ]
    assert (tree(album) == {}) is not dry_run


def test_what_lies_in_its_folder_already_is_no_duplicate_that_was_removed(tmp_path: Path) -> None:
    touch(tmp_path / "sorted", "cat/cat.jpg")
    report = sort(classified(tmp_path / "sorted/cat"), tmp_path / "sorted", move=True)
    assert (report.unchanged, report.duplicates) == (1, 0)
    assert tree(tmp_path / "sorted") == {"cat/cat.jpg": "cat/cat.jpg"}


def test_a_file_that_changed_since_is_left_alone(album: Path, tmp_path: Path) -> None:
    rows = classified(album)
    (album / "cup.jpg").write_text("another image")
    (album / "bad.jpg").unlink()
    (album / "sub/cat.jpg").unlink()
    (album / "sub/cat.jpg").symlink_to("cat.jpg")  # to itself
    report = both(rows, tmp_path / "sorted", move=True)
    assert tree(album) == {"cup.jpg": "another image"}
    assert report.left == [
        f"{album}/bad.jpg: No such file or directory",
        f"{album}/cup.jpg: it changed since it was classified",
        f"{album}/sub/cat.jpg: Too many levels of symbolic links",
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


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_link_to_the_image_is_no_copy_of_it(
    album: Path, tmp_path: Path, link: str, move: bool
) -> None:
    place = tmp_path / "sorted/cat/cat.jpg"
    place.parent.mkdir(parents=True)
    if link == "symbolic":
        place.symlink_to(album / "cat.jpg")
    else:
        place.hardlink_to(album / "cat.jpg")
    before = contents(tmp_path)
    both(classified(album), tmp_path / "sorted", move)
    if move:
        assert contents(tmp_path) == before
    copy = place.with_name("cat (2).jpg")
    assert copy.read_text() == "cat.jpg"
    assert not copy.is_symlink()
    assert os.path.lexists(place)
    assert (album / "cat.jpg").exists() is not move


@pytest.mark.parametrize("move", [False, True])
def test_a_link_to_equal_content_elsewhere_is_no_copy(
    album: Path, tmp_path: Path, move: bool
) -> None:
    (tmp_path / "elsewhere.jpg").write_text("cup.jpg")
    (tmp_path / "sorted/neither").mkdir(parents=True)
    (tmp_path / "sorted/neither/cup.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    rows = classified(album)
    both(rows, tmp_path / "sorted", move)
    (tmp_path / "elsewhere.jpg").unlink()
    assert (tmp_path / "sorted/neither/cup (2).jpg").read_text() == "cup.jpg"
    assert sort(rows, tmp_path / "sorted", move).sorted == {}  # the copy is known again


def test_a_hard_link_of_another_file_is_a_copy(album: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.jpg").write_text("cup.jpg")
    (tmp_path / "sorted/neither").mkdir(parents=True)
    (tmp_path / "sorted/neither/cup.jpg").hardlink_to(tmp_path / "elsewhere.jpg")
    assert both(classified(album), tmp_path / "sorted", move=True).duplicates == 1
    assert tree(tmp_path / "sorted") == SORTED


@pytest.mark.parametrize("move", [False, True])
def test_an_image_that_is_in_its_folder_stays_as_it_is(
    album: Path, tmp_path: Path, move: bool
) -> None:
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted/cat").symlink_to(album)
    report = both(classified(album), tmp_path / "sorted", move)
    assert (album / "cat.jpg").read_text() == "cat.jpg"
    assert (album / "cat (2).jpg").read_text() == "sub/cat.jpg"  # this one was not
    assert report.unchanged == 1


def test_sorting_what_is_sorted_changes_nothing(album: Path, tmp_path: Path) -> None:
    target = tmp_path / "sorted"
    sort(classified(album), target, move=True)
    report = both(classified(target / "cat"), target, move=True)
    assert tree(target) == SORTED
    assert report == SortReport(unchanged=2)


def test_a_name_that_another_image_leaves_is_free(tmp_path: Path) -> None:
    """As when another model sorts what is sorted."""
    target = tmp_path / "sorted"
    touch(target, "cat/x.jpg", "dog/x.jpg")
    rows = classified(target / "cat") + classified(target / "dog")
    rows = [
        replace(row, outcome=prediction(label, 0.5, 0.5))
        for row, label in zip(rows, ("dog", "cat"), strict=True)
    ]
    both(rows, target, move=True)
    assert tree(target) == {"cat/x.jpg": "dog/x.jpg", "dog/x (2).jpg": "cat/x.jpg"}


@pytest.mark.parametrize("move", [False, True])
def test_a_link_to_an_image_in_its_folder_stays_as_it_is(
    album: Path, tmp_path: Path, move: bool
) -> None:
    touch(tmp_path / "sorted", "cat/cat.jpg")
    (album / "cat.jpg").unlink()
    (album / "cat.jpg").symlink_to(tmp_path / "sorted/cat/cat.jpg")
    (album / "other cat.jpg").symlink_to("../sorted/cat/cat.jpg")
    report = both(classified(album), tmp_path / "sorted", move)
    assert report.unchanged == 2
    assert tree(tmp_path / "sorted/cat") == {"cat.jpg": "cat/cat.jpg", "cat (2).jpg": "sub/cat.jpg"}
    assert (album / "cat.jpg").is_symlink()


@pytest.mark.parametrize("links", [True, False])
def test_two_names_of_one_file_are_both_kept(tmp_path: Path, links: bool) -> None:
    """Links are no copies of each other; real copies are one file in the end."""
    touch(tmp_path / "album", "a/cat.jpg")
    (tmp_path / "album/b").mkdir()
    if links:
        (tmp_path / "album/b/cat.jpg").hardlink_to(tmp_path / "album/a/cat.jpg")
    else:
        (tmp_path / "album/b/cat.jpg").write_text("a/cat.jpg")
    report = both(classified(tmp_path / "album"), tmp_path / "sorted", move=True)
    assert report.duplicates == (0 if links else 1)
    assert len(tree(tmp_path / "sorted")) == (2 if links else 1)
    assert tree(tmp_path / "album") == {}


def test_what_changed_unseen_is_not_taken_for_its_copy(album: Path, tmp_path: Path) -> None:
    """Programs that edit an image's facts may keep its size and its time."""
    rows = classified(album)
    sort(rows, tmp_path / "sorted", move=False)
    status = (album / "cup.jpg").stat()
    (album / "cup.jpg").write_text("CUP.JPG")
    os.utime(album / "cup.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    sort(rows, tmp_path / "sorted", move=True)
    assert (tmp_path / "sorted/neither/cup (2).jpg").read_text() == "CUP.JPG"


_NAMES = (
    *("album/cat.jpg", "album/cup.jpg", "album/sub/cat.jpg", "album/sub/cup.jpg"),
    *("sorted/neither/cat.jpg", "sorted/neither/cup.jpg", "sorted/neither/cup (2).jpg"),
    *("sorted/cat/cat.jpg", "sorted/cat/cat (2).jpg", "album/sub/link to cat.jpg"),
)
_KINDS = ("absent", "equal", "own", "symbolic link", "hard link")


@given(
    order=st.permutations(_NAMES),
    kinds=st.lists(st.sampled_from(_KINDS), min_size=len(_NAMES), max_size=len(_NAMES)),
    cat_folder=st.sampled_from(("sorted/cat", "album", "album/sub", "outside")),
    move=st.booleans(),
)
@settings(max_examples=40)
def test_whatever_is_linked_to_what_nothing_is_lost_and_the_plan_is_kept(
    order: list[str], kinds: list[str], cat_folder: str, move: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        touch(base, "album/first cat.jpg")
        for folder in ("album/sub", "sorted/neither", cat_folder):
            (base / folder).mkdir(parents=True, exist_ok=True)
        if cat_folder != "sorted/cat":
            (base / "sorted/cat").symlink_to(base / cat_folder)
        make_files(base, dict(zip(order, kinds, strict=True)))
        before = everything(base)
        held = contents(base)
        rows: list[ImageResult] = []
        paths = [base / "album", *(base / "sorted/neither").iterdir()]
        process_sources(find_sources(paths), NameBackend(), rows.append)
        both(rows, base / "sorted", move)
        after = everything(base)
        assert set(contents(base)) == set(held)
        assert move or after.items() >= before.items()
        assert not [path for path in after if ".catdog-" in path]


def make_files(base: Path, kinds: dict[str, str]) -> None:
    """Files with content of their own or not, and links to what was made before."""
    files = [base / "album/first cat.jpg"]
    for name, kind in kinds.items():
        path = base / name
        if kind == "absent" or os.path.lexists(path):
            continue
        if kind == "symbolic link":
            path.symlink_to(files[-1])
        elif kind == "hard link":
            path.hardlink_to(files[-1].resolve())
        else:
            path.write_text("equal" if kind == "equal" else name)
        files.append(path)
