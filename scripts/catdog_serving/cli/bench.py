"""catdog bench."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from catdog_serving.cli.options import ConfigOption, ImagesOption, console, progress


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
    from catdog_serving.atomic_write import atomic_write
    from catdog_serving.bench import bench_report
    from catdog_serving.bench.bench import FULL, QUICK, run_bench
    from catdog_serving.bench.bench_archives import Subject, bench_files, default_cache
    from catdog_serving.bench.bench_images import bench_images
    from catdog_serving.bench.chart import check_matplotlib, write_chart
    from catdog_serving.torchserve.serving_config import ServingConfig

    check_matplotlib()  # before the half hour, not after it
    serving = ServingConfig.read(config)
    encoded = bench_images(images)
    subject = Subject("resnet152", "seeded", config.parent / "model-config.yaml")
    with progress() as on_step:
        files = bench_files(subject, default_cache(), on_step)
        result = run_bench(serving, subject, files, encoded, QUICK if quick else FULL, on_step)
    # A folder's name and not its path, as the JSON is made to be shown to others.
    images_from = images.resolve().name if images else "samples"
    report = bench_report.to_dict(result) | {"images_from": images_from}
    line = bench_report.to_json_line(report)
    if output:
        atomic_write(output, [line.encode(), b"\n"])
    image = chart or (output.with_suffix(".png") if output else Path("bench.png"))
    write_chart(report, image)
    console.print(bench_report.table(report))
    for text in (*bench_report.summary_lines(report), f"chart  {image}"):
        console.print(text, highlight=False, soft_wrap=True)
    sys.stdout.write(f"{line}\n")
