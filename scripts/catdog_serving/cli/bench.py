"""catdog bench."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from catdog.read_settings import Settings
from catdog_serving.bench import bench_report
from catdog_serving.bench.bench import FULL, QUICK, Bench, Plan
from catdog_serving.bench.bench_files import (
    Subject,
    bench_files,
    default_cache,
    gpu_archive,
    read_images,
    sample_crops,
)
from catdog_serving.bench.gpu_bench import check_gpu, figure_line, gpu_bench
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


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


def bench(
    config: ConfigOption,
    device: Annotated[
        Device, typer.Option(help="cuda: a torch archive on this machine's GPU, in 4 minutes.")
    ] = Device.cpu,
    quick: Annotated[bool, typer.Option("--quick", help="Under 3 minutes, wider spreads.")] = False,
    images: ImagesOption = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the JSON here as well.")
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the chart here (default: beside --output, else bench.png)."
        ),
    ] = None,
) -> None:
    """Measure this machine against the reference loop; the last line is JSON."""
    on_gpu = device is Device.cuda
    if on_gpu and (chart or quick):
        raise typer.BadParameter("--device cuda has neither --chart nor --quick")
    if on_gpu:
        check_gpu()
    else:
        check_matplotlib()  # before the half hour, not after it
        chart = chart or (output.with_suffix(".png") if output else Path("bench.png"))
    serving = ServingConfig.read(config)
    subject = Subject("resnet152", "seeded", serving.model_settings)
    written = [path for path in (output, chart) if path]
    sources = [ImageFiles(images)] if images else []
    check_not_read(written, sources, (*files_of_server(config, None), subject.settings))
    for path in written:
        check_own(path)
    limits = Settings.read(subject.settings).limits
    encoded = read_images(images, limits) if images else sample_crops()
    if on_gpu:
        report = _measure_gpu(serving, subject, encoded)
    else:
        report = _measure_cpu(serving, subject, encoded, QUICK if quick else FULL)
    # A folder's name and not its path, as the JSON is made to be shown to others.
    report["images_from"] = images.resolve().name if images else "samples"
    line = bench_report.to_json_line(report)
    if output:
        write_own(output, [line.encode(), b"\n"])
    if chart:
        bench_report.write_chart(report, chart)
        console.print(bench_report.table(report))
        for text in (*bench_report.summary_lines(report), f"chart  {chart}"):
            print_line(text)
    sys.stdout.write(f"{line}\n")


def _measure_cpu(
    serving: ServingConfig, subject: Subject, images: Sequence[bytes], plan: Plan
) -> dict[str, Any]:
    with progress() as on_step:
        files = bench_files(subject, default_cache(), on_step)
        result = Bench(serving, subject, files, images, plan).run(on_step)
    return bench_report.to_dict(result)


def _measure_gpu(
    serving: ServingConfig, subject: Subject, images: Sequence[bytes]
) -> dict[str, Any]:
    """Each figure is printed when it is there."""
    with progress() as on_step:
        archive = gpu_archive(subject, default_cache(), on_step)

    def show(name: str, **values: Any) -> None:
        print_line(figure_line(name, values))

    return gpu_bench(serving, archive, images, show)
