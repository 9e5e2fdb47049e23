"""The kinds of servers that must behave alike: TorchServe, and the one without Java."""

from collections.abc import Iterator
from contextlib import contextmanager

from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.start_options import StartOptions

SERVERS = ("server", "asgi_server")  # fixtures; `served` is each in turn


@contextmanager
def running_server(config: ServingConfig, *, asgi: bool) -> Iterator[TorchServe]:
    """A server that is stopped in the end."""
    server = TorchServe(config)
    server.start(options=StartOptions(asgi=asgi))
    try:
        yield server
    finally:
        server.stop()
