"""A session of requests for this machine itself: never through a proxy, and over a Unix socket too.

For a proxy 127.0.0.1 is the proxy's own machine. With http_proxy set and no_proxy not, every
command of catdog would ask somewhere else for the server beside it.
"""

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import psutil
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

_HERE = ("0.0.0.0", "::")  # noqa: S104 (where a server listens everywhere, and is asked by that)


class HttpSession(requests.Session):
    """Takes proxies and ~/.netrc from the environment for others, and not for this machine."""

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        if request.auth is None and self.auth is None and is_this_machine(request.url):
            request.auth = _unsigned  # not by a `default` entry of ~/.netrc
        return super().prepare_request(request)

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        settings = super().merge_environment_settings(url, proxies, stream, verify, cert)
        if settings["proxies"] and is_this_machine(url):
            settings["proxies"] = {}
        return settings

    def rebuild_proxies(
        self, prepared_request: requests.PreparedRequest, proxies: Mapping[str, str] | None
    ) -> dict[str, str]:
        found = super().rebuild_proxies(prepared_request, proxies)  # type: ignore[no-untyped-call]
        return {} if is_this_machine(str(prepared_request.url)) else found

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        url = str(prepared_request.url)
        if not is_this_machine(url):
            super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
        elif self.should_strip_auth(response.request.url, url):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def open_session(address: str) -> tuple[HttpSession, str]:
    """A session that reaches an address, and the URL to ask it by.

    Args:
        address: http://HOST:PORT, or unix:/PATH for a Unix socket.
    """
    session, path = HttpSession(), socket_path(address)
    if path is None:
        return session, address.rstrip("/")
    session.mount("http://", _UnixSocketAdapter(path))
    return session, "http://localhost"


def socket_path(address: str) -> str | None:
    """The path in unix:/PATH; None for another address."""
    return address.removeprefix("unix:") if address.startswith("unix:") else None


class _UnixSocketAdapter(HTTPAdapter):
    """Sends every request to one Unix socket, whatever host its URL names."""

    def __init__(self, path: str) -> None:
        self._pool = _UnixSocketPool(path)
        super().__init__()

    def get_connection_with_tls_context(self, *_: object, **__: object) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class _UnixSocketPool(HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> HTTPConnection:
        return _UnixSocketConnection(self._path)


class _UnixSocketConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def is_this_machine(url: str) -> bool:
    """Whether the host of a URL is this machine, without asking the name service."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:  # requests says what is wrong with it
        return False
    if is_loopback(host) or host.endswith(".localhost") or host in _HERE:
        return True
    interfaces = psutil.net_if_addrs().values()
    return any(host == address.address for addresses in interfaces for address in addresses)


def is_loopback(host: str) -> bool:
    """Whether a host name or address stands for this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
