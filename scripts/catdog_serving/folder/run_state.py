"""The state of a folder run: what is done, in a SQLite file, so that a kill loses nothing.

OUTPUT.catdog holds which model it is, and a row for each file, which is committed as soon as it
is there. While a run is at work, or after a kill, OUTPUT.catdog-wal belongs to it; a run that
ends leaves one file, and none when nothing is left to do. One process has it at a time: by
SQLite's own lock, or by a lock file where the file system knows no locks.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

from catdog.results import ModelId, Prediction
from catdog_serving.folder import state_file
from catdog_serving.folder.image_result import UNREADABLE, FileInfo, ImageFailure, ImageResult
from catdog_serving.folder.state_file import plain_errors
from catdog_serving.real_folders import root_index, sort_key
from catdog_serving.remote_path import AnyPath, parse_path

_PAGE = 500  # rows in memory at once; no statement stays open between two pages
_COLUMNS = "path, size, mtime_ns, sha256, error, outcome, moved_to"


class RunState:
    """One state that is open. A context manager.

    Attributes:
        path: Its file; None for one that lives as long as the process.
        resumed: Whether it was there before.
    """

    def __init__(
        self,
        path: Path | None,
        connection: sqlite3.Connection,
        held: ExitStack,
        resumed: bool,
        doing: str = "write",
    ) -> None:
        """Use `open` or `temporary`."""
        self.path = path
        self.resumed = resumed
        self._connection = connection
        self._held = held
        self._doing = doing
        self._changed = False
        self._moving = False
        if resumed:  # which files this run came by; where SQLite keeps temporary files
            self._execute("CREATE TEMP TABLE walked (place BLOB PRIMARY KEY) WITHOUT ROWID")

    @classmethod
    def open(
        cls,
        path: Path,
        model: ModelId,
        selection: str = "",
        resume: bool = False,
        restart: bool = False,
    ) -> Self:
        """Go on with the state that is there, or make one.

        Args:
            path: The file; its folder is made if missing.
            model: Whose answers it holds.
            selection: Which files below the paths are taken; the same on every resume.
            resume: Keep what is in it.
            restart: Throw away what is in it.

        Raises:
            RefusedError: If it holds rows, and neither resume nor restart is set; if it holds
                answers of another model, or of other files; if it is no state. Then it is as
                it was.
            NotReadyError: If it cannot be written, or another process has it.
        """

        def fill(connection: sqlite3.Connection) -> None:
            state_file.describe(connection, model, selection)

        with ExitStack() as stack:
            connection, is_new = state_file.open_file(path, fill, stack)
            with plain_errors(path):
                is_empty = not connection.execute("SELECT 1 FROM files LIMIT 1").fetchall()
                if restart or (is_empty and not is_new):  # nothing that could be lost or mixed
                    with connection:
                        connection.execute("BEGIN")
                        connection.execute("DELETE FROM files")
                        connection.execute("DELETE FROM run")
                        fill(connection)
                elif not is_new:
                    state_file.check_same(path, connection, model, selection, resume)
            state = cls(path, connection, stack, resumed=not (is_new or is_empty or restart))
            state._held = stack.pop_all()
            return state

    @classmethod
    def temporary(cls) -> Self:
        """A state without a file that anybody sees, for rows that are needed again at the end."""
        with ExitStack() as stack:
            connection = stack.enter_context(closing(sqlite3.connect("", isolation_level=None)))
            connection.executescript(state_file.SCHEMA)
            return cls(None, connection, stack.pop_all(), resumed=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave one file. What was put is in it."""
        with plain_errors(self.path):
            self._held.close()

    def delete(self) -> None:
        """Close it, and leave no file: nothing is left to do."""
        if self.path is not None:
            with plain_errors(self.path):
                # First without a WAL, which a run that begins just then would share by its name.
                self._execute("PRAGMA journal_mode = MEMORY")
                Path(os.path.realpath(self.path)).unlink(missing_ok=True)
        self.close()

    def is_current(self, path: AnyPath) -> bool:
        """Whether a file has a row and is as it was; one that could not be read is tried again."""
        query = "SELECT size, mtime_ns FROM files WHERE place = ? AND error IS NOT ?"
        found = self._execute(query, sort_key(path), UNREADABLE)
        try:
            status = path.stat() if found else None
        except OSError:
            return False
        return status is not None and found == [(status.st_size, status.st_mtime_ns)]

    def keep(self, path: AnyPath) -> Path | None:
        """A file is as it was when its row was put.

        Returns:
            Where it was about to be moved when a kill came.
        """
        place = sort_key(path)
        self._execute("INSERT OR IGNORE INTO walked VALUES (?)", place)
        query = "SELECT moved_to FROM files WHERE place = ? AND moved_to IS NOT NULL"
        for (moved_to,) in self._execute(query, place):
            self.stays(path)
            return Path(os.fsdecode(moved_to))
        return None

    def put(self, result: ImageResult, aside: bool = False) -> None:
        """Add a file's row, or put it in the place of its old one; it is committed at once.

        Args:
            result: The row.
            aside: Beside that of another file, which has the path since this one was moved.

        Raises:
            NotReadyError: If it cannot be written.
        """
        file, outcome, place = result.file, result.outcome, sort_key(result.path)
        if aside and file.moved_to is not None:
            place = _aside(place, os.fsencode(file.moved_to))
        elif self.resumed:
            self._set_aside(place)
        if isinstance(outcome, ImageFailure):
            error, text = outcome.type, json.dumps(outcome.message)
        else:
            error, text = None, json.dumps(outcome.to_dict(with_map=True))
        self._change(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(place, os.fsencode(str(file.path)), file.size, file.mtime_ns, file.sha256),
            *(error, text, file.moved_to and os.fsencode(file.moved_to)),
        )
        if self.resumed:
            self._execute("INSERT OR IGNORE INTO walked VALUES (?)", place)

    def _set_aside(self, place: bytes) -> None:
        """The row of a file that was moved stays when another file has its name."""
        query = "SELECT moved_to, size FROM files WHERE place = ? AND moved_to IS NOT NULL"
        for moved_to, size in self._execute(query, place):
            if _has_size(Path(os.fsdecode(moved_to)), size):  # else it was never moved
                query = "UPDATE OR REPLACE files SET place = ? WHERE place = ?"
                self._change(query, _aside(place, moved_to), place)

    def moving(self, path: AnyPath, target: Path) -> None:
        """Note where a file is about to be moved: it is done, though it will not be found.

        From the first note on each is on the disk before the file goes, whatever fails then.
        """
        if not self._moving:
            self._execute("PRAGMA synchronous = FULL")
            self._moving = True
        query = "UPDATE files SET moved_to = ? WHERE place = ?"
        self._execute(query, os.fsencode(target), sort_key(path))

    def stays(self, path: AnyPath) -> None:
        """A file was not moved after all."""
        self._execute("UPDATE files SET moved_to = NULL WHERE place = ?", sort_key(path))

    def all_moved(self, folder: AnyPath) -> bool:
        """Whether an earlier run moved every file of a folder, so that it may be empty now."""
        key = sort_key(folder)
        query = (
            "SELECT count(*), count(moved_to) FROM files WHERE place > ? AND place < ? "
            "AND error IS NOT ?"
        )
        [(rows, moved)] = self._execute(query, key + b"\0", key + b"\1", UNREADABLE)
        return bool(0 < rows == moved)

    def was_moved(self, path: AnyPath) -> bool:
        """Whether an earlier run moved a file, so that it may be gone now."""
        query = "SELECT 1 FROM files WHERE place = ? AND moved_to IS NOT NULL"
        return bool(self._execute(query, sort_key(path)))

    def rows(self, after: bytes = b"", before: bytes | None = None) -> Iterator[ImageResult]:
        """The rows of this run's files, in order; of those between two places, if they are given.

        Files that were moved belong to it. Rows may be put and changed meanwhile.
        """
        only = "AND (moved_to IS NOT NULL OR place IN walked)" if self.resumed else ""
        return map(_result, self._pages(_COLUMNS, only, after, before))

    def paths(self) -> Iterator[AnyPath]:
        """The path of every row whose file was not moved, in order."""
        pages = self._pages("path", "AND moved_to IS NULL")
        return (parse_path(os.fsdecode(path)) for path, _ in pages)

    def drop_gone(self, roots: Iterable[AnyPath]) -> int:
        """Drop the rows of files that this run did not come by, and that are really gone.

        What cannot be looked at, such as below a folder that could not be listed, stays. A row
        that says just that of a folder goes: by now it was listed.

        Args:
            roots: The files and folders that this run has walked to their end, none inside
                another; only their rows go.

        Returns:
            How many rows are left that are not of this run.
        """
        if not self.resumed:
            return 0
        keys = sorted(map(sort_key, roots))
        left = 0
        only = "AND moved_to IS NULL AND place NOT IN walked"
        for name, error, place in self._pages("path, error", only):
            if root_index(place, keys) is not None and (
                error == UNREADABLE or _is_gone(parse_path(os.fsdecode(name)))
            ):
                self._change("DELETE FROM files WHERE place = ?", place)
            else:
                left += 1
        return left

    def count(self) -> int:
        """How many files are done."""
        number: int = self._execute("SELECT count(*) FROM files")[0][0]
        return number

    def finish(self) -> None:
        """Note that the run came to its end, so that `merge` takes it."""
        self._execute("UPDATE run SET is_done = 1")

    def _change(self, query: str, *values: object) -> None:
        """Change the rows: from now on the state is one of a run that did not end."""
        if not self._changed:
            self._execute("UPDATE run SET is_done = 0")
            self._changed = True
        self._execute(query, *values)

    def _execute(self, query: str, *values: object) -> list[Any]:
        with plain_errors(self.path, self._doing):
            return self._connection.execute(query, values).fetchall()

    def _pages(
        self, columns: str, only: str = "", after: bytes = b"", before: bytes | None = None
    ) -> Iterator[Sequence[Any]]:
        """Columns of rows, in order, page by page; the place comes last."""
        until, values = ("", ()) if before is None else ("AND place < ?", (before,))
        query = (
            f"SELECT {columns}, place FROM files WHERE place > ? {until} {only} "  # noqa: S608
            f"ORDER BY place LIMIT {_PAGE}"
        )
        while page := self._execute(query, after, *values):
            yield from page
            after = page[-1][-1]


def _result(row: Sequence[Any]) -> ImageResult:
    path, size, mtime_ns, sha256, error, outcome, moved_to, _ = row
    target = None if moved_to is None else Path(os.fsdecode(moved_to))
    file = FileInfo(parse_path(os.fsdecode(path)), size, mtime_ns, sha256, target)
    values = json.loads(outcome)
    if error is not None:
        return ImageResult(file, ImageFailure(error, values))
    return ImageResult(file, Prediction.from_dict(values))


def _aside(place: bytes, moved_to: bytes) -> bytes:
    """A second key of one path, just after the first."""
    return place + b"\0\0" + moved_to


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.lstat().st_size == size
    except OSError:
        return False


def _is_gone(path: AnyPath) -> bool:
    """Whether a file was deleted. Of what lay below a folder that is empty now nothing is known.

    A disk may be mounted there at other times.
    """
    try:
        path.stat(follow_symlinks=False) if isinstance(path, Path) else path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return not isinstance(path, Path) or _holds_something(path)
    except OSError:  # nothing is known of it
        return False
    return False


def _holds_something(gone: Path) -> bool:
    """Whether the nearest folder of a path that is there is not empty."""
    try:
        with os.scandir(next(folder for folder in gone.parents if folder.is_dir())) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
