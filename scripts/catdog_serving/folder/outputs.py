"""Results as a table for people, and as JSON, JSON lines, CSV or Parquet for programs."""

import codecs
import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from catdog.results import LABELS, ModelId, Prediction
from catdog_serving.atomic_write import atomic_file
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.extras import install_hint
from catdog_serving.folder.image_result import FAILED, FolderReport, ImageFailure, ImageResult
from catdog_serving.folder.own_outputs import check_own, write_own
from catdog_serving.printable import printable

if TYPE_CHECKING:
    import pyarrow as pa

# An output's format follows its suffix; any other is a table.
FORMAT_OF_SUFFIX = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
PAGE_SUFFIXES = (".html", ".htm")
SPREADSHEET_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods")

STYLES = {"cat": "green", "dog": "blue", "neither": "dim", FAILED: "red"}
_BREED_WIDTH = 30
_HEADER = f"{'label':7}  {'cat':>6}  {'dog':>6}  {'breed':{_BREED_WIDTH}}  file"

# A cell that begins so is run as a formula by spreadsheets (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

_CSV_COLUMNS = (
    *("path", "size", "mtime_ns", "sha256", "label", "cat", "dog", "other"),
    *("breed", "breed_index", "breed_share", "box", "network", "weights", "precision", "version"),
    *("error_type", "error_message", "breed_probability"),  # the last: some read by position
)

# Of the first line of JSON lines; 1 was a journal, which runs went on with.
_JSON_LINES_FORMAT = 2
# Rows in memory at once, about 1 kB each; readers skip and share out whole groups.
_ROW_GROUP = 10_000


def write_output(
    output: Path,
    output_format: str,
    rows: Iterable[ImageResult],
    reports: Sequence[FolderReport],
    model: ModelId,
    bom: bool = False,
) -> None:
    """Write a file that appears when it is complete; a pipe or a device is written into.

    Args:
        bom: See `to_csv`.

    Raises:
        NotReadyError: If it cannot be written.
        RefusedError: If what has the name by then was not made by catdog.
    """
    if output_format == "parquet":
        _write_parquet(output, rows)
        return
    blocks = render(output_format, rows, reports, model, bom)
    if not is_stream(output):
        write_own(output, blocks)
        return
    try:
        with output.open("wb") as file:
            file.writelines(blocks)
    except OSError as error:
        raise NotReadyError(f"cannot write {output}: {error.strerror or error}") from error


def is_stream(output: Path) -> bool:
    """Whether a name is that of a pipe, a device or an open file such as /dev/stdout.

    Nothing replaces it.
    """
    behind = output.parent / output.readlink() if output.is_symlink() else output
    if any(os.path.realpath(path.parent).startswith("/proc/") for path in (output, behind)):
        return True
    return output.exists() and not output.is_file() and not output.is_dir()


def render(
    output_format: str,
    rows: Iterable[ImageResult],
    reports: Sequence[FolderReport],
    model: ModelId,
    bom: bool = False,
) -> Iterator[bytes]:
    """The whole output as "table", "json", "jsonl" or "csv", block by block."""
    if output_format == "json":
        return _to_json(rows, reports, model)
    if output_format == "jsonl":
        return _to_json_lines(rows, model)
    if output_format == "csv":
        return to_csv(rows, bom)
    return _to_table(rows, reports, model)


def _to_json(
    rows: Iterable[ImageResult], reports: Sequence[FolderReport], model: ModelId
) -> Iterator[bytes]:
    """One document: the model, each folder's summary, a row per file."""
    head = {"model": model.to_dict(), "folders": [report.to_dict() for report in reports]}
    yield json.dumps(head, indent=1)[:-2].encode() + b',\n "images": ['
    separator = b"\n  "
    for row in rows:
        yield separator + to_line(row).rstrip()
        separator = b",\n  "
    yield b"\n ]\n}\n"


def _to_json_lines(rows: Iterable[ImageResult], model: ModelId) -> Iterator[bytes]:
    yield first_line(model)
    yield from map(to_line, rows)


def first_line(model: ModelId) -> bytes:
    """The first of JSON lines: which model the rows are of."""
    return _json_line({"catdog_journal": _JSON_LINES_FORMAT} | model.to_dict())


def to_line(row: ImageResult) -> bytes:
    """A row as one line of JSON."""
    return _json_line(row.to_dict())


def _json_line(values: dict[str, Any]) -> bytes:
    """Names that are not Unicode (Linux allows them) are escaped."""
    try:
        line = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        line = json.dumps(values, separators=(",", ":")).encode()
    return line + b"\n"


def to_csv(
    rows: Iterable[ImageResult], bom: bool = False, more: Sequence[str] = ()
) -> Iterator[bytes]:
    """A header, then a line per file (RFC 4180, UTF-8).

    Text that a spreadsheet would run as a formula gets an apostrophe in front.

    Args:
        rows: Of the files.
        bom: Begin with a byte order mark, without which Excel takes UTF-8 for another encoding.
        more: Keys of the rows that are columns too, behind the others.
    """
    columns = (*_CSV_COLUMNS, *more)
    if bom:
        yield codecs.BOM_UTF8
    yield _csv_line(columns)
    for row in rows:
        yield csv_row(row, columns)


def csv_row(row: ImageResult, columns: Sequence[str] = _CSV_COLUMNS) -> bytes:
    """A file's line of `to_csv`."""
    flat = row.to_dict()
    breed, error = flat.get("breed") or {}, flat.get("error") or {}
    flat |= {
        "breed": breed.get("name"),
        "breed_index": breed.get("index"),
        "breed_share": breed.get("share"),
        "breed_probability": breed.get("probability"),
        "box": " ".join(map(str, flat.get("box") or ())),
        "error_type": error.get("type"),
        "error_message": error.get("message"),
    }
    return _csv_line([_inert(flat.get(column)) for column in columns])


def _inert(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def _csv_line(cells: Iterable[object]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def _to_table(
    rows: Iterable[ImageResult], reports: Sequence[FolderReport], model: ModelId
) -> Iterator[bytes]:
    """A line per file, then the summaries, as plain text."""
    yield f"{table_header()}\n".encode()
    for row in rows:
        yield f"{table_row(row)}\n".encode()
    for line in summary_lines(reports, model):
        yield f"{line}\n".encode()


def table_header() -> Text:
    return Text(_HEADER, style="bold")


def table_row(row: ImageResult) -> Text:
    """A file's line; what has no fixed width, the name, comes last."""
    answer = row.outcome
    if not isinstance(answer, Prediction):
        return failed_row(str(row.path), answer.message)
    breed = answer.certain_breed
    shown = _breed_cell(breed.name, f" ({breed.probability:.0%})") if breed else ""
    return Text.assemble(
        (f"{answer.label:7}", STYLES[answer.label]),
        f"  {answer.cat:6.4f}  {answer.dog:6.4f}  {shown:{_BREED_WIDTH}}  "
        f"{printable(str(row.path))}",
    )


def _breed_cell(name: str, probability: str) -> str:
    """Text that leaves the file in its column: one name in nine is cut."""
    room = _BREED_WIDTH - len(probability)
    return (name if len(name) <= room else f"{name[: room - 1]}…") + probability


def failed_row(path: str, reason: str) -> Text:
    return Text.assemble(("failed ", STYLES[FAILED]), f"  {printable(path)}: {printable(reason)}")


def summary_lines(
    reports: Sequence[FolderReport], model: ModelId, at: str | None = None
) -> Iterator[str]:
    """What became of each folder, its means as the reference has them, and which model it was.

    `at` is the server that was asked, where it is not the configuration's.
    """
    for report in reports:
        yield ""
        if report.is_folder:
            yield printable(report.folder)
        yield f"  {summary_line(report)}"
        if report.mean_cat is not None and report.mean_dog is not None:
            yield f"  mean cat {report.mean_cat:.2f}, dog {report.mean_dog:.2f}"
    yield f"model: {model}{f' at {at}' if at else ''}"


def summary_line(report: FolderReport) -> str:
    """How many of each there are, such as "110 files: 49 cat, 53 dog, 5 neither, 3 failed".

    Then how long it took, how many were done before this run, and how many are uncertain.
    """
    files, rate, uncertain = report.images + report.failed, report.images_per_s, report.uncertain
    counts = report.labels + Counter(failed=report.failed)
    parts = [f"{counts[label]} {label}" for label in (*LABELS, FAILED) if counts[label]]
    skipped = f" ({report.skipped} other skipped)" if report.skipped else ""
    line = (
        f"{files} file{'s' * (files != 1)}: {', '.join(parts) or 'nothing'}{skipped} in "
        f"{report.seconds:.1f} s, {rate:.{0 if rate >= 10 else 1}f} images/s"
    )
    if report.reused:
        line += f"; {report.reused} done before"
    if uncertain:
        line += f"; {uncertain} {'is' if uncertain == 1 else 'are'} uncertain"
    return line


def written_lines(written: Sequence[Path], reports: Sequence[FolderReport]) -> Iterator[str]:
    """What stands in the files that were written, and why the first that failed did."""
    total = FolderReport.total(reports)
    yield f"{' and '.join(map(str, written))}: {summary_line(total)}"
    for row in total.first_failed[:1]:
        if isinstance(row.outcome, ImageFailure):
            yield f"first failed: {row.path}: {row.outcome.message}"


def check_page_suffix(report: Path) -> None:
    """Refuse another name for a page.

    Raises:
        UsageError: If it has the suffix of something else, or none.
    """
    if report.suffix.lower() not in PAGE_SUFFIXES:
        raise UsageError(f"--report writes an HTML page: name it .html; got {report}")


def check_parquet() -> None:
    """Find out before the work whether such a file can be written.

    Raises:
        NotReadyError: If the package for it is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise NotReadyError(
            f"--format parquet needs {error.name}; run: {install_hint('ray')}"
        ) from error


def _write_parquet(output: Path, rows: Iterable[ImageResult]) -> None:
    """Write a row per file; the columns are the rows' keys, nested as they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = parquet_schema()
    remaining = iter(rows)
    with atomic_file(output) as partial:
        with pq.ParquetWriter(partial, schema) as writer:
            while group := list(islice(remaining, _ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist(list(map(_parquet_row, group)), schema))
        check_own(output)


def parquet_schema() -> "pa.Schema":
    """The columns: the rows' keys but for the map, nested as they are."""
    import pyarrow as pa

    number = pa.float64()
    breed = {"name": pa.string(), "index": pa.int16(), "share": number, "probability": number}
    class_ = {"index": pa.int16(), "name": pa.string(), "probability": number}
    return pa.schema(
        {
            "path": pa.string(),
            "size": pa.int64(),
            "mtime_ns": pa.int64(),
            "sha256": pa.string(),
            "label": pa.string(),
            **dict.fromkeys(("cat", "dog", "other"), number),
            "breed": pa.struct(breed),
            "top": pa.list_(pa.struct(class_)),
            "box": pa.list_(pa.int32()),
            **dict.fromkeys(("network", "weights", "precision", "version"), pa.string()),
            "error": pa.struct({"type": pa.string(), "message": pa.string()}),
        }
    )


def _parquet_row(row: ImageResult) -> dict[str, Any]:
    """A row without what a Parquet string cannot hold: names that are not UTF-8, escaped."""
    path = os.fsencode(str(row.path)).decode("utf-8", "backslashreplace")
    return row.to_dict() | {"path": path}
