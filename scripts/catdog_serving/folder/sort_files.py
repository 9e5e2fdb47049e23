"""--copy-to and --move-to: sort pictures into cat/, dog/, neither/ and failed/.

Nothing is ever overwritten, and no file is lost: a copy gets its name only when it is
complete, and an original on another disk goes only when its copy has its name and is,
byte for byte, the file that was classified.
"""

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from rich.console import Console

from catdog_serving.errors import NotReadyError
from catdog_serving.folder.rows import Row
from catdog_serving.model_archive import file_sha256

FAILED = "failed"


@dataclass
class SortReport:
    """What became of the files.

    Attributes:
        sorted: How many went into each folder, or would have.
        unchanged: Files that were there already, with the same content.
        left: Files that were left where they are, each with the reason.
    """

    sorted: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    left: list[str] = field(default_factory=list)


def sort_files(
    rows: Iterable[Row], target: Path, move: bool, dry_run: bool, say: Callable[[str], None]
) -> SortReport:
    """Copy or move each row's file to TARGET/LABEL/NAME, or TARGET/failed/NAME.

    A name that is taken gets a number: "a (2).jpg". A file that is already there with
    the same content is not copied again, so an interrupted run can be repeated. A file
    that changed since it was classified is left alone.

    Args:
        rows: The results.
        target: The folder to make.
        move: Take the originals away.
        dry_run: Say what would be done, and do nothing.
        say: Called with a line per file on a dry run.

    Raises:
        NotReadyError: If the target cannot be written.
    """
    report = SortReport()
    claimed: set[Path] = set()
    for row in rows:
        source = Path(row["path"])
        folder = FAILED if "error" in row else row["label"]
        reason = _why_not(row, source)
        if reason:
            report.left.append(f"{source}: {reason}")
            continue
        if dry_run:
            place = next(p for p in _names(target / folder, source.name) if _is_free(p, claimed))
            claimed.add(place)
            say(f"{source} -> {place}")
        elif not _bring(row, source, target / folder, move):
            report.unchanged += 1
            continue
        report.sorted[folder] += 1
    return report


def print_sorted(report: SortReport, dry_run: bool, console: Console) -> None:
    """Say how many files went where, and name those that were left."""
    counts = ", ".join(f"{count} to {folder}/" for folder, count in sorted(report.sorted.items()))
    done = "would be sorted" if dry_run else "sorted"
    console.print(f"{done}: {counts or 'nothing'}", highlight=False)
    if report.unchanged:
        console.print(f"{report.unchanged} were there already", highlight=False)
    for line in report.left:
        console.print(f"left alone: {line}", highlight=False, markup=False, soft_wrap=True)


def _why_not(row: Row, source: Path) -> str | None:
    try:
        status = source.stat()
    except OSError as error:
        return error.strerror or str(error)
    if row["sha256"] is None:
        return "it was not read"
    if (status.st_size, status.st_mtime_ns) != (row["size"], row["mtime_ns"]):
        return "it changed since it was classified"
    return None


def _bring(row: Row, source: Path, folder: Path, move: bool) -> bool:
    """Put a file into a folder; False if it was there already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _place(row, source, folder, move)
    except OSError as error:
        raise NotReadyError(
            f"cannot sort {source} into {folder}: {error.strerror or error}; "
            "nothing was lost, and the same command goes on"
        ) from error


def _place(row: Row, source: Path, folder: Path, move: bool) -> bool:
    """Find a free name and take it; False if the same content has one already."""
    for place in _names(folder, source.name):
        if os.path.lexists(place):
            if _holds(place, row):
                if move:
                    source.unlink()
                return False
            continue
        try:
            _bring_to(row, source, place, move)
        except FileExistsError:
            continue  # somebody took the name just now
        return True
    raise AssertionError("there is always another name")


def _bring_to(row: Row, source: Path, place: Path, move: bool) -> None:
    if move and not source.is_symlink():  # a relative link would point elsewhere from there
        try:
            _replace_reserved(source, place)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    partial = place.with_name(f".catdog-{os.getpid()}.part")
    try:
        shutil.copy2(source, partial)
        if file_sha256(partial) != row["sha256"]:
            raise OSError(errno.EAGAIN, "it changes while it is copied")
        _replace_reserved(partial, place)
    finally:
        partial.unlink(missing_ok=True)
    if move:
        source.unlink()


def _replace_reserved(source: Path, place: Path) -> None:
    """Rename, but only to a name that nobody has; plain renaming would replace a file."""
    os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.replace(source, place)
    except OSError:
        place.unlink()
        raise


def _names(folder: Path, name: str) -> Iterator[Path]:
    """name.jpg, name (2).jpg, name (3).jpg ..."""
    path = Path(name)
    return chain([folder / name], (folder / f"{path.stem} ({n}){path.suffix}" for n in count(2)))


def _is_free(path: Path, claimed: set[Path]) -> bool:
    return path not in claimed and not os.path.lexists(path)


def _holds(place: Path, row: Row) -> bool:
    """Whether a file has the row's content; of a thousand IMG_0001.jpg most differ in size."""
    return (
        place.is_file()
        and place.stat().st_size == row["size"]
        and file_sha256(place) == row["sha256"]
    )
