"""The SQLite file of a run's state: made complete, known by its header, locked while it is open.

POSIX drops a process's locks on a file when it closes *any* descriptor of it. So a file's header
is checked through one that stays open as long as SQLite's, and nothing else opens the file.
"""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from catdog.results import ModelId
from catdog_serving.atomic_write import scratch_folder
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.folder.state_lock import lock_file, locks_work

SUFFIX = ".catdog"
APPLICATION_ID = int.from_bytes(b"catd")
FORMAT = 1

# Names are bytes; `place` is the path's sort key, so that rows come in the order of the walk.
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE run (network TEXT, weights TEXT, precision TEXT, selection TEXT, is_done INTEGER);
CREATE TABLE files (
    place BLOB PRIMARY KEY,
    path BLOB NOT NULL,
    size INTEGER,
    mtime_ns INTEGER,
    sha256 TEXT,
    error TEXT,
    outcome TEXT NOT NULL,
    moved_to BLOB
);
"""
_HEADER_BYTES = 100
# Where SQLite's readers lock, which keeps a writer out; sqlite.org/fileformat2.html, "The
# Lock-Byte Page".
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
_FIRST_EDITION = b'{"catdog_journal":1,'


def state_of(output: Path) -> Path:
    """Where the state of a run lies whose first output is this."""
    return output.with_name(output.name + SUFFIX)


def files_of(state: Path) -> tuple[Path, Path, Path, Path]:
    """The state's file, and those that SQLite and the lock put beside it."""
    wal, journal, lock = (
        state.with_name(state.name + end) for end in ("-wal", "-journal", "-lock")
    )
    return state, wal, journal, lock


def open_file(
    path: Path, fill: Callable[[sqlite3.Connection], object], stack: ExitStack
) -> tuple[sqlite3.Connection, bool]:
    """Open a state to write to it, with its lock; make it if there is none.

    Args:
        path: The file; its folder is made if missing.
        fill: Writes what a new one holds.
        stack: Ends the connection and the lock, in this order.

    Returns:
        The connection, and whether the state is new.

    Raises:
        RefusedError: If the file is no state. It was only read.
        NotReadyError: If it cannot be written, or another process has it.
    """
    with plain_errors(path):
        place = Path(os.path.realpath(path))
        if not place.parent.exists():
            place.parent.mkdir(parents=True)
        vfs = "unix"
        if not locks_work(place.parent):
            vfs = "unix-none"
            stack.enter_context(lock_file(files_of(place)[-1], path))
        is_new = not os.path.lexists(place) and _make(place, vfs, fill)
        header = check_header(path, stack)
        connection = stack.enter_context(closing(_connect(place, "rw", vfs)))
        if not place.exists() or not os.path.samestat(place.stat(), os.fstat(header)):
            raise NotReadyError(f"another catdog has just ended with {path}; try again")
        return connection, is_new


def make_file(path: Path, fill: Callable[[sqlite3.Connection], object]) -> None:
    """Make a state that appears when it is complete, and is not opened.

    Raises:
        NotReadyError: If it cannot be written, or is there.
    """
    with plain_errors(path):
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        if not _make(path, "unix" if locks_work(path.parent) else "unix-none", fill):
            raise NotReadyError(f"{path} is there now; choose another output")


def open_to_read(path: Path, stack: ExitStack) -> sqlite3.Connection:
    """Open a state that no process has: it stays as it is, and nothing is put beside it.

    Raises:
        RefusedError: If it is no state, or its run was killed.
        NotReadyError: If there is none, or it cannot be read, or a run is at work on it.
    """
    with plain_errors(path, "read"):
        place = Path(os.path.realpath(path))
        header = check_header(path, stack, "name the OUTPUT.catdog of a run with --keep-state")
        # The connection takes no locks, nor would it heed them. This one is dropped when the
        # connection is closed.
        try:
            fcntl.lockf(header, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        except OSError as error:  # or a file system without locks, where runs have a lock file
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise NotReadyError(f"another catdog is at work on {path}") from error
        _, wal, _, lock = files_of(place)
        if wal.exists() or lock.exists():
            raise not_ended(path)
        return stack.enter_context(closing(_connect(place, "ro&immutable=1", "unix")))


def not_ended(path: Path) -> RefusedError:
    """What merging an unfinished state is answered with."""
    return RefusedError(f"the run of {path} did not end: go on with it by --resume, then merge")


def check_header(path: Path, stack: ExitStack, advice: str = "choose another output") -> int:
    """Make sure that a file is a state. It is only read.

    Returns:
        The descriptor that it was read through, which the stack closes.

    Raises:
        RefusedError: If it is none.
        OSError: If it cannot be read.
    """
    is_file = path.is_file() or not path.exists()
    if is_file:  # a pipe would be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        header = os.pread(descriptor, _HEADER_BYTES, 0)
        if header.startswith(_FIRST_EDITION):
            raise _first_edition(path)
        if header[:16] == b"SQLite format 3\0" and header[68:72] == APPLICATION_ID.to_bytes(4):
            if int.from_bytes(header[60:64]) != FORMAT:
                raise RefusedError(f"{path} is of another version of catdog; go on with that one")
            return descriptor
    raise RefusedError(f"{path} is no run state of catdog; {advice}")


def refuse_first_edition(paths: tuple[Path, ...]) -> None:
    """Make sure that none of these files is a journal of catdog 0.1, whose rows would be lost.

    Raises:
        RefusedError: If one is.
    """
    for path in paths:
        if not path.is_file():
            continue
        with plain_errors(path, "read"), path.open("rb") as file:
            if file.read(len(_FIRST_EDITION)) == _FIRST_EDITION:
                raise _first_edition(path)


def _first_edition(path: Path) -> RefusedError:
    return RefusedError(
        f"{path} is a journal of catdog 0.1, which this version does not go on with: begin again "
        "by --restart, or end that run with catdog 0.1"
    )


def _make(place: Path, vfs: str, fill: Callable[[sqlite3.Connection], object]) -> bool:
    """Make a state that has its name at once; False if somebody else was faster."""
    for rest in files_of(place)[1:3]:
        if os.path.lexists(rest):  # SQLite would take it for the new state's
            raise RefusedError(f"{rest} is left of a state that is gone; delete it")
    with scratch_folder(place.parent) as scratch:
        new = scratch / "state"
        with closing(_connect(new, "rwc", vfs)) as connection:
            connection.executescript(SCHEMA)
            fill(connection)
        try:
            os.link(new, place)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if os.path.lexists(place):
                return False
            os.rename(new, place)
        return True


def _connect(place: Path, mode: str, vfs: str) -> sqlite3.Connection:
    """Connect, and take the lock of a file that may be written."""
    name = f"file:{quote(os.fsencode(place))}?mode={mode}&vfs={vfs}"
    connection = sqlite3.connect(name, uri=True, timeout=0, isolation_level=None)
    if mode in ("rw", "rwc"):
        try:  # in this order: so WAL needs no shared memory
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
    return connection


def describe(connection: sqlite3.Connection, model: ModelId, selection: str) -> None:
    """Write what a run is of: whose answers, and which files below its paths."""
    values = (model.network, model.weights, model.precision, selection)
    connection.execute("INSERT INTO run VALUES (?, ?, ?, ?, 0)", values)


def description(connection: sqlite3.Connection) -> tuple[ModelId, str, bool]:
    """The same, and whether the run came to its end."""
    [row] = connection.execute("SELECT * FROM run").fetchall()
    network, weights, precision, selection, is_done = row
    return ModelId(network, weights, precision), selection, bool(is_done)


def check_same(
    path: Path, connection: sqlite3.Connection, model: ModelId, selection: str, resume: bool
) -> None:
    """Make sure that a run may go on with a state.

    Raises:
        RefusedError: If not.
    """
    if not resume:
        raise RefusedError(
            f"{path} is there from an earlier run: go on with it by --resume, or begin again by "
            "--restart"
        )
    found, selected, _ = description(connection)
    if found != model:
        raise RefusedError(
            f"{path} holds results of {found}, and this is {model}; results of two "
            "models are not mixed: choose another output"
        )
    if selected not in ("", selection):  # what was merged is of several
        raise RefusedError(
            f"{path} was begun with another --glob, --exclude or --shard; resume with the same, or "
            "begin again by --restart"
        )


@contextmanager
def plain_errors(path: Path | None, doing: str = "write") -> Iterator[None]:
    """Make the errors of SQLite and of the system one line.

    Raises:
        NotReadyError: In their place.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if type(error) not in (sqlite3.DatabaseError, sqlite3.OperationalError):  # a bug
            raise
        if "locked" in str(error):
            raise NotReadyError(f"another catdog is at work on {path}") from error
        if "malformed" in str(error) or "not a database" in str(error):
            advice = "" if doing == "read" else "; delete it to begin again"
            raise NotReadyError(f"{path} is damaged: {error}{advice}") from error
        what = path or "temporary files"
        raise NotReadyError(f"cannot {doing} {what}: {error}") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError) and doing == "read":
            raise NotReadyError(f"there is no run state {path}") from error
        raise NotReadyError(f"cannot {doing} {path}: {error.strerror or error}") from error
