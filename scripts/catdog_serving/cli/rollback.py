"""catdog rollback."""

import os

from catdog_serving.cli.options import (
    ConfigOption,
    ReadyOption,
    WatchOption,
    configured_server,
    print_line,
)


def rollback(config: ConfigOption, watch_s: WatchOption = 10, timeout_s: ReadyOption = 180) -> None:
    """Deploy what was served before the last deploy."""
    from catdog_serving.rollout.deploy import DeployTimes, rollback

    server = configured_server(config)
    os.nice(10)
    rollback(server, DeployTimes(timeout_s, watch_s), on_step=print_line)
