"""States of folder runs: made and held by a test, or seen from outside, at work or after a kill."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from catdog.results import ModelId
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.merge import make_state
from catdog_serving.folder.run_state import RunState
from catdog_serving.folder.state_file import files_of, state_of
from tests.support.stub_backend import MODEL


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


def listing(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The files below a folder: their bytes, and when they were written."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def ended(path: Path, *rows: ImageResult, model: ModelId = MODEL) -> Path:
    """The state of a run that came to its end."""
    make_state(path, model, iter(rows))
    return path


def held(path: Path) -> list[ImageResult]:
    """The rows that a run would go on with."""
    with RunState.open(path, MODEL, resume=True) as state:
        for row in state.paths():
            state.keep(row)
        return list(state.rows())
