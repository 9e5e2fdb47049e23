"""catdog merge: the journals of several shards, as one."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import RefusedError, UsageError
from catdog_serving.folder.journal import first_line, part_of, read_journal, row_key, to_line
from catdog_serving.folder.rows import Row


@dataclass
class MergeReport:
    """What went into the merged journal.

    Attributes:
        rows: Files in it.
        failed: How many of them have an error.
        repeated: Rows left out because another journal had the file too.
    """

    rows: int = 0
    failed: int = 0
    repeated: int = 0


def merge_journals(output: Path, journals: Sequence[Path]) -> MergeReport:
    """Join journals into one, in order, each file once; the inputs stay as they are.

    Of two rows of one file a prediction wins over an error, else the first journal's.

    Raises:
        UsageError: If the output is there already.
        RefusedError: If the journals are of different models, broken, or in the middle of a resume.
        NotReadyError: If one does not exist.
    """
    if output.exists():
        raise UsageError(f"{output} exists; choose another output, or delete it")
    for path in journals:
        if part_of(path).exists():
            raise RefusedError(f"a run with --resume did not end: go on with it, then merge {path}")
    opened = [read_journal(path) for path in journals]
    model = opened[0][0]
    for path, (other, _) in zip(journals, opened, strict=True):
        if other != model:
            raise RefusedError(
                f"{path} holds results of {other}, and {journals[0]} of {model}; results of two "
                "models are not merged"
            )
    report = MergeReport()
    rows = _counted(_each_file_once([rows for _, rows in opened], report), report)
    atomic_write(output, map(to_line, chain([first_line(model)], rows)))
    return report


def _each_file_once(journals: Iterable[Iterator[Row]], report: MergeReport) -> Iterator[Row]:
    kept: Row | None = None
    for row in heapq.merge(*journals, key=row_key):
        if kept is None:
            kept = row
        elif row_key(kept) == row_key(row):
            report.repeated += 1
            kept = row if "error" in kept else kept
        else:
            yield kept
            kept = row
    if kept is not None:
        yield kept


def _counted(rows: Iterable[Row], report: MergeReport) -> Iterator[Row]:
    for row in rows:
        report.rows += 1
        report.failed += "error" in row
        yield row
