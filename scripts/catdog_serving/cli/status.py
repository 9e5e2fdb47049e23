"""catdog status."""

from typing import Annotated

import typer

from catdog_serving.cli.options import ConfigOption, console
from catdog_serving.errors import NotReadyError, UsageError


def status(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    live: Annotated[
        bool, typer.Option("--watch", help="Rates, times, queue and memory, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.5, metavar="SECONDS", help="Between two snapshots of --watch.")
    ] = 2.0,
) -> None:
    """Show models, versions, workers and queue; exit 0 only when a worker is READY."""
    from catdog_serving.monitoring.status import print_status
    from catdog_serving.torchserve.server import TorchServe
    from catdog_serving.torchserve.serving_config import ServingConfig

    server = TorchServe(ServingConfig.read(config))
    if live:
        if as_json:
            raise UsageError("choose one of --json and --watch")
        from catdog_serving.monitoring.watch import watch

        watch(server, console, interval)
        return
    found = server.status()
    if as_json:
        console.print_json(data=found.to_dict())
    else:
        print_status(found, console)
    if not found.is_ready:
        why = f"; the last one failed: {found.failure}" if found.failure else ""
        raise NotReadyError(f"no worker is READY{why}")
