"""HTTP servers of a test: one that answers as it is told to, and the product's own in a thread."""

import socket
import socketserver
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from tests.support.processes import wait_until

if TYPE_CHECKING:
    import uvicorn

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def http_server(answer: Answer, path: Path | None = None) -> Iterator[str]:
    """Serve on a free port, or on a Unix socket; `answer` gets each request and its body.

    Yields http://127.0.0.1:PORT, or unix:PATH.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            answer(self, self.rfile.read(length))

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server: socketserver.BaseServer
    if path is None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        url = f"http://127.0.0.1:{server.server_port}"
    else:
        server, url = _UnixServer(str(path), Handler), f"unix:{path}"
    with serving(server):
        yield url


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Run a server of the standard library in a thread, and end it."""
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(
    request: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    length: int | None = None,
    headers: Mapping[str, str] = {},
) -> None:
    """Answer; a `length` larger than the body and then closing is a cut connection."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    request.wfile.write(body)
    if length is not None:
        request.close_connection = True


@contextmanager
def running_uvicorn(server: "uvicorn.Server", sockets: list[socket.socket]) -> Iterator[None]:
    """Run it in a thread of this process, and end it."""
    thread = Thread(target=server.run, args=(sockets,))
    thread.start()
    try:
        wait_until(lambda: server.started, "the start")
        yield
    finally:
        server.should_exit = True
        thread.join()
