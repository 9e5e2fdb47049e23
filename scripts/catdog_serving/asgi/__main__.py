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
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from catdog_serving.asgi.app import MAX_HEADER_BYTES, CatDogApi
from catdog_serving.asgi.metrics import Metrics
from catdog_serving.asgi.settings import AsgiSettings
from catdog_serving.asgi.tokens import Tokens
from catdog_serving.asgi.worker import Answer, Worker

_IDLE_S = 30.0  # a connection without a request ends after one to two times that
_MAX_CONNECTIONS = 1000
_DRAIN_S = 15  # `catdog stop` waits 20 s
_LOG_BYTES, _LOG_FILES = 50_000_000, 3  # as config/log4j2.xml
_WORKER_ID = "9000"  # of TorchServe's first worker


class BoundedProtocol(H11Protocol):
    """Uvicorn's own, which lets a client that sends no whole header stay for ever."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.close()
        else:
            self.loop.call_later(_IDLE_S, self._look, None)

    def _look(self, before: object) -> None:
        """Close it if it had no request since the last look."""
        if self.transport.is_closing():
            return
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is before:
            self.transport.close()
        else:
            self.loop.call_later(_IDLE_S, self._look, self.cycle)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP in the API's shape."""
        body = Answer.error(400, "BadRequestException", "Invalid HTTP message.").body
        head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


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
    config = uvicorn.Config(
        CatDogApi(settings, worker, metrics, tokens),
        http=BoundedProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=int(_IDLE_S),
        timeout_graceful_shutdown=_DRAIN_S,
    )
    return uvicorn.Server(config)


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
    host = str(parts.hostname)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.create_server((host, parts.port or 0), family=family, backlog=2048)
    # Its connections inherit it. Without it an answer's body waits 40 ms behind its head.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


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
