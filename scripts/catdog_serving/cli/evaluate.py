"""catdog evaluate."""

import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from catdog.results import ModelId
from catdog_serving.cli.backends import open_backend
from catdog_serving.cli.options import (
    ArchiveOption,
    BackendName,
    BackendOption,
    ConfigOption,
    ExcludeOption,
    JobsOption,
    TokenOption,
    UrlOption,
    console,
    errors,
    files_of_server,
    print_line,
)
from catdog_serving.cli.progress import FolderProgress
from catdog_serving.evaluation.evaluation import LABELS, Evaluation, evaluate_folder
from catdog_serving.evaluation.labelled_files import (
    LabelledFolder,
    LabelledResult,
    rows_format,
    write_rows,
)
from catdog_serving.evaluation.metrics import Share
from catdog_serving.evaluation.plots import check_matplotlib, draw_plots
from catdog_serving.find_images import check_not_read, find_sources
from catdog_serving.folder.image_result import FolderReport
from catdog_serving.folder.outputs import check_page_suffix, written_lines
from catdog_serving.folder.own_outputs import check_own
from catdog_serving.printable import printable
from catdog_serving.reports.evaluation_report import write_evaluation_report

_UNBOUNDED_WIDTH = 10_000  # for pipes: rows are never cut or folded there


class EvaluationFormat(StrEnum):
    table = "table"
    json = "json"


def evaluate(
    config: ConfigOption,
    directory: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Holds cats/ and dogs/, and perhaps neither/.")
    ],
    backend: BackendOption = BackendName.http,
    archive: ArchiveOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    jobs: JobsOption = None,
    exclude: ExcludeOption = None,
    output_format: Annotated[
        EvaluationFormat, typer.Option("--format", help="Of what is shown.")
    ] = EvaluationFormat.table,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a row per image: .csv, .json or .jsonl."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML page with plots and the worst mistakes."),
    ] = None,
) -> None:
    """Measure accuracy on images whose class is known by their folder."""
    everything = find_sources([directory])
    written = [path for path in (output, report) if path]
    if output:
        rows_format(output)
    if written:
        check_not_read(written, everything, files_of_server(config, archive))
    for path in written:
        check_own(path)
    if report:
        check_page_suffix(report)
        check_matplotlib()
    labelled = LabelledFolder.find(directory, exclude or ())
    if labelled.failed:
        print_line(f"{labelled.failed} is passed over: it has no class", errors)
    sources = list(labelled.sources.values())
    with (
        open_backend(backend.value, config, archive, url, jobs, token=token) as opened,
        FolderProgress(sources, errors) as progress,
    ):
        rows: list[LabelledResult] = []
        keep = {"on_row": rows.append} if output else {}
        since = time.perf_counter()
        evaluation = evaluate_folder(directory, opened, progress.add, exclude or (), **keep)
        seconds = time.perf_counter() - since
        model = opened.model
    if output:
        summary = FolderReport(str(directory), skipped=evaluation.skipped, seconds=seconds)
        _write_rows(output, rows, summary, model)
    if report:
        write_evaluation_report(report, evaluation.to_dict(), draw_plots(evaluation))
    if output_format is EvaluationFormat.json:
        console.print_json(data=evaluation.to_dict(), ensure_ascii=True)
    else:
        print_evaluation(evaluation, console)
    if evaluation.failures:
        raise typer.Exit(1)


def _write_rows(
    output: Path, rows: Sequence[LabelledResult], summary: FolderReport, model: ModelId
) -> None:
    """Write the rows, and say what stands in them; `summary` is yet to count them."""
    for row in rows:
        summary.add(row)
    write_rows(output, rows, summary, model)
    for line in written_lines([output], [summary]):
        print_line(line, errors)


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Show a person all but the plots."""
    if not console.is_terminal:
        console.width = _UNBOUNDED_WIDTH
    if evaluation.folder is not None:
        print_line(f"{evaluation.folder}: {evaluation.files} files", console)
    console.print(_figures(evaluation))
    if evaluation.three_way:
        console.print("\nthe line for model-config.yaml, section handler")
        print_line(f"  {evaluation.three_way.best.setting}", console)
    console.print()
    console.print(_confusion_table(evaluation))
    if evaluation.mistakes:
        console.print("\nworst mistakes, by the number of the wrong animal")
    for sample in evaluation.mistakes:
        print_line(
            f"  {sample.wrong_mass:.4f}  {sample.truth} taken for {sample.taken_for}  "
            f"{printable(str(sample.path))}",
            console,
        )
    if evaluation.failures:
        console.print(f"\n{len(evaluation.failures)} failed and are no part of any accuracy")
    for failure in evaluation.failures:
        print_line(f"  {printable(str(failure.path))}: {failure.error.message}", console)
    if evaluation.skipped:
        console.print(f"\n{evaluation.skipped} other files skipped")
    if evaluation.model:
        console.print()
        print_line(f"model: {evaluation.model}, version {evaluation.version}", console)


def _figures(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    table.add_row("two-way accuracy", *_share_cells(evaluation.two_way))
    table.add_row("  cats", *_share_cells(evaluation.cats))
    table.add_row("  dogs", *_share_cells(evaluation.dogs))
    if evaluation.three_way:
        best = evaluation.three_way.best
        table.add_row("three-way accuracy", *_share_cells(evaluation.three_way.right))
        where = f"above {best.low:.4f} to {best.high:.4f}: three-way {best.right.value:.4f}"
        table.add_row("best presence_threshold", f"{best.threshold:.4f}", where)
        table.add_row("", "", "chosen on these images; others do worse")
    table.add_row("ROC AUC, cat against dog", _number(evaluation.roc_auc), "by cat - dog")
    table.add_row(
        "calibration error",
        _number(evaluation.calibration_error),
        f"{len(evaluation.calibration)} bins of max(cat, dog) / (cat + dog)",
    )
    return table


def _share_cells(share: Share) -> tuple[str, str]:
    low, high = share.interval
    count = f"{share.count} of {share.total}"
    return _number(share.value), f"{count}; 95 % interval {low:.4f} to {high:.4f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _confusion_table(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("truth", *LABELS, "mean cat", "mean dog", "mean other"):
        table.add_column(heading, justify="left" if heading == "truth" else "right")
    for truth, counts in evaluation.confusion.items():
        masses = evaluation.mean_masses.get(truth, {})
        table.add_row(
            truth,
            *(str(counts[label]) for label in LABELS),
            *(_number(masses.get(kind)) for kind in ("cat", "dog", "other")),
        )
    return table
