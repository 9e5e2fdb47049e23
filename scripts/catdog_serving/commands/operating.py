"""catdog scale, deploy, rollback and versions."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from catdog_serving.commands.options import ConfigOption, console, exit_on_sigterm

ReadyOption = Annotated[
    float,
    typer.Option(
        "--timeout-s", min=1, metavar="SECONDS", help="Longest wait for workers to get READY."
    ),
]
WatchOption = Annotated[
    float,
    typer.Option(
        "--watch-s",
        min=0,
        metavar="SECONDS",
        help="How long to watch the new version before the old one goes.",
    ),
]


def scale(
    workers: Annotated[int, typer.Argument(metavar="N", min=1, help="Workers, at least 1.")],
    config: ConfigOption,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Only ask for more workers; not for fewer.")
    ] = False,
    timeout_s: ReadyOption = 180,
) -> None:
    """Change the number of workers without a lost request, until the server stops."""
    from catdog_serving.rollout.scale import scale

    server = _server(config)
    with console.status(f"scaling to {workers} ..."):
        done = scale(server, workers, wait_s=timeout_s, wait=not no_wait)
    state = "asked for" if no_wait and done.workers > done.before else "READY"
    console.print(
        f"workers  {done.workers} {state}, before {done.before}; version {done.version}, "
        f"{done.seconds:.1f} s",
        highlight=False,
    )


def deploy(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The .mar to serve.")],
    config: ConfigOption,
    watch_s: WatchOption = 10,
    timeout_s: ReadyOption = 180,
) -> None:
    """Serve another archive without a lost request; if anything fails, go back."""
    from catdog_serving.rollout.deploy import DeployTimes, deploy

    server = _server(config)
    os.nice(10)  # the check of the archive computes, and the workers come first
    deploy(server, archive, DeployTimes(timeout_s, watch_s), tell=_tell)


def rollback(config: ConfigOption, watch_s: WatchOption = 10, timeout_s: ReadyOption = 180) -> None:
    """Deploy what was served before the last deploy."""
    from catdog_serving.rollout.deploy import DeployTimes, rollback

    server = _server(config)
    os.nice(10)
    rollback(server, DeployTimes(timeout_s, watch_s), tell=_tell)


def versions(config: ConfigOption) -> None:
    """Show what is loaded, and what a restart or a rollback would load."""
    from catdog_serving.rollout.versions import loaded_versions, print_versions, stored_archives

    server = _server(config)
    print_versions(loaded_versions(server), stored_archives(server), console)


def _server(config: Path) -> Any:
    from catdog_serving.torchserve.server import TorchServe
    from catdog_serving.torchserve.serving_config import ServingConfig

    exit_on_sigterm()
    return TorchServe(ServingConfig.read(config))


def _tell(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)
