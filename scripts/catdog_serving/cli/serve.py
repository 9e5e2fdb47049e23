"""catdog serve."""

import os
import shlex
import signal
from contextlib import suppress
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
from catdog_serving.cli.status import print_running
from catdog_serving.config_folder import command_line
from catdog_serving.errors import NotReadyError, ServerError
from catdog_serving.http_session import socket_path
from catdog_serving.monitoring.snapshot import nothing_loaded, read_status
from catdog_serving.torchserve.loaded_libraries import missing_packages
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.start_checks import check_addresses
from catdog_serving.torchserve.start_options import HIGHEST_PORT, StartOptions


class ServerName(StrEnum):
    torchserve = "torchserve"
    asgi = "asgi"


def serve(
    config: ConfigOption,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=HIGHEST_PORT,
            metavar="PORT",
            help="Answer predictions here; management, metrics and gRPC's two are on the next "
            "four ports (default: the five ports of --config).",
        ),
    ] = None,
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
    if not foreground and _joined(server):
        _check_same(server, kind, port, management_socket)
        console.print("the server runs already")
        _print_ready(server)
    else:
        start(server, StartOptions(port, management_socket, kind is ServerName.asgi))
    if foreground:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: server.terminate())
        server.wait()


def start(server: TorchServe, options: StartOptions) -> None:
    """Start a server, and say what runs then."""
    with progress() as on_work:
        server.start(options=options, on_warning=_warn, on_work=on_work)
    _print_ready(server)


def _joined(server: TorchServe) -> bool:
    """Wait for a server that runs, of a `serve` that was killed or is not done yet.

    Returns:
        Whether there is one; not if it ended meanwhile, such as by a stop in another shell.

    Raises:
        NotReadyError: If it serves nothing, or gets no worker READY.
    """
    if not server.is_running():
        return False
    with suppress(ServerError):  # it does not answer yet: what it loads is there before
        if not server.versions():
            raise NotReadyError(nothing_loaded(server))
    try:
        server.wait_ready()
    except NotReadyError:
        if server.is_running():
            raise
        return False
    return True


def _check_same(
    server: TorchServe, kind: ServerName | None, port: int | None, management_socket: bool
) -> None:
    """Make sure that the server that runs is the one that is asked for.

    Raises:
        NotReadyError: If not.
    """
    asgi = kind is ServerName.asgi
    other = []
    if management_socket and not socket_path(server.management_url):
        other.append(f"with its management API on {server.management_url}")
    if kind is not None and asgi != server.run.runs_without_java():
        other.append("with Java" if asgi else "without Java")
    if port is not None and not server.served.inference_url.endswith(f":{port}"):
        other.append(f"at {server.served.inference_url}")
    if other:
        asked = StartOptions(port, management_socket, asgi).command(server.config.path)
        raise NotReadyError(
            f"the server runs already, {', '.join(other)}; to have it as asked: "
            f"{command_line(server.config.path, 'stop')} && {asked}"
        )


def _warn(line: str) -> None:
    print_line(f"warning  {line}")


def _print_ready(server: TorchServe) -> None:
    """What runs, and a command to go on with; it carries the token where one is needed."""
    status = read_status(server)
    print_running(server, status)
    if packages := missing_packages(server.config, status.java_libraries):
        print_line(
            "note     TorchServe's own get no more fixes; Debian's do: "
            f"apt-get install {' '.join(packages)}, then: "
            f"{command_line(server.config.path, 'restart')}"
        )
    for line in check_addresses(server.served):
        _warn(line)
    if server.run.key_file.is_file():
        print_line(f"tokens   needed; the keys are in {server.run.key_file}")
    if socket_path(status.management):
        print_line(f"manage   {curl(server, 'management', '/models/catdog')}")
    image = shlex.quote(os.path.relpath(sample_images.CAT))
    print_line(f"try      {curl(server, 'inference', '/predictions/catdog', '-T', image)}")
