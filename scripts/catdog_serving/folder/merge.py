"""catdog merge: the states of several runs, such as shards, as one output or one state."""

import heapq
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from catdog.results import ModelId
from catdog_serving.errors import RefusedError, UsageError
from catdog_serving.folder import state_file
from catdog_serving.folder.image_result import ImageFailure, ImageResult
from catdog_serving.folder.outputs import FORMAT_OF_SUFFIX, check_parquet, write_output
from catdog_serving.folder.run_state import RunState
from catdog_serving.folder.state_file import SUFFIX, plain_errors
from catdog_serving.real_folders import sort_key

# JSON has a summary of each folder at its head, which only a run knows.
SUFFIXES = (".jsonl", ".csv", ".parquet", SUFFIX)


@dataclass
class MergeReport:
    """What was merged.

    Attributes:
        rows: Files in it.
        failed: How many of them have an error.
        repeated: Rows left out because another state had the file too.
    """

    rows: int = 0
    failed: int = 0
    repeated: int = 0


def merge_states(output: Path, states: Sequence[Path], bom: bool = False) -> MergeReport:
    """Join the rows of runs that came to their end, in order, each file once.

    Of two rows of one file a prediction wins over an error, else the first state's. A file that
    was moved and one that has its path since then are two. The states stay as they are.

    Args:
        output: What to make, by its suffix: rows, or a state that `classify --resume` goes on
            with.
        states: Files of runs with `--keep-state`.
        bom: Begin CSV with a byte order mark.

    Raises:
        UsageError: If the output is there already, or has another suffix.
        RefusedError: If the states are of different models, none, or of a run that did not end.
        NotReadyError: If one does not exist, or the output cannot be written.
    """
    suffix = output.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{output} should end with {', '.join(SUFFIXES)}; choose another output")
    if bom and suffix != ".csv":
        raise UsageError("--bom goes with CSV; choose another output, or leave it out")
    with plain_errors(output):
        is_there = output.exists()
    if is_there:
        raise UsageError(f"{output} exists; choose another output, or delete it")
    if suffix == ".parquet":
        check_parquet()
    with ExitStack() as stack:
        opened = [stack.enter_context(read_state(path)) for path in states]
        model = opened[0][0]
        for path, (other, _) in zip(states, opened, strict=True):
            if other != model:
                raise RefusedError(
                    f"{path} holds results of {other}, and {states[0]} of {model}; results of two "
                    "models are not merged"
                )
        report = MergeReport()
        rows = _counted(_each_file_once([rows for _, rows in opened], report), report)
        if suffix == SUFFIX:
            make_state(output, model, rows)
        else:
            write_output(output, FORMAT_OF_SUFFIX[suffix], rows, [], model, bom)
        return report


def _each_file_once(
    states: Iterable[Iterator[ImageResult]], report: MergeReport
) -> Iterator[ImageResult]:
    rows = heapq.merge(*states, key=lambda row: sort_key(row.path))
    for _, of_one_path in groupby(rows, key=lambda row: row.path):
        kept: list[ImageResult] = []
        for row in of_one_path:
            same = (place for place, other in enumerate(kept) if not _are_two_files(row, other))
            place = next(same, None)
            if place is None:
                kept.append(row)
                continue
            report.repeated += 1
            if isinstance(kept[place].outcome, ImageFailure):
                kept[place] = row
        yield from sorted(kept, key=lambda row: row.file.moved_to is not None)


def _are_two_files(one: ImageResult, other: ImageResult) -> bool:
    """Whether one was moved, and the other has its path since then."""
    moved = one.file.moved_to is not None or other.file.moved_to is not None
    known = None not in (one.file.sha256, other.file.sha256)
    return moved and known and one.file.sha256 != other.file.sha256


def _counted(rows: Iterable[ImageResult], report: MergeReport) -> Iterator[ImageResult]:
    for row in rows:
        report.rows += 1
        report.failed += isinstance(row.outcome, ImageFailure)
        yield row


@contextmanager
def read_state(path: Path) -> Iterator[tuple[ModelId, Iterator[ImageResult]]]:
    """The model and the rows of a run that came to its end. Its state stays as it is.

    Raises:
        NotReadyError: If there is no such file, or it cannot be read.
        RefusedError: If it is no state, or its run did not come to its end.
    """
    with ExitStack() as stack:
        connection = state_file.open_to_read(path, stack)
        state = RunState(path, connection, ExitStack(), resumed=False, doing="read")
        with plain_errors(path, "read"):
            model, _, is_done = state_file.description(connection)
        if not is_done:
            raise state_file.not_ended(path)
        yield model, state.rows()


def make_state(path: Path, model: ModelId, rows: Iterable[ImageResult]) -> None:
    """Make the state of a run that came to its end; it appears when it is complete.

    Raises:
        NotReadyError: If it cannot be written, or is there.
    """

    def fill(connection: sqlite3.Connection) -> None:
        state_file.describe(connection, model, selection="")
        state = RunState(path, connection, ExitStack(), resumed=False)
        last = None
        for row in rows:
            state.put(row, aside=row.path == last)
            last = row.path
        state.finish()

    state_file.make_file(path, fill)
