"""catdog serve."""

import os
import signal
from typing import Annotated, Any

import typer

from catdog_serving.cli.options import ConfigOption, console, exit_on_sigterm


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


def _print_ready(server: Any) -> None:
    from catdog_serving import sample_images
    from catdog_serving.model_archive import file_sha256
    from catdog_serving.monitoring.status import curl_line, print_status

    print_status(server.status(), console)
    archive = server.config.archive
    console.print(f"archive  SHA-256 {file_sha256(archive)}", highlight=False, soft_wrap=True)
    key_file = str(server.run.key_file) if server.run.key_file.is_file() else None
    if key_file:
        console.print(f"tokens   needed; the keys are in {key_file}", highlight=False)
    image = os.path.relpath(sample_images.CAT)
    console.print(
        f"try      {curl_line(server.config, key_file, image)}", highlight=False, soft_wrap=True
    )
