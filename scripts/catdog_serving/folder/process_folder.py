"""process_folder: classify everything under some paths, and sum it up as the reference does.

    files -> backend -> ImageResult, in order -> run state -> outputs

`process_sources` is the first half, and `run_classify` all of it.
"""

import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from catdog.results import ModelId, Prediction
from catdog_serving.errors import NotReadyError, RefusedError, ServerError
from catdog_serving.find_files import ImageFiles, find_sources, lies_under, sort_key
from catdog_serving.folder import outputs
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_files import UNREADABLE, FolderReport, ImageFailure, ImageResult
from catdog_serving.folder.progress import FolderProgress
from catdog_serving.folder.run_options import RunOptions
from catdog_serving.folder.run_state import RunState
from catdog_serving.folder.sort_files import print_sorted, sort_files
from catdog_serving.remote_path import AnyPath

# Writes the HTML page: its place, the rows, the summaries, the model.
WriteReport = Callable[[Path, Iterator[ImageResult], Sequence[FolderReport], ModelId], object]


def process_folder(
    path: AnyPath, backend: Backend, on_row: Callable[[ImageResult], object]
) -> FolderReport:
    """Classify every image of one folder; see `process_sources`."""
    (report,) = process_sources(find_sources([path]), backend, on_row)
    return report


def process_sources(
    sources: Sequence[ImageFiles],
    backend: Backend,
    on_row: Callable[[ImageResult], object],
    state: RunState | None = None,
) -> list[FolderReport]:
    """Classify files and folders in one stream, whatever their number.

    Args:
        sources: What to classify, in order; see `find_sources`.
        backend: Where to classify.
        on_row: Called with each row, in order.
        state: Where each row is kept. A file that has one there, and has not changed since,
            keeps it; one that could not be read is tried again.

    Returns:
        A report for each folder, and one for all files named by themselves.

    Raises:
        NotReadyError: If a folder holds no image.
        RefusedError: If the server's model changes on the way, or a row of the state is of a
            file that is there but not among `sources`.
    """
    reports = _Reports(sources)
    if state is not None and state.resumed:
        _check_selected(state, reports)
    last = b""

    def pass_reused(before: bytes | None) -> None:
        """The rows that were there already, up to that of the next file, which is new."""
        if state is not None and state.resumed:
            for row in state.rows(last, before):
                if reports.of(row.path) is not None:
                    reports.add(row, reused=True)
                    on_row(row)

    for result in backend.classify_files(_to_classify(sources, state)):
        _check_model(result, backend.model)
        place = sort_key(result.path)
        pass_reused(place)
        if state is not None:
            state.put(result)
        reports.add(result)
        on_row(result)
        last = place
    pass_reused(None)
    return reports.finished()


class _Reports:
    """The report that each source counts in, found by the place of a file."""

    def __init__(self, sources: Sequence[ImageFiles]) -> None:
        files = sum(not source.is_folder for source in sources)
        self._of_files = FolderReport("1 file" if files == 1 else f"{files} files")
        self._sources = sources
        self._places = [sort_key(source.root) for source in sources]
        self._reports = [
            FolderReport(str(source.root)) if source.is_folder else self._of_files
            for source in sources
        ]
        self._since = time.perf_counter()

    def of(self, path: AnyPath) -> FolderReport | None:
        """The report of a file; None if it lies in no source."""
        place = sort_key(path)
        index = bisect_right(self._places, place) - 1
        is_in = index >= 0 and lies_under(place, self._places[index])
        return self._reports[index] if is_in else None

    def add(self, row: ImageResult, reused: bool = False) -> None:
        """Count a row, and the time since the one before."""
        report = self.of(row.path)
        assert report is not None  # noqa: S101 (it was found in a source)
        report.add(row, reused)
        now = time.perf_counter()
        report.seconds, self._since = report.seconds + now - self._since, now

    def finished(self) -> list[FolderReport]:
        """All of them; what was skipped is known of a folder when it was walked."""
        for source, report in zip(self._sources, self._reports, strict=True):
            report.skipped += source.skipped
        return list({id(report): report for report in self._reports}.values())


def _to_classify(sources: Sequence[ImageFiles], state: RunState | None) -> Iterator[AnyPath]:
    """The files that have no row yet, or not a current one."""
    for source in sources:
        for path in source:
            if state is not None and state.resumed and _is_current(state, path):
                state.keep(path)
            else:
                yield path
        if source.found or not source.is_folder:
            continue
        if state is None or not state.has_moved(source.root):
            raise NotReadyError(
                f"{source.root} holds no images ({source.skipped} other files); "
                "name a folder with JPEG, PNG, WebP, GIF, BMP, TIFF or HEIC files"
            )


def _is_current(state: RunState, path: AnyPath) -> bool:
    """Whether a file has a row and is as it was; one that could not be read is tried again."""
    done = state.find(path)
    if done is None or done.error == UNREADABLE:
        return False
    try:
        status = path.stat()
    except OSError:
        return False
    return (done.size, done.mtime_ns) == (status.st_size, status.st_mtime_ns)


def _check_selected(state: RunState, reports: _Reports) -> None:
    """A row whose file is there must not get lost."""
    for path in state.paths():
        if reports.of(path) is None and path.exists():
            raise RefusedError(
                f"the earlier run classified {path}, which is not among the files of this "
                "one; resume with the same paths, --glob and --shard"
            )


def _check_model(result: ImageResult, model: ModelId) -> None:
    if isinstance(result.outcome, Prediction) and result.outcome.model != model:
        raise RefusedError(
            f"the server answers with {result.outcome.model} now, and began with {model}; results "
            "of two models are not mixed: begin again with another output"
        )


def run_classify(
    options: RunOptions, backend: Backend, console: Console, write_report: WriteReport | None = None
) -> list[FolderReport]:
    """Classify, and write what was asked for.

    Args:
        options: What to do.
        backend: Where to classify.
        console: Standard output.
        write_report: Writes the page, where `options.report` asks for one.

    Returns:
        A report for each folder, and one for all files named by themselves.
    """
    to_classify, to_count = options.sources(), options.sources()
    errors = Console(stderr=True)
    with ExitStack() as stack:
        state = _open_state(options, backend.model)
        if state is not None:
            stack.enter_context(state)
        shown_on = console if console.is_terminal else errors
        with FolderProgress(to_count, shown_on) as progress:
            show = _live_output(options, backend.model, progress, console)

            def on_row(row: ImageResult) -> None:
                show(row)
                progress.add(isinstance(row.outcome, ImageFailure))

            try:
                reports = process_sources(to_classify, backend, on_row, state)
            except (KeyboardInterrupt, ServerError):
                _say_interrupted(state, errors)
                raise
        if state is not None:
            _end_run(options, backend.model, state, reports, console, write_report)
    if options.output_format == "table" and options.output is None:
        outputs.print_summary(reports, backend.model, console)
    return reports


def _open_state(options: RunOptions, model: ModelId) -> RunState | None:
    """The run's state; one without a file if rows are needed again, and no file is named."""
    if options.state is not None:
        return RunState.open(
            options.state, model, options.selection, options.resume, options.restart
        )
    at_once = options.output is None and options.output_format in ("table", "jsonl")
    return None if at_once and options.sort_into is None else RunState.temporary()


def _live_output(
    options: RunOptions, model: ModelId, progress: FolderProgress, console: Console
) -> Callable[[ImageResult], object]:
    """What shows each row as soon as it is there."""
    if options.output is not None or options.output_format in ("json", "csv"):
        return lambda row: None
    if options.output_format == "jsonl":
        write = sys.stdout.buffer.write
        write(outputs.first_line(model))
        return lambda row: write(outputs.to_line(row))
    show = progress.print if console.is_terminal else print
    show(outputs.table_header())
    return lambda row: show(outputs.table_row(row))


def _say_interrupted(state: RunState | None, errors: Console) -> None:
    """Say what the state holds: an interruption may come before its last row is counted."""
    kept = (
        f"; {state.count()} files are in {state.path}; to go on: the same command with --resume"
        if state is not None and state.path is not None
        else ""
    )
    errors.print(f"interrupted{kept}", highlight=False, soft_wrap=True, markup=False)


def _end_run(
    options: RunOptions,
    model: ModelId,
    state: RunState,
    reports: Sequence[FolderReport],
    console: Console,
    write_report: WriteReport | None,
) -> None:
    """Write everything that is made from the finished state, and delete it if it is all done."""
    rows_are_left = state.drop_gone()
    state.finish()
    if options.output is not None:
        outputs.write_output(options.output, options.output_format, state.rows(), reports, model)
    elif options.output_format in ("json", "csv"):
        rendered = outputs.render(options.output_format, state.rows(), reports, model)
        sys.stdout.buffer.writelines(rendered)
    if options.report is not None and write_report is not None:
        write_report(options.report, state.rows(), reports, model)
    if options.sort_into is not None:  # last: the page holds thumbnails
        _sort(options, options.sort_into, state, console)
    unreadable = sum(report.unreadable for report in reports)
    if unreadable and state.path is not None and not options.keep_state:
        Console(stderr=True).print(
            f"{unreadable} files could not be read; {state.path} stays, and --resume tries them "
            "again",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    if not (options.keep_state or options.dry_run or unreadable or rows_are_left):
        state.delete()


def _sort(options: RunOptions, target: Path, state: RunState, console: Console) -> None:
    on_stdout = options.output_format == "table" and options.output is None
    shown_on = console if on_stdout else Console(stderr=True)
    report = sort_files(
        state.rows(),
        target,
        options.move,
        options.dry_run,
        on_step=lambda line: shown_on.print(line, highlight=False, soft_wrap=True, markup=False),
        on_move=state.moving,
    )
    print_sorted(report, options.dry_run, shown_on)
