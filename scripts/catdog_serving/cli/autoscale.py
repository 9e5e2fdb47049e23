"""catdog autoscale."""

from functools import partial
from typing import Annotated

import typer

from catdog_serving.cli.options import ConfigOption, console, exit_on_sigterm
from catdog_serving.rollout.autoscale_settings import PolicySettings


def autoscale(
    config: ConfigOption,
    low: Annotated[int, typer.Option("--min", min=1, metavar="A", help="Never fewer workers.")],
    high: Annotated[int, typer.Option("--max", min=1, metavar="B", help="Never more workers.")],
    interval: Annotated[
        float, typer.Option(min=0.5, metavar="SECONDS", help="Between two snapshots.")
    ] = 2.0,
    max_wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="A mean wait that is too long: more workers."),
    ] = PolicySettings.up_queue_s,
    calm: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Low load lasts so long before one worker goes."),
    ] = PolicySettings.down_window_s,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, but change nothing.")] = False,
) -> None:
    """Keep the number of workers between A and B as the load needs; until Ctrl-C."""
    from catdog_serving.rollout.autoscale import autoscale
    from catdog_serving.rollout.autoscale_policy import Policy
    from catdog_serving.rollout.scale import scale
    from catdog_serving.torchserve.server import TorchServe
    from catdog_serving.torchserve.serving_config import ServingConfig

    exit_on_sigterm(0)
    settings = PolicySettings(
        low, high, up_queue_s=max_wait, down_queue_s=max_wait / 5, down_window_s=calm
    )
    server = TorchServe(ServingConfig.read(config))
    console.print(
        f"autoscale {low} to {high} workers, a snapshot every {interval:g} s; Ctrl-C ends it and "
        f"leaves the workers{'; dry run' if dry_run else ''}",
        highlight=False,
        soft_wrap=True,
    )
    autoscale(
        server,
        Policy(settings),
        partial(scale, server),
        lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
        interval_s=interval,
        dry_run=dry_run,
    )
