"""catdog bench and tune."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from catdog_serving.commands.options import ConfigOption, console, exit_on_sigterm
from catdog_serving.errors import RefusedError, UsageError

PicturesOption = Annotated[
    Path | None,
    typer.Option("--pictures", metavar="DIR", help="Yours (default: crops of the samples)."),
]


def bench(
    config: ConfigOption,
    quick: Annotated[bool, typer.Option("--quick", help="Under 3 minutes, wider spreads.")] = False,
    pictures: PicturesOption = None,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here as well.")] = None,
    chart: Annotated[
        Path | None,
        typer.Option(help="Write the chart here (default: beside --output, else bench.png)."),
    ] = None,
) -> None:
    """Measure this machine against the reference loop; the last line is JSON."""
    from catdog_serving.bench import bench_report
    from catdog_serving.bench.bench import FULL, QUICK, run_bench
    from catdog_serving.bench.bench_archives import Subject, bench_files, default_cache
    from catdog_serving.bench.bench_pictures import bench_pictures
    from catdog_serving.bench.chart import check_matplotlib, write_chart
    from catdog_serving.torchserve.serving_config import ServingConfig
    from catdog_serving.whole_file import write_whole

    check_matplotlib()  # before the half hour, not after it
    serving = ServingConfig.read(config)
    encoded = bench_pictures(pictures)
    subject = Subject("resnet152", "seeded", config.parent / "model-config.yaml")
    with _progress() as tell:
        files = bench_files(subject, default_cache(), tell)
        result = run_bench(serving, subject, files, encoded, QUICK if quick else FULL, tell)
    # A folder's name and not its path, as the JSON is made to be shown to others.
    pictures_from = pictures.resolve().name if pictures else "samples"
    report = bench_report.to_dict(result) | {"pictures_from": pictures_from}
    line = bench_report.to_json_line(report)
    if output:
        write_whole(output, [line.encode(), b"\n"])
    picture = chart or (output.with_suffix(".png") if output else Path("bench.png"))
    write_chart(report, picture)
    console.print(bench_report.table(report))
    for text in (*bench_report.summary_lines(report), f"chart  {picture}"):
        console.print(text, highlight=False, soft_wrap=True)
    sys.stdout.write(f"{line}\n")


class GoalName(StrEnum):
    throughput = "throughput"


def tune(
    config: ConfigOption,
    goal: Annotated[
        GoalName | None, typer.Option(help="The most images per second; the default.")
    ] = None,
    p99_ms: Annotated[
        float | None,
        typer.Option(min=1, help="The most of those whose p99, at 80 % of it, is below this."),
    ] = None,
    pictures: PicturesOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, but write nothing.")] = False,
) -> None:
    """Try workers, batch size and batch delay; write the best into config.properties."""
    from catdog_serving.bench.bench_pictures import bench_pictures
    from catdog_serving.bench.tune import candidates, check_ready, tune
    from catdog_serving.bench.tune_report import tune_table, verdict
    from catdog_serving.bench.tune_settings import Goal
    from catdog_serving.torchserve.batching import write_batching
    from catdog_serving.torchserve.serving_config import ServingConfig

    if goal and p99_ms:
        raise UsageError("choose one of --goal throughput and --p99-ms")
    serving = ServingConfig.read(config)
    check_ready(serving)
    encoded = bench_pictures(pictures)
    with _progress() as tell:
        tuned = tune(serving, candidates(serving), encoded, Goal(p99_ms), tell=tell)
    console.print(tune_table(tuned))
    if tuned.chosen is None:
        raise RefusedError(verdict(tuned, Goal(p99_ms)))
    console.print(verdict(tuned, Goal(p99_ms)), highlight=False, soft_wrap=True)
    if tuned.chosen.batching == tuned.current:
        return
    if dry_run:
        console.print("not written, as --dry-run says")
        return
    write_batching(serving.path, tuned.chosen.batching)
    console.print(
        f"written to {serving.path}; it is in force from the next: catdog serve",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Say what is going on, on standard error; a server started meanwhile never outlives us."""
    exit_on_sigterm()
    errors = Console(stderr=True)
    with errors.status("starting") as status:

        def tell(line: str) -> None:
            if errors.is_terminal:
                status.update(line)
            else:
                errors.print(line, highlight=False, soft_wrap=True)

        yield tell
