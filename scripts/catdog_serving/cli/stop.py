"""catdog stop."""

from catdog_serving.cli.options import ConfigOption, console


def stop(config: ConfigOption) -> None:
    """Stop the server; nothing of it stays behind."""
    from catdog_serving.torchserve.server import TorchServe
    from catdog_serving.torchserve.serving_config import ServingConfig

    was_running = TorchServe(ServingConfig.read(config)).stop()
    console.print("stopped" if was_running else "no server was running")
