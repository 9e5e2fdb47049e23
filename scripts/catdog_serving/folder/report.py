"""Show results to a person (table) or a program (JSON)."""

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from catdog.networks import SEEDED
from catdog.postprocess import Prediction
from catdog_serving.folder.backends import ImageResult
from catdog_serving.folder.process import FolderReport

_STYLES = {"cat": "green", "dog": "blue", "neither": "dim"}
UNBOUNDED_WIDTH = 10_000  # for pipes: rows are never cut or folded there


def print_table(
    results: Sequence[ImageResult], reports: Sequence[FolderReport], console: Console
) -> None:
    """A row per file, then the summary of each folder."""
    if not console.is_terminal:
        console.width = UNBOUNDED_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    table.add_column("label")
    table.add_column("cat", justify="right")
    table.add_column("dog", justify="right")
    table.add_column("breed", overflow="fold")
    for result in results:
        table.add_row(*_cells(result))
    console.print(table)
    console.print()
    for report in reports:
        console.print(_summary_line(report), highlight=False)
    model = model_of(results)
    if model:
        untrained = " (untrained: its answers mean nothing)" if model["untrained"] else ""
        console.print(
            f"model: {model['network']} {model['weights']}{untrained}, version {model['version']}"
        )


def to_json(results: Sequence[ImageResult], reports: Sequence[FolderReport]) -> str:
    """One document: the model, each folder's summary, a row per file."""
    return json.dumps(
        {
            "model": model_of(results),
            "folders": [_summary(report) for report in reports],
            "images": [_row(result) for result in results],
        },
        indent=1,
        ensure_ascii=False,
    )


def model_of(results: Sequence[ImageResult]) -> dict[str, str | bool] | None:
    """Which model answered, and whether it is untrained; None if nothing was classified."""
    for result in results:
        outcome = result.outcome
        if isinstance(outcome, Prediction):
            return {
                "network": outcome.network,
                "weights": outcome.weights,
                "version": outcome.version,
                "untrained": outcome.weights == SEEDED,
            }
    return None


def _cells(result: ImageResult) -> tuple[str, ...]:
    name = escape(str(result.path))
    outcome = result.outcome
    if not isinstance(outcome, Prediction):
        return name, "[red]failed[/]", "", "", escape(outcome.message)
    label = f"[{_STYLES[outcome.label]}]{outcome.label}[/]"
    breed = f"{escape(outcome.breed.name)} ({outcome.breed.share:.0%})" if outcome.breed else ""
    return name, label, f"{outcome.cat:.4f}", f"{outcome.dog:.4f}", breed


def _summary(report: FolderReport) -> dict[str, Any]:
    return {
        "folder": str(report.folder),
        "images": report.images,
        "failed": report.failed,
        "skipped": report.skipped,
        "seconds": round(report.seconds, 3),
        "images_per_s": round(report.images_per_s, 2),
        "mean_cat": report.mean_cat,
        "mean_dog": report.mean_dog,
        "labels": dict(report.labels),
    }


def _summary_line(report: FolderReport) -> str:
    """As the reference prints it, with what it left out: failures and other files."""
    extra = "".join(
        f", {count} {what}"
        for count, what in ((report.failed, "failed"), (report.skipped, "other files skipped"))
        if count
    )
    line = (
        f"{escape(str(report.folder))}: {report.images} images in {report.seconds:.2f} s, "
        f"{report.images_per_s:.2f} images/s{extra}"
    )
    if report.mean_cat is None or report.mean_dog is None:
        return line
    return f"{line}\n  mean masses: cat {report.mean_cat:.4f}, dog {report.mean_dog:.4f}"


def _row(result: ImageResult) -> dict[str, Any]:
    row: dict[str, Any] = {"path": str(result.path)}
    if isinstance(result.outcome, Prediction):
        return row | result.outcome.to_dict()
    return row | {"error": {"type": result.outcome.type, "message": result.outcome.message}}
