"""catdog tune."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from catdog.cpu import ENGINE_VARIABLE
from catdog.read_settings import SETTINGS_FILE, Settings
from catdog_serving.bench.bench_files import read_images, sample_crops
from catdog_serving.bench.candidates import candidates
from catdog_serving.bench.cpu_engines import choose_engine
from catdog_serving.bench.tune import check_ready, requests_under_way, tune_table, verdict
from catdog_serving.bench.tune import tune as run_tune
from catdog_serving.cli.backends import wished_engine
from catdog_serving.cli.options import ConfigOption, ImagesOption, console, print_line, progress
from catdog_serving.config_folder import is_shipped
from catdog_serving.errors import RefusedError, UsageError
from catdog_serving.model_archive import open_archive
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.worker_settings import write_worker_settings


class GoalName(StrEnum):
    throughput = "throughput"


def tune(
    config: ConfigOption,
    goal: Annotated[
        GoalName | None, typer.Option(help="The most images per second; the default.")
    ] = None,
    p99_ms: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="MILLISECONDS",
            help="The most of those whose p99, at 80 % of it, is below this.",
        ),
    ] = None,
    images: ImagesOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, but write nothing.")] = False,
) -> None:
    """Try engines, workers, batches and delays; write the best into config.properties."""
    if goal and p99_ms:
        raise UsageError("choose one of --goal throughput and --p99-ms")
    serving = ServingConfig.read(config)
    if is_shipped(serving.path) and not dry_run:
        raise RefusedError(
            f"{serving.path} is catdog's own; write one to edit, and run this there: catdog init"
        )
    check_ready(serving)
    encoded = sample_crops()
    with open_archive(serving.archive) as model_dir:
        if images:
            encoded = read_images(images, Settings.read(model_dir / SETTINGS_FILE).limits)
        if not wished_engine():
            _choose_engine(model_dir)
    with progress() as on_step:
        tuned = run_tune(serving, candidates(serving), encoded, p99_ms, on_step=on_step)
    console.print(tune_table(tuned))
    if tuned.chosen is None:
        raise RefusedError(verdict(tuned))
    print_line(verdict(tuned))
    if tuned.chosen.worker_settings == tuned.current:
        return
    if dry_run:
        console.print("not written, as --dry-run says")
        return
    chosen, gpus = tuned.chosen.worker_settings, len(serving.gpus)
    write_worker_settings(serving.path, chosen, gpus)
    if gpus and (most := requests_under_way(chosen)) > serving.job_queue_size:
        print_line(
            f"measured with {most} requests under way and room for them; job_queue_size is "
            f"{serving.job_queue_size}: raise it to {most}, and -Xmx with it if uploads are large"
        )
    print_line(f"written to {serving.path}; it is in force from the next: catdog serve")


def _choose_engine(model_dir: Path) -> None:
    """Measure the engines, show them, and let the servers that are tried compute by the fastest."""
    with progress() as on_step:
        on_step("comparing the engines")
        choice = choose_engine(model_dir)
    if choice:
        console.print(choice.table())
        print_line(choice.line)
        os.environ[ENGINE_VARIABLE] = choice.chosen
