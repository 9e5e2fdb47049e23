"""What a folder run's state holds, seen from outside, while it is at work or after a kill."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from catdog_serving.folder.state_file import files_of, state_of


def rows_done(output: Path) -> int:
    """How many files the state of an output holds; 0 if there is none.

    A copy is asked: the state itself is its run's alone.
    """
    state = state_of(output)
    with tempfile.TemporaryDirectory() as folder:
        try:
            for file in files_of(state)[:2]:
                if file.exists():
                    shutil.copy(file, folder)
            if not Path(folder, state.name).exists():
                return 0
            with closing(sqlite3.connect(Path(folder, state.name))) as connection:
                number: int = connection.execute("SELECT count(*) FROM files").fetchone()[0]
                return number
        except (OSError, sqlite3.Error):  # copied in the middle of a write
            return 0


def left_beside(output: Path) -> list[str]:
    """The ends of the names of the state's files that are there: "", "-wal", ..."""
    state = state_of(output)
    return [file.name.removeprefix(state.name) for file in sorted(files_of(state)) if file.exists()]
