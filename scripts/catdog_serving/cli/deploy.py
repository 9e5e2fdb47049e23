"""catdog deploy."""

import os
from pathlib import Path
from typing import Annotated

import typer

from catdog_serving.cli.options import (
    ConfigOption,
    ReadyOption,
    WatchOption,
    configured_server,
    print_line,
)


def deploy(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The .mar to serve.")],
    config: ConfigOption,
    watch_s: WatchOption = 10,
    timeout_s: ReadyOption = 180,
) -> None:
    """Serve another archive without a lost request; if anything fails, go back."""
    from catdog_serving.rollout.deploy import DeployTimes, deploy

    server = configured_server(config)
    os.nice(10)  # the check of the archive computes, and the workers come first
    deploy(server, archive, DeployTimes(timeout_s, watch_s), on_step=print_line)
