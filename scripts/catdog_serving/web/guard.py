"""Who may ask the page's server: pages of its own origin, and those who know the password.

It listens where a web page of anybody's can send requests, too: such a page is known by its
Origin, and one whose name was pointed at this machine (DNS rebinding) by the Host it asks for.
"""

import base64
import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catdog_serving.asgi.http_server import Answer
from catdog_serving.web.server import WebSettings

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """An application before another one, for whom and from where the settings say."""

    def __init__(self, application: ASGIApp, settings: WebSettings) -> None:
        self._application = application
        self._origins = frozenset(origin.lower() for origin in settings.origins)
        named = {urlsplit(origin).hostname for origin in self._origins}
        self._names = {"localhost", settings.host.lower(), socket.gethostname().lower(), *named}
        user = settings.auth
        self._credentials = None if user is None else base64.b64encode(":".join(user).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Content-Security-Policy", "default-src 'none'; sandbox")
            await send(message)

        answering = self._refusal(Headers(scope=scope)) or self._application
        await answering(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> Response | None:
        host = headers.get("host", "").lower()
        if not self._is_own(host):
            text = f"the page has no name {host!r}; start catdog web with --origin"
            return Answer.error(421, "MisdirectedRequest", text).to_response()
        origin = headers.get("origin", f"http://{host}").lower()
        if origin != f"http://{host}" and origin not in self._origins:
            text = f"the page is not {origin!r}; start catdog web with --origin"
            return Answer.error(403, "Forbidden", text).to_response()
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if self._credentials is not None and not (
            scheme.lower() == "basic" and hmac.compare_digest(given.encode(), self._credentials)
        ):
            text = "the user or the password is wrong"
            refusal = Answer.error(401, "Unauthorized", text).to_response()
            refusal.headers["WWW-Authenticate"] = 'Basic realm="catdog", charset="UTF-8"'
            return refusal
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host is this machine's: an address is, as no name leads to it."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name not in self._names:
                ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
