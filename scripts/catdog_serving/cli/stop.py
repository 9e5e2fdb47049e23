"""catdog stop."""

from catdog_serving.cli.options import ConfigOption, configured_server, console, print_line
from catdog_serving.errors import NotReadyError


def stop(config: ConfigOption) -> None:
    """Stop the server; nothing of it stays behind."""
    server = configured_server(config)
    if server.stop():
        console.print("stopped")
        return
    stranger = server.stranger()
    if stranger and stranger.is_torchserve:
        raise NotReadyError(
            f"nothing was stopped: {stranger}; stop it as it was started, as {stranger.user}: "
            "catdog stop, or torchserve --stop"
        )
    console.print("no server was running")
    if stranger:
        print_line(f"note     {stranger}")
