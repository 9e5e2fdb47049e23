"""catdog serve, stop and status."""

import os
import signal
from typing import Annotated, Any

import typer

from catdog_serving.commands.options import ConfigOption, console, exit_on_sigterm
from catdog_serving.errors import NotReadyError, UsageError


def serve(
    config: ConfigOption,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until the server ends; Ctrl-C stops it.")
    ] = False,
) -> None:
    """Start the server and wait until it is ready."""
    from catdog_serving.torchserve.server import TorchServe
    from catdog_serving.torchserve.serving_config import ServingConfig

    exit_on_sigterm()
    server = TorchServe(ServingConfig.read(config))
    if server.is_running() and not foreground:
        console.print("the server runs already")
        if server.archive_is_newer():
            console.print("with an older archive; to load the new one: catdog stop && catdog serve")
    else:
        with console.status("starting TorchServe ..."):
            server.start()
    _print_ready(server)
    if foreground:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.terminate())
        server.wait()


def stop(config: ConfigOption) -> None:
    """Stop the server; nothing of it stays behind."""
    from catdog_serving.torchserve.server import TorchServe
    from catdog_serving.torchserve.serving_config import ServingConfig

    was_running = TorchServe(ServingConfig.read(config)).stop()
    console.print("stopped" if was_running else "no server was running")


def status(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    live: Annotated[
        bool, typer.Option("--watch", help="Rates, times, queue and memory, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.5, metavar="SECONDS", help="Between two looks of --watch.")
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


def _print_ready(server: Any) -> None:
    from catdog_serving import sample_pictures
    from catdog_serving.model_archive import file_sha256
    from catdog_serving.monitoring.status import curl_line, print_status

    print_status(server.status(), console)
    archive = server.config.archive
    console.print(f"archive  SHA-256 {file_sha256(archive)}", highlight=False, soft_wrap=True)
    key_file = str(server.run.key_file) if server.run.key_file.is_file() else None
    if key_file:
        console.print(f"tokens   needed; the keys are in {key_file}", highlight=False)
    picture = os.path.relpath(sample_pictures.CAT)
    console.print(
        f"try      {curl_line(server.config, key_file, picture)}", highlight=False, soft_wrap=True
    )
