"""--copy-to and --move-to: sort images into cat/, dog/, neither/ and failed/.

Nothing is ever overwritten, and no file is lost: a copy gets its name only when it is
complete, and an original on another disk goes only when its copy has its name and is,
byte for byte, the file that was classified. A link to an image, symbolic or hard, is no
copy of it; an image that lies in its folder already stays as it is.
"""

import errno
import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import TypeAlias

from catdog_serving.errors import NotReadyError
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.model_archive import file_sha256

_MAX_NAME_BYTES = 255  # of Linux's file systems

_OnMove: TypeAlias = Callable[[Path, Path], object]


@dataclass
class SortReport:
    """What became of the files.

    Attributes:
        sorted: How many went into each folder, or would have.
        unchanged: Files that were there already: themselves, or a copy of them.
        left: Files that were left where they are, each with the reason.
    """

    sorted: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    left: list[str] = field(default_factory=list)


@dataclass
class _Ahead:
    """What a dry run would have changed so far; a real one finds it on the disk.

    Attributes:
        taken: The places that would be taken: the content's SHA-256, and the file's
            identity if the image itself would have gone there.
        gone: Where images would have been moved away.
    """

    taken: dict[Path, tuple[str | None, tuple[int, int] | None]] = field(default_factory=dict)
    gone: set[Path] = field(default_factory=set)

    def lacks(self, source: Path) -> bool:
        """Whether a file, or a link on the way to it, would be gone by now."""
        return any(place in self.gone for place in _on_the_way(source))

    def note(self, row: ImageResult, source: Path, place: Path | None, move: bool) -> None:
        """Remember that an image would go to its place; None if a copy is there."""
        if place is not None:
            renamed = move and not source.is_symlink() and _on_one_disk(source, place)
            self.taken[_real(place)] = (row.file.sha256, _identity(source) if renamed else None)
        if move:
            self.gone.add(_real(source))


def sort_files(
    rows: Iterable[ImageResult],
    target: Path,
    move: bool,
    dry_run: bool,
    on_step: Callable[[str], None],
    on_move: _OnMove = lambda source, place: None,
    again: str = "the same command",
) -> SortReport:
    """Copy or move each row's file to TARGET/LABEL/NAME, or TARGET/failed/NAME.

    A name that is taken gets a number: "a (2).jpg". A file of which a copy is there is not
    copied again, so an interrupted run can be repeated. A file that lies in that folder, or
    that changed since it was classified, is left alone.

    Args:
        rows: The results.
        target: The folder to make.
        move: Take the originals away.
        dry_run: Say what would be done, and do nothing.
        on_step: Called with a line per file on a dry run.
        on_move: Called with an image and its place just before it goes there.
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
            place = _bring(row, source, target / folder, on_move if move else None, dry)
        except OSError as error:
            raise NotReadyError(
                f"cannot sort {source} into {target / folder}: {error.strerror or error}; "
                f"nothing was lost, and {again} goes on"
            ) from error
        if place is None:
            report.unchanged += 1
            continue
        if dry_run:
            on_step(f"{source} -> {place}")
        report.sorted[folder] += 1
    return report


def sorted_lines(report: SortReport, dry_run: bool) -> Iterator[str]:
    """How many files went where, and the names of those that were left."""
    counts = ", ".join(f"{count} to {folder}/" for folder, count in sorted(report.sorted.items()))
    yield f"{'would be sorted' if dry_run else 'sorted'}: {counts or 'nothing'}"
    if report.unchanged:
        yield f"{report.unchanged} were there already"
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


def _bring(
    row: ImageResult, source: Path, folder: Path, on_move: _OnMove | None, dry: _Ahead | None
) -> Path | None:
    """Put a file into a folder, or if `dry` is given only note it; None if it was there already.

    It is copied, or moved if `on_move` is given.
    """
    if dry is None:
        folder.mkdir(parents=True, exist_ok=True)
    if _lies_in(source, folder):
        return None
    if dry is None:
        return _place(row, source, folder, on_move)
    place, is_copy = _find_place(row, source, folder, dry)
    dry.note(row, source, None if is_copy else place, on_move is not None)
    return None if is_copy else place


def _lies_in(source: Path, folder: Path) -> bool:
    """Whether a file, or what it links to, is in that very folder, by whatever name of it."""
    return folder.exists() and any(
        parent.samefile(folder) for parent in (source.parent, source.resolve().parent)
    )


def _place(row: ImageResult, source: Path, folder: Path, on_move: _OnMove | None) -> Path | None:
    """Find a free name and take it; None if a copy has one already."""
    while True:
        place, is_copy = _find_place(row, source, folder, _Ahead())
        if on_move is not None:
            on_move(source, place)
        if is_copy:
            if on_move is not None:
                _sync(place)
                _sync(place.parent)
                source.unlink()
            return None
        try:
            _bring_to(row, source, place, on_move is not None)
        except FileExistsError:
            continue  # somebody took the name just now
        return place


def _find_place(row: ImageResult, source: Path, folder: Path, ahead: _Ahead) -> tuple[Path, bool]:
    """The first name that is free, or that of a copy before it, and whether it is the latter."""
    real_folder = Path(os.path.realpath(folder))
    for place in _names(folder, source.name):
        if taken := ahead.taken.get(real_folder / place.name):
            if taken[0] == row.file.sha256 and taken[1] != _identity(source):
                return place, True
        elif not os.path.lexists(place) or real_folder / place.name in ahead.gone:
            return place, False
        elif _is_copy(place, source):
            return place, True
    raise AssertionError("there is always another name")


def _bring_to(row: ImageResult, source: Path, place: Path, move: bool) -> None:
    if move and not source.is_symlink():  # a relative link would point elsewhere from there
        try:
            _replace_reserved(source, place)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    # A name of its own: on a folder of several machines two processes may have one number.
    handle, name = tempfile.mkstemp(prefix=".catdog-", suffix=".part", dir=place.parent)
    os.close(handle)
    partial = Path(name)
    try:
        shutil.copy2(source, partial)
        _sync(partial)
        if file_sha256(partial) != row.file.sha256:
            raise OSError(errno.EAGAIN, "it changes while it is copied")
        _replace_reserved(partial, place)
    finally:
        partial.unlink(missing_ok=True)
    if move:
        _sync(place.parent)
        source.unlink()


def _replace_reserved(source: Path, place: Path) -> None:
    """Rename, but only to a name that nobody has; plain renaming would replace a file."""
    with place.open("xb") as reserved:
        identity = _file_identity(os.fstat(reserved.fileno()))
    try:
        os.replace(source, place)
    except BaseException:
        # Over a network a renaming that failed may have been done: then the place is not ours.
        if _file_identity(place.lstat()) == identity:
            place.unlink()
        raise


def _sync(path: Path) -> None:
    """Make a copy, or its name in a folder, last before its original goes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(folder: Path, name: str) -> Iterator[Path]:
    """name.jpg, name (2).jpg, name (3).jpg ...; a name that gets too long loses its stem's end."""
    path = Path(name)

    def numbered(number: int) -> str:
        end = os.fsencode(f" ({number}){path.suffix}")
        return os.fsdecode(os.fsencode(path.stem)[: _MAX_NAME_BYTES - len(end)] + end)

    return chain([folder / name], (folder / numbered(number) for number in count(2)))


def _is_copy(place: Path, source: Path) -> bool:
    """Whether a name is that of another file with the same content, so that one may go.

    Of a thousand IMG_0001.jpg most differ in size.
    """
    status = place.lstat()
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_size == source.stat().st_size
        and not place.samefile(source)
        and file_sha256(place) == file_sha256(source)
    )


def _identity(path: Path) -> tuple[int, int]:
    return _file_identity(path.stat())


def _file_identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _on_one_disk(source: Path, place: Path) -> bool:
    """Whether renaming would do; the place's folder may be missing yet."""
    there = next(folder for folder in place.absolute().parents if folder.exists())
    return there.stat().st_dev == source.stat().st_dev


def _real(path: Path) -> Path:
    """Where a name lies itself, not what it links to."""
    return Path(os.path.realpath(path.parent), path.name)


def _on_the_way(path: Path) -> Iterator[Path]:
    """Where a name lies, and each that it links to."""
    yield _real(path)
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield _real(path)
