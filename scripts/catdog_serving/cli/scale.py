"""catdog scale."""

from typing import Annotated

import typer

from catdog_serving.cli.options import (
    ConfigOption,
    ReadyOption,
    configured_server,
    console,
    print_line,
)
from catdog_serving.rollout.scale import scale as scale_workers
from catdog_serving.torchserve.server import READY_TIMEOUT_S


def scale(
    workers: Annotated[int, typer.Argument(metavar="N", min=1, help="Workers, at least 1.")],
    config: ConfigOption,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Only ask for more workers; not for fewer.")
    ] = False,
    timeout_s: ReadyOption = READY_TIMEOUT_S,
) -> None:
    """Change the number of workers without a lost request, until the server stops."""
    server = configured_server(config)
    with console.status(f"scaling to {workers} ..."):
        done = scale_workers(server, workers, wait_s=timeout_s, wait=not no_wait)
    state = "asked for" if no_wait and done.workers > done.before else "READY"
    print_line(
        f"workers  {done.workers} {state}, before {done.before}; version {done.version}, "
        f"{done.seconds:.1f} s"
    )
