"""The process of one server without Java: load the archive, listen, drain at SIGTERM.

    PYTHONPATH=MODEL_DIR python -P -m catdog_serving.asgi SETTINGS.json

`catdog serve --server asgi` starts it like that: the archive's code comes first on its path, as
in TorchServe's workers. Uvicorn runs in the event loop, the handler in one thread.
"""

import asyncio
import logging
import socket
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from catdog_serving.asgi.app import CatDogApi
from catdog_serving.asgi.http_server import http_server, listen_at
from catdog_serving.asgi.metrics import Metrics
from catdog_serving.asgi.settings import AsgiSettings
from catdog_serving.asgi.tokens import Tokens
from catdog_serving.asgi.worker import Worker

_LOG_BYTES, _LOG_FILES = 50_000_000, 3  # as config/log4j2.xml
_WORKER_ID = "9000"  # of TorchServe's first worker


def main() -> None:
    settings = AsgiSettings.read(Path(sys.argv[1]))
    sys.argv.append(f".ts.sock.{_WORKER_ID}")  # the handler's telemetry finds its id in it
    _log_to(Path(settings.log_folder))
    server = make_server(settings)
    asyncio.run(server.serve(listen(settings)))


def make_server(settings: AsgiSettings) -> uvicorn.Server:
    """Load the archive; the server ends at SIGTERM, when what is under way is answered."""
    metrics = Metrics(Path(settings.metrics_config))
    worker = Worker(settings, metrics)
    key_file = Path(settings.key_file) if settings.key_file else None
    tokens = Tokens(key_file, settings.token_expiration_min)
    worker.start()
    return http_server(CatDogApi(settings, worker, metrics, tokens))


def listen(settings: AsgiSettings) -> list[socket.socket]:
    """The sockets of the three addresses."""
    inference, metrics = settings.inference_address, settings.metrics_address
    return [_listen(address) for address in (inference, settings.management_address, metrics)]


def _listen(address: str) -> socket.socket:
    """A socket at http://HOST:PORT, or at unix:/PATH in a folder of this user's alone."""
    if address.startswith("unix:"):
        found = socket.socket(socket.AF_UNIX)
        found.bind(address.removeprefix("unix:"))
        return found
    parts = urlsplit(address)
    return listen_at(str(parts.hostname), parts.port or 0)


def _log_to(folder: Path) -> None:
    """The handler's lines go to model.log, and what never reached it to access.log."""
    logging.Formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
    for logger, name in (
        (logging.getLogger(), "model"),
        (logging.getLogger("catdog.access"), "access"),
    ):
        handler = RotatingFileHandler(
            folder / f"{name}.log", maxBytes=_LOG_BYTES, backupCount=_LOG_FILES
        )
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
