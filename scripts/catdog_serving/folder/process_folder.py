"""process_sources: classify everything under some paths, and sum it up as the reference does."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from catdog.results import ModelId, Prediction
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.find_images import ImageFiles
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import FolderReport, ImageResult
from catdog_serving.folder.place_file import drop_reserved
from catdog_serving.folder.run_state import RunState
from catdog_serving.real_folders import root_index, sort_key
from catdog_serving.remote_path import AnyPath


def process_sources(
    sources: Sequence[ImageFiles],
    backend: Backend,
    on_row: Callable[[ImageResult], object],
    state: RunState | None = None,
    on_reused: Callable[[ImageResult], object] | None = None,
) -> list[FolderReport]:
    """Classify files and folders in one stream, whatever their number.

    Args:
        sources: What to classify, in order; see `find_sources`.
        backend: Where to classify.
        on_row: Called with each row, in order.
        state: Where each row is kept. A file that has one there, and has not changed since,
            keeps it; one that could not be read is tried again.
        on_reused: Called with each row that was there already, in its place among the others;
            None: `on_row` is.

    Returns:
        A report for each folder, and one for all files named by themselves.

    Raises:
        NotReadyError: If a folder holds no image, or a file is gone that was not moved by an
            earlier run.
        RefusedError: If the server's model changes on the way, or a row of the state is of a
            file that does not lie in `sources`.
    """
    reports = _Reports(sources)
    for source in sources:
        if source.is_missing and not (state is not None and state.was_moved(source.root)):
            raise source.missing()
    if state is not None and state.resumed:
        _check_selected(state, reports)
    last = b""

    def pass_reused(before: bytes | None) -> None:
        """The rows that were there already, up to that of the next file, which is new."""
        if state is not None and state.resumed:
            for row in state.rows(last, before):
                if reports.of(row.path) is not None:
                    reports.add(row)
                    (on_reused or on_row)(row)
            reports.lap()  # which was none of the time that new files took

    for result in backend.classify_files(_to_classify(sources, state, reports.begin)):
        took_s = reports.lap()
        _check_model(result, backend.model)
        place = sort_key(result.path)
        pass_reused(place)
        if state is not None:
            state.put(result)
        reports.add(result, took_s)
        on_row(result)
        last = place
    pass_reused(None)
    return reports.finished()


class _Reports:
    """The report that each source counts in, found by the place of a file."""

    def __init__(self, sources: Sequence[ImageFiles]) -> None:
        files = sum(not source.is_folder for source in sources)
        self._of_files = FolderReport("1 file" if files == 1 else f"{files} files", is_folder=False)
        self._sources = sources
        self._places = [sort_key(source.root) for source in sources]
        self._reports = [
            FolderReport(str(source.root)) if source.is_folder else self._of_files
            for source in sources
        ]
        self._since: float | None = None

    def begin(self) -> None:
        """A file was found that is new: time counts from the first on."""
        if self._since is None:
            self._since = time.perf_counter()

    def lap(self) -> float:
        """Seconds since it began, or since the lap before."""
        now = time.perf_counter()
        before, self._since = self._since or now, now
        return now - before

    def of(self, path: AnyPath) -> FolderReport | None:
        """The report of a file; None if it lies in no source."""
        index = root_index(sort_key(path), self._places)
        return None if index is None else self._reports[index]

    def add(self, row: ImageResult, took_s: float | None = None) -> None:
        """Count a row, and the time it took; None of one that was there already."""
        report = self.of(row.path)
        assert report is not None  # noqa: S101 (it was found in a source)
        report.add(row, reused=took_s is None)
        report.seconds += took_s or 0.0

    def finished(self) -> list[FolderReport]:
        """All of them; what was skipped is known of a folder when it was walked."""
        for source, report in zip(self._sources, self._reports, strict=True):
            report.skipped += source.skipped
        return list({id(report): report for report in self._reports}.values())


def _to_classify(
    sources: Sequence[ImageFiles], state: RunState | None, on_new: Callable[[], object]
) -> Iterator[AnyPath]:
    """The files that have no row yet, or not a current one."""
    for source in sources:
        for path in source:
            if state is not None and state.resumed and state.is_current(path):
                if reserved := state.keep(path):
                    drop_reserved(reserved)
            else:
                on_new()
                yield path
        if state is None or not state.all_moved(source.root):
            _check_found(source)


def check_any(sources: Iterable[ImageFiles]) -> None:
    """Make sure that each folder holds an image; a disk may not be mounted.

    Raises:
        NotReadyError: If one does not.
    """
    for source in sources:
        next(iter(source), None)
        _check_found(source)


def _check_found(source: ImageFiles) -> None:
    if source.is_folder and not source.found and (patterns := source.selection.patterns):
        named = " or ".join(f"'{pattern}'" for pattern in patterns)
        raise NotReadyError(
            f"no file in {source.root} matches --glob {named} ({source.skipped} other files)"
        )
    if source.is_folder and not source.found:
        raise NotReadyError(
            f"{source.root} holds no images ({source.skipped} other files); "
            "name a folder with JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF files"
        )


def _check_selected(state: RunState, reports: _Reports) -> None:
    """No row must get lost, whether its file is there or, as on a disk that is not, is not."""
    for path in state.paths():
        if reports.of(path) is None:
            raise RefusedError(
                f"the earlier run classified {path}, which is not among the files of this "
                "one; resume with the same paths, --glob, --exclude and --shard, or begin again by "
                "--restart"
            )


def _check_model(result: ImageResult, model: ModelId) -> None:
    if isinstance(result.outcome, Prediction) and result.outcome.model != model:
        raise RefusedError(
            f"the server answers with {result.outcome.model} now, and began with {model}; results "
            "of two models are not mixed: begin again with another output"
        )
