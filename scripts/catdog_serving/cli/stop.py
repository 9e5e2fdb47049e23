"""catdog stop."""

from catdog_serving.cli.options import ConfigOption, console, print_line
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig


def stop(config: ConfigOption) -> None:
    """Stop the server; nothing of it stays behind."""
    server = TorchServe(ServingConfig.read(config, checked=False))  # it may run on an older file
    if server.stop():
        console.print("stopped")
        return
    server.config.check()
    stranger = server.stranger()
    if stranger and stranger.is_torchserve:
        raise NotReadyError(
            f"nothing was stopped: {stranger}; stop it as it was started, as {stranger.user}: "
            "catdog stop, or torchserve --stop"
        )
    console.print("no server was running")
    if stranger:
        print_line(f"note     {stranger}")
