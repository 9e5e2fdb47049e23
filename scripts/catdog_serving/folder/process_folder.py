"""process_folder: classify everything under a path, and sum it up as the reference does."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from catdog.results import ModelId
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.files import UNREADABLE
from catdog_serving.folder.find_files import ImageFiles, find_sources, sort_key
from catdog_serving.folder.journal import row_key
from catdog_serving.folder.remote_path import AnyPath, parse_path
from catdog_serving.folder.rows import Row, to_row


class _New(NamedTuple):
    """A file to classify."""

    source: ImageFiles
    path: AnyPath


class _Done(NamedTuple):
    """A file that has its row already."""

    source: ImageFiles
    row: Row


@dataclass
class FolderReport:
    """The summary of one folder, or of all files that were named by themselves.

    Attributes:
        folder: The path as it was given; for files, how many.
        images: Images classified.
        reused: How many of them were done already, in an earlier run.
        failed: Files that could not be classified.
        skipped: Files that are no images by their name.
        seconds: Time that this run spent on it.
        labels: How often each label was given.
    """

    folder: str
    images: int = 0
    reused: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    _cat_sum: float = 0.0
    _dog_sum: float = 0.0

    def add(self, row: Row) -> None:
        """Count one row."""
        if "error" in row:
            self.failed += 1
            return
        self.images += 1
        self.labels[row["label"]] += 1
        self._cat_sum += row["cat"]
        self._dog_sum += row["dog"]

    @property
    def images_per_s(self) -> float:
        """Of the images that this run classified."""
        return (self.images - self.reused) / self.seconds if self.seconds else 0.0

    @property
    def mean_cat(self) -> float | None:
        """Mean cat mass over the classified images; None if there are none."""
        return self._cat_sum / self.images if self.images else None

    @property
    def mean_dog(self) -> float | None:
        return self._dog_sum / self.images if self.images else None


def process_folder(
    path: AnyPath, backend: Backend, on_row: Callable[[Row], object]
) -> FolderReport:
    """Classify every image of one folder; see `process_sources`."""
    (report,) = process_sources(find_sources([path]), backend, on_row)
    return report


def process_sources(
    sources: Sequence[ImageFiles],
    backend: Backend,
    on_row: Callable[[Row], object],
    old_rows: Iterable[Row] = (),
) -> list[FolderReport]:
    """Classify files and folders in one stream, whatever their number.

    Args:
        sources: What to classify, in order; see `find_sources`.
        backend: Where to classify.
        on_row: Called with each row, in order.
        old_rows: Rows of an earlier run, in order. A file that has not changed since
            keeps its row; one that could not be read is tried again.

    Returns:
        A report for each folder, and one for all files named by themselves.

    Raises:
        NotReadyError: If a folder holds no image.
        RefusedError: If the server's model changes on the way, or an old row is of a
            file that is there but not among `sources`.
    """
    reports = _reports(sources)
    since = time.perf_counter()
    for source, row, reused in _classified(_steps(sources, iter(old_rows)), backend):
        report = reports[id(source)]
        report.add(row)
        report.reused += reused and "error" not in row
        now = time.perf_counter()
        report.seconds, since = report.seconds + now - since, now
        on_row(row)
    _count_skipped(sources, reports)
    return list({id(report): report for report in reports.values()}.values())


def _reports(sources: Sequence[ImageFiles]) -> dict[int, FolderReport]:
    """The report that each source counts in, by the source's id."""
    files = sum(not source.is_folder for source in sources)
    of_files = FolderReport("1 file" if files == 1 else f"{files} files")
    return {
        id(source): FolderReport(str(source.root)) if source.is_folder else of_files
        for source in sources
    }


def _count_skipped(sources: Sequence[ImageFiles], reports: dict[int, FolderReport]) -> None:
    """What is known of a folder when it was walked; one without any image is an error."""
    for source in sources:
        report = reports[id(source)]
        report.skipped += source.skipped
        if source.is_folder and not source.is_sharded and not report.images + report.failed:
            raise NotReadyError(
                f"{source.root} holds no images ({report.skipped} other files); "
                "name a folder with JPEG, PNG, WebP, GIF, BMP, TIFF or HEIC files"
            )


def _steps(sources: Iterable[ImageFiles], old_rows: Iterator[Row]) -> Iterator[_New | _Done]:
    """Walk over the files and the old rows side by side; both are in the same order."""
    old = next(old_rows, None)
    for source in sources:
        for path in source:
            while old is not None and row_key(old) < sort_key(path):
                _check_vanished(old)
                old = next(old_rows, None)
            if old is not None and row_key(old) == sort_key(path):
                row, old = old, next(old_rows, None)
                yield _Done(source, row) if _is_current(row, path) else _New(source, path)
            else:
                yield _New(source, path)
    while old is not None:
        _check_vanished(old)
        old = next(old_rows, None)


def _check_vanished(row: Row) -> None:
    """A row without its file goes; a row whose file is there must not get lost."""
    path = parse_path(row["path"])
    if path.exists() and not path.is_dir():  # a folder has a row only when it cannot be listed
        raise RefusedError(
            f"the earlier run classified {row['path']}, which is not among the files of this "
            "one; resume with the same paths, --glob and --shard"
        )


def _is_current(row: Row, path: AnyPath) -> bool:
    if "error" in row and row["error"]["type"] == UNREADABLE:
        return False
    try:
        status = path.stat()
    except OSError:
        return False
    return (row["size"], row["mtime_ns"]) == (status.st_size, status.st_mtime_ns)


def _classified(
    steps: Iterator[_New | _Done], backend: Backend
) -> Iterator[tuple[ImageFiles, Row, bool]]:
    """Each step's source and row, in order, and whether the row was there already."""
    waiting: deque[_New | _Done] = deque()
    more = True

    def new_paths() -> Iterator[AnyPath]:
        nonlocal more
        for step in steps:
            waiting.append(step)
            if isinstance(step, _New):
                yield step.path
            elif len(waiting) >= backend.done_ahead:  # let them be written before going on
                return
        more = False

    while more:
        for result in backend.classify_files(new_paths()):
            yield from _done(waiting)
            source = waiting.popleft().source
            yield source, _same_model(to_row(result), backend.model), False
        yield from _done(waiting)


def _done(waiting: deque[_New | _Done]) -> Iterator[tuple[ImageFiles, Row, bool]]:
    """Take the rows from the front."""
    while waiting and isinstance(done := waiting[0], _Done):
        waiting.popleft()
        yield done.source, done.row, True


def _same_model(row: Row, model: ModelId) -> Row:
    if "error" in row:
        return row
    found = ModelId.from_dict(row)
    if found != model:
        raise RefusedError(
            f"the server answers with {found} now, and began with {model}; results of two models "
            "are not mixed: begin again with another output"
        )
    return row
