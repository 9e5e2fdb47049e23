"""catdog classify."""

import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from catdog.results import ModelId
from catdog_serving.cli import exit_on
from catdog_serving.cli.backends import open_backend
from catdog_serving.cli.options import (
    AddressOption,
    ArchiveOption,
    BomOption,
    ConfigOption,
    ExcludeOption,
    FolderBackendName,
    FolderBackendOption,
    JobsOption,
    TokenOption,
    UrlOption,
    beside_results,
    console,
    errors,
    files_of_server,
    print_line,
)
from catdog_serving.cli.progress import FolderProgress, show_table
from catdog_serving.errors import CatDogError, ServerError, UsageError
from catdog_serving.find_images import ImageFiles, Shard
from catdog_serving.folder import outputs
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import FolderReport, ImageFailure, ImageResult
from catdog_serving.folder.outputs import is_stream
from catdog_serving.folder.process_folder import check_any, process_sources
from catdog_serving.folder.run_options import RunOptions
from catdog_serving.folder.run_state import RunState
from catdog_serving.folder.sort_files import sort_files, sorted_lines
from catdog_serving.remote_path import parse_path
from catdog_serving.reports.folder_report import write_folder_report


class Format(StrEnum):
    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


def classify(
    config: ConfigOption,
    paths: Annotated[
        list[str],  # pathlib would make one slash of the two of s3://
        typer.Argument(metavar="PATH", help="Images and folders; with ray also s3:// etc."),
    ],
    backend: FolderBackendOption = FolderBackendName.http,
    archive: ArchiveOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    address: AddressOption = None,
    jobs: JobsOption = None,
    glob: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Only files that match, such as '*.jpg'; may be repeated."
        ),
    ] = None,
    exclude: ExcludeOption = None,
    output_format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="table, json, jsonl, csv or parquet (default: by the suffix of --output, else "
            "table).",
        ),
    ] = None,
    bom: BomOption = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the results here; the run's state is OUTPUT.catdog until then.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML page with all images.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run stopped.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an earlier run did.")
    ] = False,
    keep_state: Annotated[
        bool, typer.Option("--keep-state", help="Leave OUTPUT.catdog at the end; see merge.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only part I of N, I from 0; see merge.")
    ] = None,
    copy_to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Copy the images into cat/, dog/, neither/, failed/ here."
        ),
    ] = None,
    move_to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Move them instead.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what --copy-to or --move-to would do.")
    ] = False,
) -> None:
    """Classify images and folders: cat, dog or neither, the breed, and the means."""
    if copy_to and move_to:
        raise UsageError("choose one of --copy-to and --move-to")
    on_ray = backend is FolderBackendName.ray
    if address and not on_ray:
        raise UsageError("--address goes with --backend ray")
    options = RunOptions(
        paths=tuple(map(parse_path, paths)),
        patterns=tuple(glob or ()),
        exclude=tuple(exclude or ()),
        shard=Shard.parse(shard) if shard else None,
        format=output_format,
        output=output,
        report=report,
        resume=resume,
        restart=restart,
        keep_state=keep_state,
        sort_into=copy_to or move_to,
        move=move_to is not None,
        dry_run=dry_run,
        bom=bom,
        remote=on_ray,
        also_read=files_of_server(config, archive),
    )
    with_maps = report is not None  # to show them in it
    with open_backend(
        backend.value, config, archive, url, jobs, with_maps, address, token
    ) as opened:
        exit_on(signal.SIGTERM)  # again: Ray takes it for itself
        reports = run_classify(options, opened, url if backend is FolderBackendName.http else None)
    if any(one.failed for one in reports):
        raise typer.Exit(1)


def run_classify(
    options: RunOptions, backend: Backend, at: str | None = None
) -> list[FolderReport]:
    """Classify, and write what was asked for.

    Args:
        options: What to do.
        backend: Where to classify.
        at: The server's address, to name it; None: the configuration's.

    Returns:
        A report for each folder, and one for all files named by themselves.
    """
    to_classify, to_count = options.sources(), options.sources()
    is_first = options.state is not None and not options.state.exists()
    if options.restart or is_first:  # before anything is thrown away, or made
        check_any(options.sources())
    with ExitStack() as stack:
        state = _open_state(options, backend.model)
        if state is not None:
            stack.enter_context(state)
        progress = FolderProgress(to_count)
        reports: list[FolderReport] | None = None
        try:
            with progress:
                show = _live_output(options, backend.model, progress)

                def on_row(row: ImageResult, reused: bool = False) -> None:
                    show(row)
                    progress.add(isinstance(row.outcome, ImageFailure), reused)

                on_reused = partial(on_row, reused=True)
                reports = process_sources(to_classify, backend, on_row, state, on_reused)
            stays = state is None or _end_run(options, backend.model, state, reports, to_classify)
        except BaseException as error:
            _say_interrupted(error, options, state, progress.done > 0, reports is not None)
            raise
        if state is not None and not stays:
            state.delete()
    _say_written(options, reports)
    if options.output_format == "table" and options.output is None:
        for line in outputs.summary_lines(reports, backend.model, at):
            print_line(line)
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
    options: RunOptions, model: ModelId, progress: FolderProgress
) -> Callable[[ImageResult], object]:
    """What shows each row as soon as it is there."""
    if options.output is not None or options.output_format in ("json", "csv"):
        return lambda row: None
    if options.output_format == "jsonl":
        _write_line(outputs.first_line(model))
        return lambda row: _write_line(outputs.to_line(row))
    show = progress.print if console.is_terminal else print
    return show_table(show, outputs.table_header(), outputs.table_row)


def _write_line(line: bytes) -> None:
    """Write a line that a reader has at once."""
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _say_written(options: RunOptions, reports: Sequence[FolderReport]) -> None:
    """Say where the results are, and what they are: they are seen nowhere else."""
    written = [path for path in (options.output, options.report) if path is not None]
    if written:
        for line in outputs.written_lines(written, reports):
            print_line(line, errors)


def _say_interrupted(
    error: BaseException, options: RunOptions, state: RunState | None, begun: bool, ended: bool
) -> None:
    """Say how to go on, and what the state holds; it may be more than what was counted.

    What was refused before it had begun does not go on, and a state without rows stays in
    nobody's way.
    """
    is_lost = isinstance(error, KeyboardInterrupt | SystemExit | ServerError)
    said = "interrupted" if is_lost else ""
    if state is not None and state.path is not None:
        with suppress(CatDogError):  # it cannot be read, which is the error that is shown
            if not (count := state.count()):
                state.delete()
            elif is_lost or begun:
                said = (
                    f"interrupted; {count} files are in {state.path}; "
                    "to go on: the same command with --resume"
                )
    elif is_lost and options.sort_into is not None:
        done = "moved" if options.move else "copied"
        said += (
            f"; what was {done} stays, and the same command goes on"
            if ended and not options.dry_run
            else f"; nothing was {done}; with --output FILE a run can be resumed"
        )
    if said:
        print_line(said, errors)


def _end_run(
    options: RunOptions,
    model: ModelId,
    state: RunState,
    reports: Sequence[FolderReport],
    sources: Sequence[ImageFiles],
) -> bool:
    """Write everything that is made from the finished state.

    Returns:
        Whether the state is still needed.
    """
    left = state.drop_gone(source.root for source in sources if source.is_walked)
    state.finish()
    if options.output is not None:
        outputs.write_output(
            options.output, options.output_format, state.rows(), reports, model, options.bom
        )
    elif options.output_format in ("json", "csv"):
        rendered = outputs.render(options.output_format, state.rows(), reports, model, options.bom)
        sys.stdout.buffer.writelines(rendered)
    if options.sort_into is not None:
        _sort(options, options.sort_into, state)
    if options.report is not None:  # its thumbnails and links are of where an image lies by now
        folders = [report.to_dict() for report in reports]
        write_folder_report(options.report, state.rows(), folders, model.to_dict())
    unreadable = sum(report.unreadable for report in reports)
    if unreadable and state.path is not None and not options.keep_state:
        print_line(
            f"{unreadable} files could not be read; {state.path} stays, and --resume tries them "
            "again",
            errors,
        )
    if left:
        print_line(
            f"{left} rows of files that were not found stay in {state.path}; --resume looks "
            "for them again, or --restart forgets them",
            errors,
        )
    return bool(options.keep_state or options.dry_run or unreadable or left)


def _sort(options: RunOptions, target: Path, state: RunState) -> None:
    on_stdout = options.output_format == "table" and options.output is None
    if options.dry_run:  # the plan is its result
        is_free = options.output is not None and not is_stream(options.output)
        shown_on = console if on_stdout or is_free else beside_results
    else:
        shown_on = console if on_stdout else errors
    report = sort_files(
        state.rows(),
        target,
        options.move,
        options.dry_run,
        on_step=lambda line: print_line(line, shown_on),
        on_move=state.moving,
        on_stay=state.stays,
        again=f"the same command{' with --resume' if state.path else ''}",
    )
    for line in sorted_lines(report, target, options.dry_run):
        print_line(line, shown_on)
    if options.dry_run and state.path is not None:  # which stays, and refuses the same command
        replaced = "--restart and --dry-run" if options.restart else "--dry-run"
        how = "without" if options.resume else "with --resume instead of"
        print_line(f"to do it: the same {how} {replaced}", shown_on)
