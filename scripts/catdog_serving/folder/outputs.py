"""Results as a table for people, and as JSON or CSV for programs."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from catdog.results import ModelId
from catdog_serving.folder.explain_files import ExplainedFile
from catdog_serving.folder.files import ImageFailure
from catdog_serving.folder.journal import to_line
from catdog_serving.folder.process_folder import FolderReport
from catdog_serving.folder.rows import Row

_STYLES = {"cat": "green", "dog": "blue", "neither": "dim", "failed": "red"}
_BREED_WIDTH = 30
_HEADER = f"{'label':7}  {'cat':>6}  {'dog':>6}  {'breed':{_BREED_WIDTH}}  file"
_BOX_WIDTH = 19  # four numbers of four digits
_EXPLAINED_HEADER = f"{'label':7}  {'box x0 y0 x1 y1':{_BOX_WIDTH}}  overlay"

# A cell that begins so is run as a formula by spreadsheets (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

_CSV_COLUMNS = (
    *("path", "size", "mtime_ns", "sha256", "label", "cat", "dog", "other"),
    *("breed", "breed_index", "breed_share", "box", "network", "weights", "precision", "version"),
    *("error_type", "error_message"),
)


def render(
    name: str, rows: Iterable[Row], reports: Sequence[FolderReport], model: ModelId
) -> Iterator[bytes]:
    """The whole output in the format "table", "json" or "csv", block by block."""
    if name == "json":
        return to_json(rows, reports, model)
    if name == "csv":
        return to_csv(rows)
    return to_table(rows, reports, model)


def to_json(
    rows: Iterable[Row], reports: Sequence[FolderReport], model: ModelId
) -> Iterator[bytes]:
    """One document: the model, each folder's summary, a row per file."""
    head = {"model": model.to_dict(), "folders": [summary(report) for report in reports]}
    yield json.dumps(head, indent=1)[:-2].encode() + b',\n "images": ['
    separator = b"\n  "
    for row in rows:
        yield separator + to_line(row).rstrip()
        separator = b",\n  "
    yield b"\n ]\n}\n"


def to_csv(rows: Iterable[Row]) -> Iterator[bytes]:
    """A header, then a line per file (RFC 4180, UTF-8).

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    yield _csv_line(_CSV_COLUMNS)
    for row in rows:
        breed, error = row.get("breed") or {}, row.get("error") or {}
        flat = row | {
            "breed": breed.get("name"),
            "breed_index": breed.get("index"),
            "breed_share": breed.get("share"),
            "box": " ".join(map(str, row.get("box") or ())),
            "error_type": error.get("type"),
            "error_message": error.get("message"),
        }
        yield _csv_line([_inert(flat.get(column)) for column in _CSV_COLUMNS])


def to_table(
    rows: Iterable[Row], reports: Sequence[FolderReport], model: ModelId
) -> Iterator[bytes]:
    """A line per file, then the summaries, as plain text."""
    yield f"{table_header()}\n".encode()
    for row in rows:
        yield f"{table_row(row)}\n".encode()
    text = io.StringIO()
    print_summary(reports, model, Console(file=text))
    yield text.getvalue().encode()


def summary(report: FolderReport) -> dict[str, Any]:
    """A folder's report as plain values."""
    return {
        "folder": report.folder,
        "images": report.images,
        "reused": report.reused,
        "failed": report.failed,
        "skipped": report.skipped,
        "seconds": round(report.seconds, 3),
        "images_per_s": round(report.images_per_s, 2),
        "mean_cat": report.mean_cat,
        "mean_dog": report.mean_dog,
        "labels": dict(report.labels),
    }


def table_header() -> Text:
    return Text(_HEADER, style="bold")


def table_row(row: Row) -> Text:
    """A file's line; what has no fixed width, the name, comes last."""
    if "error" in row:
        return failed_row(row["path"], row["error"]["message"])
    breed = row["breed"]
    breed_text = f"{breed['name']} ({breed['share']:.0%})" if breed else ""
    return Text.assemble(
        (f"{row['label']:7}", _STYLES[row["label"]]),
        f"  {row['cat']:6.4f}  {row['dog']:6.4f}  {breed_text:{_BREED_WIDTH}}  "
        f"{printable(row['path'])}",
    )


def explained_header() -> Text:
    return Text(_EXPLAINED_HEADER, style="bold")


def explained_row(explained: ExplainedFile) -> Text:
    """An explained file's line: its label, the animal's box, the overlay."""
    outcome = explained.outcome
    if isinstance(outcome, ImageFailure):
        return failed_row(str(explained.path), outcome.message)
    label = outcome.prediction.label
    box = "" if outcome.box is None else " ".join(map(str, outcome.box))
    return Text.assemble(
        (f"{label:7}", _STYLES[label]), f"  {box:{_BOX_WIDTH}}  {printable(str(explained.target))}"
    )


def failed_row(path: str, reason: str) -> Text:
    return Text.assemble(
        ("failed ", _STYLES["failed"]), f"  {printable(path)}: {printable(reason)}"
    )


def print_summary(reports: Sequence[FolderReport], model: ModelId, console: Console) -> None:
    """What the reference prints for each folder, and which model it was."""
    console.print()
    for report in reports:
        console.print(_summary_line(report), highlight=False, soft_wrap=True)
    console.print(f"model: {escape(str(model))}", highlight=False, soft_wrap=True)


def _summary_line(report: FolderReport) -> str:
    """As the reference prints it, with what it left out: failures and other files."""
    extra = "".join(
        f", {count} {what}"
        for count, what in (
            (report.reused, "done before"),
            (report.failed, "failed"),
            (report.skipped, "other files skipped"),
        )
        if count
    )
    line = (
        f"{escape(printable(report.folder))}: {report.images} images in {report.seconds:.2f} s, "
        f"{report.images_per_s:.2f} images/s{extra}"
    )
    if report.mean_cat is None or report.mean_dog is None:
        return line
    return f"{line}\n  mean masses: cat {report.mean_cat:.4f}, dog {report.mean_dog:.4f}"


def printable(text: str) -> str:
    """A name without what would move the cursor or colour the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _inert(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def _csv_line(cells: Iterable[object]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue().encode("utf-8", "surrogateescape")
