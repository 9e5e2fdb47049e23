"""The journal: what is done, one JSON row a line, written so that a kill loses nothing.

The first line names the model, the others are rows in the order of `sort_key`. Every
row is one write, so a process that is killed leaves at most a torn last line, which is
cut off when the journal is opened again.

To resume, the old journal is copied row by row into NAME.part, while files that are new
or changed are classified in between, in order; when what was written has passed its last
row, NAME.part takes its name and grows on. If that is killed too, the next opening joins
the two.

A file that is there is written, cut or locked only when its first line says that it is a
journal, or is the beginning of the line that would be written: a kill may have torn that.
"""

import fcntl
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from catdog.results import ModelId
from catdog_serving.errors import NotReadyError, RefusedError, UsageError
from catdog_serving.folder.find_files import sort_key
from catdog_serving.folder.remote_path import parse_path
from catdog_serving.folder.rows import Row

FORMAT = 1
_BLOCK = 1 << 16  # no first line is as long


class Journal:
    """One journal that is being written. A context manager.

    Args:
        path: The file.
        model: The model whose results it holds.
        resume: Go on with what is there; without it, a file that exists is an error.

    Raises:
        UsageError: If it exists and `resume` is not set.
        RefusedError: If it holds results of another model, or is no journal.
        NotReadyError: If it cannot be written, or another process writes to it.
    """

    def __init__(self, path: Path, model: ModelId, resume: bool) -> None:
        self.path = path
        self._part = part_of(path)
        if not resume and (path.exists() or self._part.exists()):
            raise UsageError(
                f"{path} is there from an earlier run; go on with it by --resume, or delete it"
            )
        for file in (path, self._part):
            _check_ours(file, model)
        self._old: Iterator[Row] = iter(())
        self._last_old: tuple[str, ...] | None = None  # once all were read
        with _open_locked(path):
            _join(path, self._part)
        self._lock = _open_locked(path)  # again: joining may have put another file there
        try:
            self._file = self._lock
            self._begin(model)
        except BaseException:
            self._lock.close()
            raise

    def _begin(self, model: ModelId) -> None:
        if _is_empty(self.path):
            self.write(first_line(model))
            return
        found, self._old = read_journal(self.path)
        _check_model(self.path, found, model)
        self._file = _open_locked(self._part)
        self.write(first_line(model))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def old_rows(self) -> Iterator[Row]:
        """The rows that were there, in order.

        They may be read far ahead of what is written, so they stay where they are until a row
        that is written has passed them.
        """
        last: Row | None = None
        for last in self._old:
            yield last
        if last is not None:
            self._last_old = row_key(last)

    def write(self, row: Row) -> None:
        """Add a row; the model's line is one too.

        Raises:
            NotReadyError: If it cannot be written.
        """
        line = memoryview(to_line(row))
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise NotReadyError(f"cannot write {self.path}: {error.strerror}") from error
        if self._last_old is not None and row_key(row) >= self._last_old:
            self.finish()

    def finish(self) -> None:
        """Let NAME.part take over: every old row was written again, or its file is gone."""
        self._last_old = None
        if self._file is not self._lock:
            os.replace(self._part, self.path)
            self._lock.close()
            self._lock = self._file

    def close(self) -> None:
        """Make it last; an unfinished resume keeps the old rows that were not reached."""
        if self._file.closed:
            return
        os.fsync(self._file.fileno())
        self._file.close()
        _join(self.path, self._part)
        self._lock.close()


def part_of(path: Path) -> Path:
    """What a journal is called while its old rows are passed."""
    return path.with_name(path.name + ".part")


def first_line(model: ModelId) -> dict[str, Any]:
    """The values of a journal's first line."""
    return {"catdog_journal": FORMAT} | model.to_dict()


def to_line(values: dict[str, Any]) -> bytes:
    """One line of JSON. Names that are not Unicode (Linux allows them) are escaped."""
    try:
        line = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        line = json.dumps(values, separators=(",", ":")).encode()
    return line + b"\n"


def read_journal(path: Path) -> tuple[ModelId, Iterator[Row]]:
    """A journal's model, and its rows, which are read as they are taken.

    A torn last line is left out.

    Raises:
        NotReadyError: If there is no such file, or it cannot be read.
        RefusedError: If it is not a journal; while reading, if a line is broken.
    """
    try:
        lines = _lines(path)
        first = next(lines)
    except FileNotFoundError as error:
        raise NotReadyError(f"there is no journal {path}") from error
    except OSError as error:
        raise NotReadyError(f"cannot read {path}: {error.strerror}") from error
    return _model_of(path, first), _in_order(path, _rows(path, lines))


def count_rows(path: Path) -> int:
    """How many rows a closed journal holds, without reading them."""
    lines = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            lines += block.count(b"\n")
    return max(0, lines - 1)  # the first line is the model's


def row_key(row: Row) -> tuple[str, ...]:
    """The place of a row in the order."""
    return sort_key(parse_path(row["path"]))


def _check_ours(path: Path, model: ModelId) -> None:
    """Make sure that a file may be gone on with, if there is one. It is only read.

    Raises:
        RefusedError: If it is neither a journal of the model, nor the beginning of one.
        NotReadyError: If it cannot be read.
    """
    try:
        if not path.exists():
            return
        # A pipe would be waited for.
        first = next(_lines(path)) if path.is_file() else None
    except OSError as error:
        raise NotReadyError(f"cannot read {path}: {error.strerror}") from error
    if first is None or not to_line(first_line(model)).startswith(first):
        _check_model(path, _model_of(path, first or b""), model)


def _check_model(path: Path, found: ModelId, model: ModelId) -> None:
    if found != model:
        raise RefusedError(
            f"{path} holds results of {found}, and this is {model}; results of two "
            "models are not mixed: choose another output"
        )


def _model_of(path: Path, first: bytes) -> ModelId:
    """The model that a journal's first line names."""
    refused = RefusedError(
        f"{path} is no journal of catdog: its first line does not say so; name another file"
    )
    try:
        values = json.loads(first)
        if values["catdog_journal"] == FORMAT and first.endswith(b"\n"):
            return ModelId.from_dict(values)
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise refused from error
    raise refused


def _is_empty(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _in_order(path: Path, lines: Iterable[tuple[int, Row]]) -> Iterator[Row]:
    last: tuple[str, ...] = ()
    for number, row in lines:
        key = row_key(row)
        if key <= last:
            raise RefusedError(f"{path}, line {number}: {row['path']} is out of order")
        last = key
        yield row


def _join(path: Path, part: Path) -> None:
    """Add to NAME.part the old rows that it did not reach, and give it its name."""
    if not part.exists():
        _cut_torn_line(path)
        return
    _cut_torn_line(part)
    if _is_empty(part):
        part.unlink()
        return
    _, newer = read_journal(part)
    last: tuple[str, ...] = ()
    for row in newer:
        last = row_key(row)
    older = iter(()) if _is_empty(path) else read_journal(path)[1]
    with part.open("ab") as file:
        file.writelines(to_line(row) for row in older if row_key(row) > last)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _cut_torn_line(path: Path) -> None:
    if _is_empty(path):
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)


def _lines(path: Path) -> Iterator[bytes]:
    """The first line, or what there is of it; then every other that is whole."""
    with path.open("rb") as file:
        yield file.readline(_BLOCK)
        yield from (line for line in file if line.endswith(b"\n"))


def _rows(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, Row]]:
    """Each row with the number of its line."""
    for number, line in enumerate(lines, 2):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise RefusedError(
                f"{path}, line {number}, is broken: {error}; delete that line to go on"
            ) from error
        yield number, values


def _open_locked(path: Path) -> io.FileIO:
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        file = io.FileIO(path, "ab")
    except OSError as error:
        raise NotReadyError(f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise NotReadyError(f"another catdog is writing {path}") from error
    return file
