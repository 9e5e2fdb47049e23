"""The command line of curl for a running server, as a shell takes it."""

import os
import shlex

from catdog_serving.http_session import socket_path
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.tokens import Kind

_PROXIES = ("http_proxy", "all_proxy", "ALL_PROXY")  # HTTP_PROXY is not read by curl


def curl(server: TorchServe, kind: Kind, path: str, *options: str) -> str:
    """A request to one of the server's APIs; it carries the token where one is needed.

    Args:
        server: Whose.
        kind: Which API.
        path: What is asked for.
        options: Others of curl's, quoted.
    """
    url = server.served.inference_url if kind == "inference" else server.management_url
    words = ["curl"]
    socket = socket_path(url)
    if socket:
        words += ["--unix-socket", shlex.quote(socket)]
        url = "http://localhost"
    elif any(os.environ.get(name) for name in _PROXIES):  # there, 127.0.0.1 is the proxy's machine
        words += ["--noproxy", "'*'"]
    words += options
    if server.run.key_file.is_file():
        keys = shlex.quote(str(server.run.key_file))
        words.append(f'-H "Authorization: Bearer $(jq -r .{kind}.key {keys})"')
    return " ".join([*words, f"{url}{path}"])
