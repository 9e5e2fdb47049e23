"""Requests that parsers of HTTP read differently, as the advisories on Netty describe them.

Each ends with a request of its own for /smuggled, where a reader that takes the end of the first
for another place than its neighbour would find it.
"""

import re
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
_END = b"0\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_CHUNKED = "Transfer-Encoding: chunked"
_LINE = "POST /predictions/catdog HTTP/1.1"
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    length = struct.pack(">I", len(payload))[1:]
    return length + bytes([kind, flags]) + struct.pack(">I", stream) + payload


# A HEADERS frame that asks for "/", and its reset, again and again (CVE-2023-44487).
_RESETS = b"".join(
    _frame(1, stream, b"\x82\x84\x86", 5) + _frame(3, stream, bytes(4))
    for stream in range(1, 4001, 2)
)


def requests_of(key: str) -> dict[str, bytes]:
    """Name -> bytes; `key` is nginx's, and nothing to TorchServe."""

    def post(
        *headers: str, body: bytes = b"", line: str = "POST /predictions/catdog HTTP/1.1"
    ) -> bytes:
        lines = [line, "Host: a", f"Authorization: Bearer {key}", *headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    both = f"Content-Length: {len(_END + SMUGGLED)}"
    in_1_0 = "POST /predictions/catdog HTTP/1.0"
    chunk = b"1\r\nx\r\n" + _END + SMUGGLED
    plain = post("Content-Length: 1", body=b"x")
    return {
        "as it should be": post("Content-Length: 1", body=b"x"),
        "chunk extension ended by LF": post(_CHUNKED, body=b"1;a\nx\r\n" + _END + SMUGGLED),
        "chunk size ended by LF": post(_CHUNKED, body=b"1\nx\r\n" + _END + SMUGGLED),
        "chunk extension of 30 kB": post(_CHUNKED, body=b"1;" + b"a" * 30_000 + chunk[1:]),
        "chunk extension with a quoted CR LF": post(  # CVE-2026-33870
            _CHUNKED, body=b'1;a="\r\nx\r\n' + _END + SMUGGLED
        ),
        "chunk ended by LF": post(_CHUNKED, body=b"1\r\nx\n" + _END + SMUGGLED),
        "chunk longer than its size": post(_CHUNKED, body=b"1\r\nxxxx\r\n" + _END + SMUGGLED),
        "chunk size -1": post(_CHUNKED, body=b"-1\r\nx\r\n" + _END + SMUGGLED),
        "chunk size of 65 bits": post(_CHUNKED, body=b"1" + b"0" * 15 + b"1" + chunk[1:]),
        "chunk size 0x1": post(_CHUNKED, body=b"0x1\r\nx\r\n" + _END + SMUGGLED),
        "Content-Length in a trailer": post(
            _CHUNKED, body=b"0\r\nContent-Length: 40\r\n\r\n" + SMUGGLED
        ),
        "both lengths": post(_CHUNKED, both, body=_END + SMUGGLED),
        "both lengths, HTTP/1.0": post(
            _CHUNKED, both, "Connection: keep-alive", body=_END + SMUGGLED, line=in_1_0
        ),
        "chunked, HTTP/1.0": post(_CHUNKED, "Connection: keep-alive", body=chunk, line=in_1_0),
        "chunked, identity": post("Transfer-Encoding: chunked, identity", body=chunk),
        "identity, chunked": post("Transfer-Encoding: identity, chunked", body=chunk),
        "chunked, xchunked": post(  # CVE-2026-89044
            "Transfer-Encoding: chunked, xchunked", both, body=_END + SMUGGLED
        ),
        "xchunked": post("Transfer-Encoding: xchunked", both, body=_END + SMUGGLED),
        "chunked after a vertical tab": post(
            "Transfer-Encoding: \x0bchunked", both, body=_END + SMUGGLED
        ),
        "space before the colon": post("Transfer-Encoding : chunked", both, body=_END + SMUGGLED),
        "two lengths": post("Content-Length: 0", both, body=_END + SMUGGLED),
        "a length twice": post("Content-Length: 1", "Content-Length: 1", body=b"x" + SMUGGLED),
        "length 1, 1": post("Content-Length: 1, 1", body=b"x" + SMUGGLED),
        "length +1": post("Content-Length: +1", body=b"x" + SMUGGLED),
        "length -1": post("Content-Length: -1", body=SMUGGLED),
        "length folded": post("Content-Length:\r\n 1", body=b"x" + SMUGGLED),
        "chunked folded": post("Transfer-Encoding:\r\n chunked", both, body=_END + SMUGGLED),
        "bare CR between headers": post(f"Content-Length: 1\r{_CHUNKED}", body=chunk),
        "bare CR in a value": post("X-A: a\rb", "Content-Length: 1", body=b"x" + SMUGGLED),
        "bare CR in the request line": post(
            "Content-Length: 1", body=b"x" + SMUGGLED, line="POST /predictions/catdog\r HTTP/1.1"
        ),
        "NUL in a value": post("X-A: a\0b", "Content-Length: 1", body=b"x" + SMUGGLED),
        "NUL in a name": post("X\0A: b", "Content-Length: 1", body=b"x" + SMUGGLED),
        "LF for CR LF": plain.replace(b"\r\n", b"\n") + SMUGGLED,
        "control bytes before": b"\x00\x01\x1f\x0b" + plain,
        "blank lines before": b"\r\n\r\n\r\n" + plain,
        "two targets in the line": post(
            "Content-Length: 1", body=b"x", line="POST /predictions/catdog /smuggled HTTP/1.1"
        ),
        "HTTP/0.9": b"GET /smuggled\r\n\r\n",
        "HTTP/2 preface": H2_PREFACE + _frame(4, 0),
        "HTTP/2, 2,000 resets": H2_PREFACE + _frame(4, 0) + _RESETS,
        "upgrade to h2c": post(
            "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk",
            "Content-Length: 1", body=b"x" + H2_PREFACE + _frame(4, 0),
        ),
        "4,000 headers": post(*(f"X-{n}: a" for n in range(4000)), "Content-Length: 1", body=b"x"),
    }  # fmt: skip


URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
_PART = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'


def forms() -> dict[str, tuple[str, bytes]]:
    """Name -> (type, body): many fields, or one without an end, up to the largest body."""
    return {
        "100,000 fields": (URLENCODED, b"a=&" * 100_000),
        "1,000,000 fields": (URLENCODED, b"a=&" * 1_000_000),
        "a field of 25 MB without =": (URLENCODED, b"a" * 25_000_000),
        "100,000 parts": (MULTIPART, _PART * 100_000 + b"--b--\r\n"),
        "480,000 parts": (MULTIPART, _PART * 480_000 + b"--b--\r\n"),
        "a part's header of 25 MB": (MULTIPART, b"--b\r\nX: " + b"a" * 25_000_000),
    }


def answers(connection: socket.socket, sent: bytes, patience_s: float) -> tuple[str, ...]:
    """The status of each answer; "none" without one, "reset" at the end where it was cut off."""
    got: list[bytes] = []
    how: tuple[str, ...] = ()
    connection.settimeout(patience_s)
    with suppress(OSError):  # a server that refuses early may not read the rest
        connection.sendall(sent)
    try:
        while part := connection.recv(65536):
            got.append(part)
            connection.settimeout(0.7)  # whatever else comes, comes at once
    except TimeoutError:
        pass
    except OSError:
        how = ("reset",)
    return (*(status.decode() for status in _STATUS.findall(b"".join(got))), *how) or ("none",)


def reset_in_the_middle(connect: Callable[[], socket.socket], requests: Iterable[bytes]) -> None:
    """Send half of each request, and reset the connection."""
    for request in requests:
        connection = connect()
        with suppress(OSError):
            connection.sendall(request[: len(request) // 2])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
