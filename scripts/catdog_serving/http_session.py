"""A session of requests that asks this machine itself: never through a proxy.

For a proxy 127.0.0.1 is the proxy's own machine. With http_proxy set and no_proxy not, every
command of catdog would ask somewhere else for the server beside it.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import psutil
import requests

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
