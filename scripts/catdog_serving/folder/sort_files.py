"""--copy-to and --move-to: sort images into cat/, dog/, neither/ and failed/.

Nothing is ever overwritten, and no file is lost: see `place_file`. A link to an image,
symbolic or hard, or its name through another mount is no copy of it; an image that lies in
its folder already stays as it is.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from catdog_serving.atomic_write import make_folder
from catdog_serving.errors import NotReadyError
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.place_file import (
    is_copy,
    may_be_one_file,
    names,
    place_file,
    remove_original,
)
from catdog_serving.real_folders import nearest_there

# Of what cannot be done with one image, and can with the next: its name is not possible in the
# target, it is larger than a file may be there, or it changes.
_OF_ONE_IMAGE = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EFBIG, errno.EAGAIN}
# The same, of an error that names the image: it is gone, or cannot be read.
_UNREADABLE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ESTALE}

_OnMove: TypeAlias = Callable[[Path, Path], object]


@dataclass
class SortReport:
    """What became of the files.

    Attributes:
        sorted: How many went into each folder, or would have.
        unchanged: Files that stay where they are: they are there already, or a copy of them.
        duplicates: Files that a move took away, or would, because a copy of them is there.
        left: Files that were left where they are, each with the reason.
    """

    sorted: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    duplicates: int = 0
    left: list[str] = field(default_factory=list)


@dataclass
class _Ahead:
    """What a dry run would have changed so far; a real one finds it on the disk.

    Attributes:
        taken: The places that would be taken: the content's SHA-256, and the file's
            status if the image itself would have gone there.
        gone: Where images would have been moved away.
    """

    taken: dict[Path, tuple[str | None, os.stat_result | None]] = field(default_factory=dict)
    gone: set[Path] = field(default_factory=set)

    def lacks(self, source: Path) -> bool:
        """Whether a file, or a link on the way to it, would be gone by now."""
        return any(place in self.gone for place in _on_the_way(source))

    def note(self, row: ImageResult, source: Path, place: Path | None, move: bool) -> None:
        """Remember that an image would go to its place; None if a copy is there."""
        if place is not None:
            renamed = move and not source.is_symlink() and _on_one_disk(source, place)
            self.taken[_real(place)] = (row.file.sha256, source.stat() if renamed else None)
        if move:
            self.gone.add(_real(source))


def sort_files(
    rows: Iterable[ImageResult],
    target: Path,
    move: bool,
    dry_run: bool,
    on_step: Callable[[str], None],
    on_move: _OnMove = lambda source, place: None,
    on_stay: Callable[[Path], object] = lambda source: None,
    again: str = "the same command",
) -> SortReport:
    """Copy or move each row's file to TARGET/LABEL/NAME, or TARGET/failed/NAME.

    A name that is taken gets a number: "a (2).jpg". A file of which a copy is there is not
    copied again, so an interrupted run can be repeated. A file that lies in that folder, that
    changed since it was classified, or that cannot be read or have its name there is left alone.

    Args:
        rows: The results.
        target: The folder to make.
        move: Take the originals away.
        dry_run: Say what would be done, and do nothing.
        on_step: Called with a line per file on a dry run.
        on_move: Called with an image and its place just before it goes there.
        on_stay: Called with an image that does not go there after all.
        again: What goes on after an error, for its message.

    Raises:
        NotReadyError: If the target cannot be written.
    """
    report = SortReport()
    ahead = _Ahead()
    dry = ahead if dry_run else None
    for row in rows:
        if row.file.moved_to is not None:
            continue
        source, folder = Path(str(row.path)), row.label
        reason = _why_not(row, source, ahead)
        if reason:
            report.left.append(f"{source}: {reason}")
            continue
        try:
            is_there = _lies_in(source, target / folder)
            place = None
            if not is_there:
                place = _bring(row, source, target / folder, on_move if move else None, dry)
        except OSError as error:
            if (dry_run or os.path.isdir(target / folder)) and _is_of_one_image(error, source):
                report.left.append(f"{source}: {error.strerror}")
                on_stay(source)
                continue
            raise NotReadyError(
                f"cannot sort {source} into {target / folder}: {error.strerror or error}; "
                f"nothing was lost, and {again} goes on"
            ) from error
        if place is None:
            if move and not is_there:
                report.duplicates += 1
            else:
                report.unchanged += 1
            continue
        if dry_run:
            on_step(f"{source} -> {place}")
        report.sorted[folder] += 1
    return report


def sorted_lines(report: SortReport, target: Path, dry_run: bool) -> Iterator[str]:
    """How many files went where, and the names of those that were left."""
    counts = ", ".join(f"{count} to {folder}/" for folder, count in sorted(report.sorted.items()))
    yield f"{'would be sorted' if dry_run else 'sorted'}: {counts or 'nothing'}"
    if report.unchanged:
        yield f"{report.unchanged} were there already"
    if count := report.duplicates:
        many, goes = count > 1, "would be" if dry_run else "were" if count > 1 else "was"
        yield (
            f"{count} duplicate{'s' * many}: the same content is in {target}, so the "
            f"original{'s' * many} {goes} removed"
        )
    yield from (f"left alone: {line}" for line in report.left)


def _why_not(row: ImageResult, source: Path, ahead: _Ahead) -> str | None:
    try:
        status = source.stat()
    except OSError as error:
        return error.strerror or str(error)
    if ahead.lacks(source):
        return os.strerror(errno.ENOENT)
    if row.file.sha256 is None:
        return "it was not read"
    if (status.st_size, status.st_mtime_ns) != (row.file.size, row.file.mtime_ns):
        return "it changed since it was classified"
    return None


def _is_of_one_image(error: OSError, source: Path) -> bool:
    return error.errno in _OF_ONE_IMAGE or (
        error.errno in _UNREADABLE and str(error.filename) == str(source)
    )


def _bring(
    row: ImageResult, source: Path, folder: Path, on_move: _OnMove | None, dry: _Ahead | None
) -> Path | None:
    """Put a file into a folder, or if `dry` is given only note it; None if a copy is there.

    It is copied, or moved if `on_move` is given.
    """
    if dry is None:
        make_folder(folder)
        return _place(row, source, folder, on_move)
    place, is_there = _find_place(row, source, folder, dry)
    dry.note(row, source, None if is_there else place, on_move is not None)
    return None if is_there else place


def _lies_in(source: Path, folder: Path) -> bool:
    """Whether a file, or what it links to, is in that very folder, by whatever name of it."""
    return folder.exists() and any(
        parent.samefile(folder) for parent in (source.parent, source.resolve().parent)
    )


def _place(row: ImageResult, source: Path, folder: Path, on_move: _OnMove | None) -> Path | None:
    """Find a free name and take it; None if a copy has one already."""
    while True:
        place, is_there = _find_place(row, source, folder, _Ahead())
        if on_move is not None:
            on_move(source, place)
        if is_there:
            if on_move is not None:
                remove_original(source, place)
            return None
        try:
            place_file(source, place, row.file.sha256, on_move is not None)
        except FileExistsError:
            continue  # somebody took the name just now
        return place


def _find_place(row: ImageResult, source: Path, folder: Path, ahead: _Ahead) -> tuple[Path, bool]:
    """The first name that is free, or that of a copy before it, and whether it is the latter."""
    real_folder = Path(os.path.realpath(folder))
    for place in names(folder, source.name):
        if taken := ahead.taken.get(real_folder / place.name):
            sha256, moved = taken
            is_itself = moved is not None and may_be_one_file(moved, source.stat())
            if sha256 == row.file.sha256 and not is_itself:
                return place, True
        elif not os.path.lexists(place) or real_folder / place.name in ahead.gone:
            return place, False
        elif is_copy(place, source):
            return place, True
    raise AssertionError("there is always another name")


def _on_one_disk(source: Path, place: Path) -> bool:
    """Whether renaming would do; the place's folder may be missing yet."""
    return nearest_there(place.parent).stat().st_dev == source.stat().st_dev


def _real(path: Path) -> Path:
    """Where a name lies itself, not what it links to."""
    return Path(os.path.realpath(path.parent), path.name)


def _on_the_way(path: Path) -> Iterator[Path]:
    """Where a name lies, and each that it links to."""
    yield _real(path)
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield _real(path)
