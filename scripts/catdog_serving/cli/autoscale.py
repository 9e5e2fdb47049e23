"""catdog autoscale."""

import signal
from functools import partial
from typing import Annotated

import typer

from catdog_serving.cli import exit_on
from catdog_serving.cli.options import (
    ConfigOption,
    configured_server,
    print_line,
)
from catdog_serving.rollout.autoscale import DOWN_WINDOW_S, Autoscaler, AutoscaleSettings
from catdog_serving.rollout.autoscale import autoscale as keep_scaled
from catdog_serving.rollout.scale import scale
from catdog_serving.torchserve.server_locks import refuse_without_java


def autoscale(
    config: ConfigOption,
    low: Annotated[int, typer.Option("--min", min=1, metavar="A", help="Never fewer workers.")],
    high: Annotated[int, typer.Option("--max", min=1, metavar="B", help="Never more workers.")],
    interval: Annotated[
        float, typer.Option(min=0.5, metavar="SECONDS", help="Between two snapshots.")
    ] = 2.0,
    calm: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Low load lasts so long before workers go."),
    ] = DOWN_WINDOW_S,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, but change nothing.")] = False,
) -> None:
    """Keep the number of workers between A and B as the load needs; until Ctrl-C."""
    settings = AutoscaleSettings(low, high, down_window_s=calm)
    server = configured_server(config)
    refuse_without_java(server.run, "autoscale")
    exit_on(signal.SIGTERM, code=0)
    print_line(
        f"autoscale {low} to {high} workers, a snapshot every {interval:g} s; Ctrl-C ends it and "
        f"leaves the workers{'; dry run' if dry_run else ''}"
    )
    scaler = Autoscaler(settings, partial(scale, server), print_line, dry_run=dry_run)
    keep_scaled(server, scaler, interval)
