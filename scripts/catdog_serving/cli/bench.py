"""catdog bench."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from catdog.read_settings import SETTINGS_FILE, Settings
from catdog_serving.bench import bench_report
from catdog_serving.bench.bench import FULL, QUICK, Bench
from catdog_serving.bench.bench_files import (
    Subject,
    bench_files,
    default_cache,
    read_images,
    sample_crops,
)
from catdog_serving.cli.options import (
    ConfigOption,
    ImagesOption,
    console,
    files_of_server,
    print_line,
    progress,
)
from catdog_serving.evaluation.plots import check_matplotlib
from catdog_serving.find_images import ImageFiles, check_not_read
from catdog_serving.folder.own_outputs import check_own, write_own
from catdog_serving.torchserve.serving_config import ServingConfig


def bench(
    config: ConfigOption,
    quick: Annotated[bool, typer.Option("--quick", help="Under 3 minutes, wider spreads.")] = False,
    images: ImagesOption = None,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here as well.")] = None,
    chart: Annotated[
        Path | None,
        typer.Option(help="Write the chart here (default: beside --output, else bench.png)."),
    ] = None,
) -> None:
    """Measure this machine against the reference loop; the last line is JSON."""
    check_matplotlib()  # before the half hour, not after it
    serving = ServingConfig.read(config)
    subject = Subject("resnet152", "seeded", config.parent / SETTINGS_FILE)
    chart = chart or (output.with_suffix(".png") if output else Path("bench.png"))
    written = [path for path in (output, chart) if path]
    sources = [ImageFiles(images)] if images else []
    check_not_read(written, sources, (*files_of_server(config, None), subject.settings))
    for path in written:
        check_own(path)
    limits = Settings.read(subject.settings).limits
    encoded = read_images(images, limits) if images else sample_crops()
    with progress() as on_step:
        files = bench_files(subject, default_cache(), on_step)
        plan = QUICK if quick else FULL
        result = Bench(serving, subject, files, encoded, plan).run(on_step)
    # A folder's name and not its path, as the JSON is made to be shown to others.
    images_from = images.resolve().name if images else "samples"
    report = bench_report.to_dict(result) | {"images_from": images_from}
    line = bench_report.to_json_line(report)
    if output:
        write_own(output, [line.encode(), b"\n"])
    bench_report.write_chart(report, chart)
    console.print(bench_report.table(report))
    for text in (*bench_report.summary_lines(report), f"chart  {chart}"):
        print_line(text)
    sys.stdout.write(f"{line}\n")
