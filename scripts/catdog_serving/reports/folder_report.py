"""The page of `catdog classify --report`: what became of every image of some folders.

Rows are read once and as they come. What the page lists is bounded, in the file and
in memory; its summary and its histograms cover every row.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from catdog.overlay import overlay_style
from catdog.results import LABELS
from catdog_serving.folder.image_result import ImageFailure, ImageResult
from catdog_serving.folder.own_outputs import write_own
from catdog_serving.viewer.gallery import gallery_items, shown_row
from catdog_serving.viewer.page import page_parts

MAX_IMAGES = 10_000  # about 35 MB of page
MAX_FAILURES = 1_000
HISTOGRAM_BINS = 20


def write_folder_report(
    target: Path,
    rows: Iterable[ImageResult],
    folders: Sequence[dict[str, Any]],
    model: dict[str, Any] | None,
) -> None:
    """Write the page.

    Args:
        target: The .html file to make or replace.
        rows: The run's rows, read once. Paths are relative to the working directory. A row
            with a map shows it, and its box, when the pointer is over the image.
        folders: The summaries: folder, images, failed, skipped, seconds, images_per_s,
            mean_cat, mean_dog.
        model: network, weights, precision, untrained; None if nothing was classified.

    Raises:
        NotReadyError: If the file cannot be written.
    """
    counts = _Counts()
    listed = heapq.nsmallest(MAX_IMAGES, counts.images_of(rows), key=itemgetter("certainty"))
    title = str(folders[0]["folder"]) if len(folders) == 1 else f"{len(folders)} folders"
    charts = {
        "images": counts.labels.total(),
        "labels": {label: counts.labels[label] for label in LABELS},
        "histograms": counts.histograms,
    }
    values = {
        "title": f"catdog: {title}",
        "model": model,
        "folders": folders,
        "images": charts["images"],
        "failed": counts.failed_by_type.total(),
        "failed_by_type": counts.failed_by_type.most_common(),
        "listed": {"images": len(listed), "failed": len(counts.failures)},
        "data": {"overlay": overlay_style(), "charts": charts},
    }
    items = gallery_items([*listed, *counts.failures], target)
    write_own(target, page_parts("reports/folder_report.html", values, items))


class _Counts:
    """What one pass over the rows leaves beside the images.

    Attributes:
        labels: How often each label was given.
        histograms: For "cat" and "dog": images by mass, 20 equal bins over [0, 1].
        failed_by_type: Rows with an error, by its type.
        failures: The first MAX_FAILURES of them, as items.
    """

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.histograms = {"cat": [0] * HISTOGRAM_BINS, "dog": [0] * HISTOGRAM_BINS}
        self.failed_by_type: Counter[str] = Counter()
        self.failures: list[dict[str, Any]] = []

    def images_of(self, rows: Iterable[ImageResult]) -> Iterator[dict[str, Any]]:
        """Count every row, and give those with an answer as items."""
        for row in rows:
            item = shown_row(row)
            if isinstance(row.outcome, ImageFailure):
                self.failed_by_type[row.outcome.type] += 1
                if len(self.failures) < MAX_FAILURES:
                    self.failures.append(item)
                continue
            self.labels[row.label] += 1
            for kind, counts in self.histograms.items():
                counts[min(int(item[kind] * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)] += 1
            yield item
