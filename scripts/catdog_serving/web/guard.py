"""Who may ask the page's server: pages of its own origin, and those who know the password.

It listens where a web page of anybody's can send requests, too: such a page is known by its
Origin, and one whose name was pointed at this machine (DNS rebinding) by the Host it asks for.
"""

import base64
import binascii
import hmac
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catdog_serving.asgi.http_server import Answer

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """An application before another one.

    Args:
        application: What is guarded.
        host: Where it listens.
        auth: User and password, or None for everybody.
        origins: Where a proxy shows it, such as https://catdog.example.org.
    """

    def __init__(
        self,
        application: ASGIApp,
        host: str,
        auth: tuple[str, str] | None,
        origins: Sequence[str] = (),
    ) -> None:
        self._application = application
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        named = {urlsplit(origin).hostname for origin in self._origins}
        self._names = {"localhost", host.lower(), socket.gethostname().lower(), *named}
        self._password = None if auth is None else ":".join(auth).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Content-Security-Policy", "default-src 'none'; sandbox")
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._application(scope, receive, send_with_headers)
        else:
            challenge = {"WWW-Authenticate": 'Basic realm="catdog", charset="UTF-8"'}
            headers = refusal.headers | (challenge if refusal.status == 401 else {})
            response = refusal._replace(headers=headers).to_response()
            await response(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> Answer | None:
        host = headers.get("host", "").lower()
        if not self._is_own(host):
            text = f"the page has no name {host!r}; start catdog web with --origin"
            return Answer.error(421, "MisdirectedRequest", text)
        origin = headers.get("origin", f"http://{host}").lower()
        if origin != f"http://{host}" and origin not in self._origins:
            text = f"the page is not {origin!r}; start catdog web with --origin"
            return Answer.error(403, "Forbidden", text)
        if self._password is not None:
            given = _basic(headers.get("authorization", ""))
            if not hmac.compare_digest(given, self._password):
                return Answer.error(401, "Unauthorized", "the user or the password is wrong")
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host is this machine's: an address is, as no name leads to it."""
        try:
            name = urlsplit(f"//{host}").hostname
            if name in self._names:
                return True
            ipaddress.ip_address(name or "")
        except ValueError:
            return False
        return True


def _basic(authorization: str) -> bytes:
    """USER:PASSWORD of a header; empty if it holds none."""
    scheme, _, value = authorization.partition(" ")
    try:
        return base64.b64decode(value, validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        return b""
