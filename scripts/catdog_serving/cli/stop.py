"""catdog stop."""

from catdog_serving.cli.options import ConfigOption, configured_server, console


def stop(config: ConfigOption) -> None:
    """Stop the server; nothing of it stays behind."""
    was_running = configured_server(config).stop()
    console.print("stopped" if was_running else "no server was running")
