"""catdog status."""

from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from catdog_serving.cli.options import ConfigOption, configured_server, console, print_line
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.monitoring.status import ServerStatus, read_status, take_snapshots
from catdog_serving.monitoring.watch import line, screen
from catdog_serving.torchserve.server import TorchServe


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
    server = configured_server(config)
    if live:
        if as_json:
            raise UsageError("choose one of --json and --watch")
        _watch(server, interval)
        return
    found = read_status(server)
    if as_json:
        console.print_json(data=found.to_dict())
    else:
        print_status(found, console)
    if not found.is_ready:
        why = f"; the last one failed: {found.failure}" if found.failure else ""
        raise NotReadyError(f"no worker is READY{why}")


def print_status(status: ServerStatus, console: Console) -> None:
    """The model, then a row per version."""
    print_line(f"address  {status.url}", console)
    print_line(f"model    {status.model_line}", console)
    if status.agreement:
        print_line(f"int8     {status.agreement}", console)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("version", "workers", "batch", "max delay", "queued", "queue free"):
        table.add_column(column, justify="left" if column == "version" else "right")
    for model in status.models:
        table.add_row(
            Text(f"{model.version}{' (default)' if model.default else ''}"),
            f"{model.ready_workers} of {len(model.workers)} READY",
            str(model.batch_size),
            f"{model.max_batch_delay_ms} ms",
            str(model.pending_requests),
            str(model.queue_free),
        )
    console.print(table)


def _watch(server: TorchServe, interval_s: float) -> None:
    """Show a snapshot every `interval_s` seconds until Ctrl-C: a screen, or lines for a file."""
    snapshots = take_snapshots(server, interval_s)
    try:
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                for snapshot in snapshots:
                    live.update(screen(snapshot), refresh=True)
        else:
            for snapshot in snapshots:
                print_line(line(snapshot))
    except KeyboardInterrupt:
        return  # how a watch ends
