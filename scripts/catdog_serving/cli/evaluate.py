"""catdog evaluate."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from catdog_serving.cli.options import (
    ArchiveOption,
    BackendName,
    BackendOption,
    ConfigOption,
    JobsOption,
    UrlOption,
    console,
    files_of_server,
)


class EvaluationFormat(StrEnum):
    table = "table"
    json = "json"


def evaluate(
    config: ConfigOption,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds cats/ and dogs/, and perhaps neither/.")
    ],
    backend: BackendOption = BackendName.http,
    archive: ArchiveOption = None,
    url: UrlOption = None,
    jobs: JobsOption = None,
    output_format: Annotated[EvaluationFormat, typer.Option("--format")] = EvaluationFormat.table,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with plots and the worst mistakes.")
    ] = None,
) -> None:
    """Measure accuracy on images whose class is known by their folder."""
    from catdog_serving.evaluation.evaluate_folder import evaluate_folder, print_evaluation
    from catdog_serving.folder.find_files import check_not_read, find_sources
    from catdog_serving.folder.open_backend import open_backend
    from catdog_serving.folder.progress import FolderProgress
    from catdog_serving.reports.evaluation_report import write_evaluation_report

    sources = find_sources([directory])
    if report:
        check_not_read([report], sources, files_of_server(config, archive))
    errors = Console(stderr=True)
    with (
        open_backend(backend.value, config, archive, url, jobs) as opened,
        FolderProgress(sources, errors) as progress,
    ):
        evaluation = evaluate_folder(directory, opened, progress.add)
    if report:
        write_evaluation_report(report, evaluation)
    if output_format is EvaluationFormat.json:
        console.print_json(data=evaluation.to_dict(), ensure_ascii=True)
    else:
        print_evaluation(evaluation, console)
    if evaluation.failures:
        raise typer.Exit(1)
