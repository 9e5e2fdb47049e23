"""HTTP/1.1 with bounds in time, bytes and connections: for the API without Java, and for the page.

Uvicorn reads no body ahead of who asks for it, so what is not read is not in memory.
"""

import asyncio
import json
import socket
from typing import Any, NamedTuple

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_MAX_HEADER_BYTES = 8192
BODY_S = 120.0  # a client may take so long to send its body
_IDLE_S = 30.0  # a connection without a request ends after one to two times that
_MAX_CONNECTIONS = 1000
_DRAIN_S = 15  # `catdog stop` waits 20 s


class Answer(NamedTuple):
    """A status, headers and a body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def error(cls, status: int, kind: str, message: str) -> "Answer":
        """An error in TorchServe's shape."""
        values = {"code": status, "type": kind, "message": message}
        body = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
        return cls(status, {"content-type": "application/json"}, body)

    def to_response(self) -> Response:
        return Response(self.body, self.status, self.headers)


NO_MEMORY = Answer.error(507, "OutOfMemoryError", "too many large uploads at once; try again")
_TOO_LARGE = Answer(413, {}, b"")
_SLOW = Answer.error(408, "RequestTimeoutException", f"the body took over {BODY_S:g} s to arrive")
_BAD_REQUEST = Answer.error(400, "BadRequestException", "Invalid HTTP message.")


class Bodies:
    """Reads the bodies of requests; whatever is over a limit is refused, and not read.

    Attributes:
        held_bytes: Of all bodies that are here. Who has done with one releases its length.
    """

    def __init__(self, limit: int, all_limit: int, wait_s: float = 0) -> None:
        """Limits of one body and of all together, in bytes; how long a piece waits for room."""
        self._limit = limit
        self._all_limit = all_limit
        self._wait_s = wait_s
        self._released = asyncio.Event()
        self.held_bytes = 0

    def release(self, size: int) -> None:
        """Forget so many bytes, and wake who waits for room."""
        self.held_bytes -= size
        self._released.set()
        self._released = asyncio.Event()

    async def read(self, request: Request, body: bytearray) -> Answer | None:
        """Read one piece by piece into `body`; gives why it is refused.

        Raises:
            ClientDisconnect: If the client went away.
        """
        headers = request.headers
        size = sum(len(name) + len(value) + 4 for name, value in headers.raw)
        if size > _MAX_HEADER_BYTES or (
            "transfer-encoding" in headers and "content-length" in headers
        ):
            return _BAD_REQUEST
        if int(headers.get("content-length", 0)) > self._limit:
            return _TOO_LARGE
        try:
            async with asyncio.timeout(BODY_S):
                async for piece in request.stream():
                    if len(body) + len(piece) > self._limit:
                        return _TOO_LARGE
                    if not await self._has_room(len(piece)):
                        return NO_MEMORY
                    body += piece
                    self.held_bytes += len(piece)
        except TimeoutError:
            return _SLOW
        return None

    async def _has_room(self, size: int) -> bool:
        """Whether there is room for a piece by the time that it may wait."""
        try:
            async with asyncio.timeout(self._wait_s):
                while self.held_bytes + size > self._all_limit:
                    await self._released.wait()
        except TimeoutError:
            return False
        return True


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
        body = _BAD_REQUEST.body
        head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


def http_server(application: ASGIApp) -> uvicorn.Server:
    """A server that ends at SIGTERM, when what is under way is answered."""
    config = uvicorn.Config(
        application,
        http=BoundedProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        timeout_keep_alive=int(_IDLE_S),
        timeout_graceful_shutdown=_DRAIN_S,
    )
    return uvicorn.Server(config)


def listen_at(host: str, port: int) -> socket.socket:
    """A socket at an address of this machine; port 0 is a free one.

    Raises:
        OSError: If it is taken, or no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.create_server((host, port), family=family, backlog=2048)
    # Its connections inherit it. Without it an answer's body waits 40 ms behind its head.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found
