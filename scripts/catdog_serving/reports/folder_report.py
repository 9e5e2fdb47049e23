"""The page of `catdog classify --report`: what became of every image of some folders.

Rows are read once and as they come. What the page lists is bounded, in the file and
in memory; its summary and its histograms cover every row.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from catdog.overlay import overlay_style
from catdog_serving.viewer.gallery import gallery_items, shown_row
from catdog_serving.viewer.page import write_page

MAX_IMAGES = 10_000  # about 35 MB of page
MAX_FAILURES = 1_000
HISTOGRAM_BINS = 20


def write_folder_report(
    target: Path,
    rows: Iterable[dict[str, Any]],
    folders: Sequence[dict[str, Any]],
    model: dict[str, Any] | None,
) -> None:
    """Write the page.

    Args:
        target: The .html file to make or replace.
        rows: The run's rows, read once: `path`, `size` and the answer's keys flat, or
            `path`, `size` and `error`. Paths are relative to the working directory. A row
            with a `map` shows it, and its box, when the pointer is over the image.
        folders: The summaries: folder, images, failed, skipped, seconds, images_per_s,
            mean_cat, mean_dog.
        model: network, weights, precision, untrained; None if nothing was classified.

    Raises:
        NotReadyError: If the file cannot be written.
    """
    collected = _Collected()
    for row in rows:
        collected.add(row)
    images = collected.least_certain()
    title = str(folders[0]["folder"]) if len(folders) == 1 else f"{len(folders)} folders"
    values = {
        "title": f"catdog: {title}",
        "model": model,
        "folders": folders,
        "images": collected.images,
        "labels": collected.labels,
        "histograms": collected.histograms,
        "failed": collected.failed,
        "failed_by_type": dict(collected.failed_by_type.most_common()),
        "listed": {"images": len(images), "failed": len(collected.failures)},
        "overlay": overlay_style(),
    }
    items = gallery_items([*images, *collected.failures], target)
    write_page(target, "reports/folder_report.html", values, items)


class _Collected:
    """What one pass over the rows leaves: counts of all, and what the page lists.

    Attributes:
        images: Rows without an error.
        labels: How often each label was given.
        histograms: For "cat" and "dog": images by mass, 20 equal bins over [0, 1].
        failed: Rows with an error.
        failed_by_type: The same by the error's type.
        failures: The first MAX_FAILURES of them.
    """

    def __init__(self) -> None:
        self.images = 0
        self.labels: Counter[str] = Counter()
        self.histograms = {"cat": [0] * HISTOGRAM_BINS, "dog": [0] * HISTOGRAM_BINS}
        self.failed = 0
        self.failed_by_type: Counter[str] = Counter()
        self.failures: list[dict[str, Any]] = []
        # The most certain image of those kept is on top, to be pushed out by the next.
        self._heap: list[tuple[float, int, dict[str, Any]]] = []

    def add(self, row: dict[str, Any]) -> None:
        if "error" in row:
            self.failed += 1
            self.failed_by_type[row["error"]["type"]] += 1
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(shown_row(row))
            return
        self.images += 1
        self.labels[row["label"]] += 1
        for kind, counts in self.histograms.items():
            counts[min(int(row[kind] * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)] += 1
        shown = shown_row(row)
        entry = (-shown["certainty"], -self.images, shown)  # the count decides between equals
        if len(self._heap) < MAX_IMAGES:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def least_certain(self) -> list[dict[str, Any]]:
        """The kept images, the least certain first."""
        return [entry[2] for entry in sorted(self._heap, key=lambda e: e[:2], reverse=True)]
