"""The page of `catdog evaluate --report`: figures, plots, and the worst mistakes as images."""

import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catdog_serving.viewer.links import file_link
from catdog_serving.viewer.page import Layout, write_page
from catdog_serving.viewer.thumbnail import thumbnails

MAX_FAILURES = 1_000

_LAYOUT = Layout(
    heading="Evaluation",
    body="reports/evaluation_report.html",
    styles=("viewer/page.css", "reports/evaluation_report.css"),
    scripts=("viewer/page.js", "reports/evaluation_report.js"),
)


def write_evaluation_report(
    target: Path, evaluation: Mapping[str, Any], plots: Mapping[str, bytes]
) -> None:
    """Write the page.

    Args:
        target: The .html file to make or replace.
        evaluation: What to show, as `catdog evaluate --format json` gives it.
        plots: Title -> PNG.

    Raises:
        NotReadyError: If the file cannot be written.
    """
    folder = os.path.abspath(target.parent)
    failures, mistakes = evaluation["failures"], evaluation["mistakes"]
    figures = {key: value for key, value in evaluation.items() if key != "mistakes"}
    figures |= {"failed": len(failures), "failures": failures[:MAX_FAILURES]}
    drawn = [
        {"title": title, "image": "data:image/png;base64," + base64.b64encode(png).decode()}
        for title, png in plots.items()
    ]
    write_page(
        target,
        _LAYOUT,
        "catdog: evaluation",
        {"figures": figures},
        {"plots": drawn, "mistakes": _pictured(mistakes, folder)},
    )


def _pictured(mistakes: list[dict[str, Any]], folder: str) -> Iterator[dict[str, Any]]:
    images = thumbnails(Path(mistake["path"]) for mistake in mistakes)
    for mistake, image in zip(mistakes, images, strict=True):
        yield mistake | {"link": file_link(mistake["path"], folder), "thumbnail": image}
