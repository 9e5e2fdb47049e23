"""Images that are classified by their names and sorted, and what is where then."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from catdog_serving.folder import place_file
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.sort_files import SortReport, sort_files
from tests.support.albums import process_folder
from tests.support.stub_backend import NameBackend

# What becomes of cat.jpg, cup.jpg, sub/cat.jpg and bad.jpg, whose content is their name.
SORTED = {
    "cat/cat (2).jpg": "sub/cat.jpg",
    "cat/cat.jpg": "cat.jpg",
    "failed/bad.jpg": "bad.jpg",
    "neither/cup.jpg": "cup.jpg",
}


def classified(folder: Path) -> list[ImageResult]:
    rows: list[ImageResult] = []
    process_folder(folder, NameBackend(), rows.append)
    return rows


def sort(
    rows: list[ImageResult], target: Path, move: bool = False, dry_run: bool = False
) -> SortReport:
    return sort_files(rows, target, move, dry_run, lambda line: None)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def contents(folder: Path) -> list[str]:
    """What the regular files of a folder hold, each file counted once, whatever its names."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted({path.stat().st_ino: path.read_text() for path in files}.values())


def both(rows: list[ImageResult], target: Path, move: bool) -> SortReport:
    """A dry run and then the real one, which must do what the first said."""
    lines: list[str] = []
    before = everything(target.parent)
    plan = sort_files(rows, target, move, True, lines.append)
    assert everything(target.parent) == before
    report = sort(rows, target, move)
    assert report == plan
    places = {os.path.realpath(line.partition(" -> ")[2]) for line in lines}
    after = everything(target.parent)
    assert len(places) == len(lines)
    assert after.keys() - before.keys() <= places <= after.keys()
    return report


def everything(folder: Path) -> dict[str, str]:
    """Every name with what is there: where a link points to, or a file's content."""
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def on_disk(kind: str, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What renaming does: on one disk, from another disk, where it cannot leave a name alone."""
    rename = place_file._rename_noreplace

    def rename_here(source: Path, place: Path) -> None:
        if kind == "another" and source.is_relative_to(album):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(place))
        if kind == "without renameat2":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(place))
        rename(source, place)

    monkeypatch.setattr(place_file, "_rename_noreplace", rename_here)


@contextmanager
def ctrl_c_instead_of_moving(path: Path) -> Iterator[None]:
    rename = place_file._rename_noreplace

    def rename_or_raise(source: Path, place: Path) -> None:
        if source == path:
            raise KeyboardInterrupt
        rename(source, place)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(place_file, "_rename_noreplace", rename_or_raise)
        with pytest.raises(KeyboardInterrupt):
            yield
