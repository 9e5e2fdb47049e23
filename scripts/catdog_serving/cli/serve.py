"""catdog serve."""

import os
import shlex
import signal
from enum import StrEnum
from typing import Annotated

import typer

from catdog_serving import sample_images
from catdog_serving.cli.backends import wished_engine
from catdog_serving.cli.curl import curl
from catdog_serving.cli.options import (
    ConfigOption,
    configured_server,
    console,
    print_line,
    progress,
)
from catdog_serving.cli.status import print_line_without_java, print_status
from catdog_serving.errors import NotReadyError
from catdog_serving.http_session import socket_path
from catdog_serving.model_archive import file_sha256
from catdog_serving.monitoring.snapshot import read_status
from catdog_serving.torchserve.loaded_libraries import missing_packages
from catdog_serving.torchserve.management_socket import as_served
from catdog_serving.torchserve.server import TorchServe


class ServerName(StrEnum):
    torchserve = "torchserve"
    asgi = "asgi"


def serve(
    config: ConfigOption,
    kind: Annotated[
        ServerName | None,
        typer.Option("--server", help="asgi: the same archive and API without Java, one worker."),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until the server ends; Ctrl-C stops it.")
    ] = False,
    management_socket: Annotated[
        bool,
        typer.Option(
            "--management-socket",
            help="Have the management API on a Unix socket of this user's, not on its TCP port.",
        ),
    ] = False,
) -> None:
    """Start the server and wait until it is ready."""
    wished_engine()  # a wrong one is told here, and not by a worker that cannot start
    server = configured_server(config)
    without_java = kind is ServerName.asgi
    if not foreground and _joined(server):
        if management_socket and not socket_path(server.management_url):
            raise NotReadyError(
                f"the server runs already, with its management API on {server.management_url}; to "
                "have it on a socket: catdog stop && catdog serve --management-socket"
            )
        if kind is not None and without_java != server.run.runs_without_java():
            raise NotReadyError(
                f"the server runs already, {'with' if without_java else 'without'} Java; to have "
                f"the other: catdog stop && catdog serve --server {kind}"
            )
        console.print("the server runs already")
        if server.archive_is_newer():
            console.print("with an older archive; to load the new one: catdog stop && catdog serve")
    else:
        with progress() as on_work:
            server.start(
                management_socket=management_socket,
                asgi=without_java,
                on_warning=_warn,
                on_work=on_work,
            )
    _print_ready(server)
    if foreground:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: server.terminate())
        server.wait()


def _joined(server: TorchServe) -> bool:
    """Wait for a server that runs, of a `serve` that was killed or is not done yet.

    Returns:
        Whether there is one; not if it ended meanwhile, such as by a stop in another shell.
    """
    if not server.is_running():
        return False
    try:
        server.wait_ready()
    except NotReadyError:
        if server.is_running():
            raise
        return False
    return True


def _warn(line: str) -> None:
    print_line(f"warning  {line}")


def _print_ready(server: TorchServe) -> None:
    """What runs, and a command to go on with; it carries the token where one is needed."""
    status = read_status(server)
    print_status(status, console)
    print_line_without_java(server)
    archive = server.config.archive
    sha256 = f"SHA-256 {file_sha256(archive)}" if archive.is_file() else f"{archive} is gone"
    print_line(f"archive  {sha256}")
    if packages := missing_packages(server.config, status.java_libraries):
        print_line(
            "note     TorchServe's own get no more fixes; Debian's do: "
            f"apt-get install {' '.join(packages)}, then: catdog stop && catdog serve"
        )
    for line in as_served(server.config, server.run).check_addresses():
        _warn(line)
    if server.run.key_file.is_file():
        print_line(f"tokens   needed; the keys are in {server.run.key_file}")
    if socket_path(status.management):
        print_line(f"manage   {curl(server, 'management', '/models/catdog')}")
    image = shlex.quote(os.path.relpath(sample_images.CAT))
    print_line(f"try      {curl(server, 'inference', '/predictions/catdog', '-T', image)}")
