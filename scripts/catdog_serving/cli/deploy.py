"""catdog deploy."""

import os
from pathlib import Path
from typing import Annotated

import typer

from catdog_serving.cli.gate import (
    MIN_ACCURACY,
    EvaluateOption,
    MinAccuracyOption,
    accuracy_gate,
)
from catdog_serving.cli.options import (
    ConfigOption,
    InsistOption,
    ReadyOption,
    WatchOption,
    configured_server,
    print_line,
)
from catdog_serving.rollout.deploy import WATCH_S, DeployTimes, Trust
from catdog_serving.rollout.deploy import deploy as deploy_archive
from catdog_serving.torchserve.server import READY_TIMEOUT_S


def deploy(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The .mar to serve.")],
    config: ConfigOption,
    watch_s: WatchOption = WATCH_S,
    timeout_s: ReadyOption = READY_TIMEOUT_S,
    insist: InsistOption = False,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Serve seeded weights in place of trained ones.")
    ] = False,
    evaluate: EvaluateOption = None,
    min_accuracy: MinAccuracyOption = MIN_ACCURACY,
) -> None:
    """Serve another archive without a lost request; if anything fails, go back."""
    server = configured_server(config)
    os.nice(10)  # the check of the archive computes, and the workers come first
    trust = Trust(insist, untrained, accuracy_gate(evaluate, min_accuracy))
    times = DeployTimes(timeout_s, watch_s)
    deploy_archive(server, archive, times, trust, on_step=print_line)
