"""catdog rollback."""

import os

from catdog_serving.cli.options import (
    ConfigOption,
    InsistOption,
    ReadyOption,
    WatchOption,
    configured_server,
    print_line,
)
from catdog_serving.rollout.deploy import WATCH_S, DeployTimes
from catdog_serving.rollout.rollback import rollback as deploy_previous
from catdog_serving.torchserve.server import READY_TIMEOUT_S


def rollback(
    config: ConfigOption,
    watch_s: WatchOption = WATCH_S,
    timeout_s: ReadyOption = READY_TIMEOUT_S,
    insist: InsistOption = False,
) -> None:
    """Deploy what was served before the last deploy."""
    server = configured_server(config)
    os.nice(10)
    times = DeployTimes(timeout_s, watch_s)
    deploy_previous(server, times, insist=insist, on_step=print_line)
