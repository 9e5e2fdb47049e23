"""catdog classify."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from catdog_serving.cli.options import (
    AddressOption,
    ArchiveOption,
    ConfigOption,
    FolderBackendName,
    FolderBackendOption,
    JobsOption,
    UrlOption,
    console,
    exit_on_sigterm,
    files_of_server,
    open_backend,
)
from catdog_serving.errors import UsageError

if TYPE_CHECKING:
    from catdog.results import ModelId
    from catdog_serving.folder.image_files import FolderReport, ImageResult


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
        typer.Argument(metavar="PATH...", help="Images and folders; with ray also s3:// etc."),
    ],
    backend: FolderBackendOption = FolderBackendName.http,
    archive: ArchiveOption = None,
    url: UrlOption = None,
    address: AddressOption = None,
    jobs: JobsOption = None,
    glob: Annotated[
        list[str] | None,
        typer.Option(help="Only files that match, such as '*.jpg'; may be repeated."),
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by the suffix of --output, else a table."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the results here; the run's state is OUTPUT.catdog until then."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML page with all images.")] = None,
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
        Path | None, typer.Option(help="Copy the images into cat/, dog/, neither/, failed/ here.")
    ] = None,
    move_to: Annotated[Path | None, typer.Option(help="Move them instead.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what --copy-to or --move-to would do.")
    ] = False,
) -> None:
    """Classify images and folders: cat, dog or neither, the breed, and the means."""
    from catdog_serving.find_files import Shard
    from catdog_serving.folder.process_folder import run_classify
    from catdog_serving.folder.run_options import RunOptions
    from catdog_serving.remote_path import parse_path

    if copy_to and move_to:
        raise UsageError("choose one of --copy-to and --move-to")
    on_ray = backend is FolderBackendName.ray
    if address and not on_ray:
        raise UsageError("--address goes with --backend ray")
    options = RunOptions(
        paths=tuple(map(parse_path, paths)),
        patterns=tuple(glob or ()),
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
        remote=on_ray,
        also_read=files_of_server(config, archive),
    )
    with_maps = report is not None  # to show them in it
    with open_backend(backend.value, config, archive, url, jobs, with_maps, address) as opened:
        exit_on_sigterm()  # so that it leaves one file, and no process of Ray's
        reports = run_classify(options, opened, console, _write_report)
    if any(one.failed for one in reports):
        raise typer.Exit(1)


def _write_report(
    target: Path,
    rows: Iterator["ImageResult"],
    reports: Sequence["FolderReport"],
    model: "ModelId",
) -> None:
    from catdog_serving.reports.folder_report import write_folder_report

    # Thumbnails and links are of where an image lies now.
    values = (row.to_dict() | {"path": str(row.file.moved_to or row.path)} for row in rows)
    write_folder_report(target, values, [one.to_dict() for one in reports], model.to_dict())
