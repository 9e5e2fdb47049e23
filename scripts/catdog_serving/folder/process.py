"""process_folder: classify everything under a path, and sum it up as the reference does."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from catdog.postprocess import Prediction
from catdog_serving.errors import NotReadyError
from catdog_serving.folder.backends import Backend, ImageResult
from catdog_serving.folder.iterate import ImageFiles


@dataclass
class FolderReport:
    """The summary of one folder.

    Attributes:
        folder: The path as it was given.
        images: Pictures classified.
        failed: Files that could not be classified.
        skipped: Files that are no pictures by their suffix.
        seconds: From the first file to the last answer.
        labels: How often each label was given.
    """

    folder: Path
    images: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    _cat_sum: float = 0.0
    _dog_sum: float = 0.0

    def add(self, result: ImageResult) -> None:
        """Count one result."""
        if not isinstance(result.outcome, Prediction):
            self.failed += 1
            return
        self.images += 1
        self.labels[result.outcome.label] += 1
        self._cat_sum += result.outcome.cat
        self._dog_sum += result.outcome.dog

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def mean_cat(self) -> float | None:
        """Mean cat mass over the classified pictures; None if there are none."""
        return self._cat_sum / self.images if self.images else None

    @property
    def mean_dog(self) -> float | None:
        return self._dog_sum / self.images if self.images else None


def process_folder(
    path: Path, backend: Backend, on_result: Callable[[ImageResult], None]
) -> FolderReport:
    """Classify a file, or every picture of a folder.

    Args:
        path: The file or folder.
        backend: Where to classify.
        on_result: Called with each result, in order.

    Raises:
        NotReadyError: If there is no such path, or no picture in it.
    """
    files = ImageFiles(path)
    report = FolderReport(path)
    start = time.perf_counter()
    for result in backend.classify_files(files):
        report.add(result)
        on_result(result)
    report.seconds = time.perf_counter() - start
    report.skipped = files.skipped
    if not report.images and not report.failed:
        raise NotReadyError(
            f"{path} holds no pictures ({report.skipped} other files); "
            "name a folder with JPEG, PNG, WebP, GIF, BMP or TIFF files"
        )
    return report
