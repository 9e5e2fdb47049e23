"""catdog restart."""

import typer

from catdog_serving.cli.backends import wished_engine
from catdog_serving.cli.options import ConfigOption, configured_server, console
from catdog_serving.cli.serve import start
from catdog_serving.torchserve.server_locks import change_lock
from catdog_serving.torchserve.start_options import StartOptions


def restart(config: ConfigOption) -> None:
    """Stop the server; start it with the same options on what the files say now."""
    wished_engine()
    server = configured_server(config)
    options = StartOptions.of(server.run)
    with change_lock(server.run, "restart"):
        if server.is_running():
            server.prepare(options)  # what would not start is told while the old one runs
        was_running = server.stop()
    console.print("stopped" if was_running else "no server was running")
    try:
        start(server, options)
    finally:
        if not server.is_running():  # what it was started with went with its folder
            again = f"no server runs now; to start it as it was: {options.command(config)}"
            typer.echo(again, err=True)  # --quiet, too
