"""catdog classify from end to end: the journal, the progress, and every output."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from catdog.results import ModelId
from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import ServerError, UsageError
from catdog_serving.folder import outputs
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.find_files import (
    ImageFiles,
    Shard,
    check_not_read,
    check_outside,
    find_sources,
)
from catdog_serving.folder.journal import (
    Journal,
    count_rows,
    first_line,
    part_of,
    read_journal,
    to_line,
)
from catdog_serving.folder.parquet import check_parquet, write_parquet
from catdog_serving.folder.process_folder import FolderReport, process_sources
from catdog_serving.folder.progress import FolderProgress
from catdog_serving.folder.remote_path import AnyPath, RemotePath, local_path
from catdog_serving.folder.rows import Row
from catdog_serving.folder.sort_files import print_sorted, sort_files
from catdog_serving.reports.folder_report import write_folder_report


@dataclass(frozen=True)
class ClassifyRun:
    """What the command line asked for.

    Attributes:
        paths: Files and folders.
        patterns: `--glob`: take only files that match one.
        shard: Take only this part of the files.
        format: "table", "json", "jsonl", "csv" or "parquet".
        output: The file for the results; None for standard output.
        report: The HTML page to write.
        resume: Go on with the journal that is there.
        sort_into: Sort the images into this folder.
        move: Move them, not copy.
        dry_run: Only say how they would be sorted.
        remote: Whether the backend reads files that have a URI.
        also_read: Files besides the images that are read, and so never written.

    Raises:
        UsageError: If some of it does not go together.
        NotReadyError: If the format needs a package that is not installed.
    """

    paths: tuple[AnyPath, ...]
    patterns: tuple[str, ...] = ()
    shard: Shard | None = None
    format: str = "table"
    output: Path | None = None
    report: Path | None = None
    resume: bool = False
    sort_into: Path | None = None
    move: bool = False
    dry_run: bool = False
    remote: bool = False
    also_read: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.resume and self.journal is None:
            raise UsageError("--resume needs --output or --report: the journal lies beside it")
        if self.dry_run and self.sort_into is None:
            raise UsageError("--dry-run goes with --copy-to or --move-to")
        if self.format == "parquet":
            check_parquet(self.output)
        if any(isinstance(path, RemotePath) for path in self.paths):
            self._check_remote()
        if self.sort_into is not None:
            check_outside(self.sort_into, self.paths)
        self._check_outputs()

    def _check_remote(self) -> None:
        if not self.remote:
            raise UsageError("s3://, gs:// and file:// are read by --backend ray only")
        if self.report is not None or self.sort_into is not None:
            raise UsageError(
                "--report, --copy-to and --move-to need the images on this machine; leave "
                "them out, or name folders here"
            )

    def _check_outputs(self) -> None:
        """That what is written replaces nothing that is read, nor each other."""
        outputs = {path for path in (self.output, self.journal) if path is not None}
        if self.report is not None:
            if os.path.realpath(self.report) in map(os.path.realpath, outputs):
                raise UsageError(f"--report needs a name of its own; {self.report} is taken")
            outputs.add(self.report)
        if self.journal is not None:
            outputs.add(part_of(self.journal))
        here = (path for path in map(local_path, self.paths) if path is not None)
        sources = (ImageFiles(path, self.patterns) for path in here)
        check_not_read(outputs, sources, self.also_read)

    @property
    def journal(self) -> Path | None:
        """Where the journal lies: the JSON lines output itself, or beside the output."""
        if self.output is not None and self.format == "jsonl":
            return self.output
        beside = self.output or self.report
        return beside and beside.with_name(f"{beside.name}.journal.jsonl")


def run_classify(run: ClassifyRun, backend: Backend, console: Console) -> list[FolderReport]:
    """Classify, and write what was asked for.

    Args:
        run: What to do.
        backend: Where to classify.
        console: Standard output.

    Returns:
        A report for each folder, and one for all files named by themselves.
    """

    def sources() -> list[ImageFiles]:
        return find_sources(run.paths, run.patterns, run.shard)

    to_classify, to_count = sources(), sources()
    errors = Console(stderr=True)
    with ExitStack() as stack:
        journal_path = run.journal or _temporary_journal(run, stack)
        journal = (
            stack.enter_context(Journal(journal_path, backend.model, run.resume))
            if journal_path
            else None
        )
        with FolderProgress(to_count, console if console.is_terminal else errors) as progress:
            show = _live_output(run, backend.model, progress, console)

            def on_row(row: Row) -> None:
                if journal:
                    journal.write(row)
                show(row)
                progress.add("error" in row)

            try:
                old_rows = journal.old_rows() if journal else ()
                reports = process_sources(to_classify, backend, on_row, old_rows)
            except (KeyboardInterrupt, ServerError):  # not lost, if there is a journal
                if journal:
                    journal.close()
                _say_interrupted(run, errors)
                raise
        if journal:
            journal.finish()
            journal.close()
            _write_outputs(run, backend.model, journal.path, reports, console)
            if run.output is None:  # nobody asked for it; it was there for an interruption
                journal.path.unlink()
    if run.format == "table" and run.output is None:
        outputs.print_summary(reports, backend.model, console)
    return reports


def _temporary_journal(run: ClassifyRun, stack: ExitStack) -> Path | None:
    """A journal for what needs all rows at the end, when no file is named."""
    if run.format in ("table", "jsonl") and run.sort_into is None:
        return None
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="catdog-"))
    return Path(folder) / "journal.jsonl"


def _live_output(
    run: ClassifyRun, model: ModelId, progress: FolderProgress, console: Console
) -> Callable[[Row], object]:
    """What shows each row as soon as it is there."""
    if run.output is not None or run.format in ("json", "csv"):
        return lambda row: None
    if run.format == "jsonl":
        write = sys.stdout.buffer.write
        write(to_line(first_line(model)))
        return lambda row: write(to_line(row))
    if console.is_terminal:
        progress.print(outputs.table_header())
        return lambda row: progress.print(outputs.table_row(row))
    print(outputs.table_header())
    return lambda row: print(outputs.table_row(row))


def _say_interrupted(run: ClassifyRun, errors: Console) -> None:
    """Say what the journal holds: an interruption may come before its last row is counted."""
    kept = (
        f"; {count_rows(run.journal)} files are in {run.journal}; "
        "to go on: the same command with --resume"
        if run.journal
        else ""
    )
    errors.print(f"interrupted{kept}", highlight=False, soft_wrap=True, markup=False)


def _write_outputs(
    run: ClassifyRun,
    model: ModelId,
    journal: Path,
    reports: Sequence[FolderReport],
    console: Console,
) -> None:
    """Everything that is made from the finished journal."""

    def rows() -> Iterator[Row]:
        return read_journal(journal)[1]

    if run.output is None and run.format in ("json", "csv"):
        sys.stdout.buffer.writelines(outputs.render(run.format, rows(), reports, model))
    elif run.output is not None and run.format == "parquet":
        write_parquet(run.output, rows())
    elif run.output is not None and run.format != "jsonl":
        atomic_write(run.output, outputs.render(run.format, rows(), reports, model))
    if run.report is not None:  # before the images are moved: it holds thumbnails
        folders = [outputs.summary(report) for report in reports]
        write_folder_report(run.report, rows(), folders, model.to_dict())
    if run.sort_into is not None:
        to_stderr = Console(stderr=True) if run.format != "table" or run.output else console
        report = sort_files(
            rows(),
            run.sort_into,
            run.move,
            run.dry_run,
            lambda line: to_stderr.print(line, highlight=False, soft_wrap=True, markup=False),
        )
        print_sorted(report, run.dry_run, to_stderr)
