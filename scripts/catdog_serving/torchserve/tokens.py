"""TorchServe's tokens: read from the key file that the server wrote."""

import json
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from catdog_serving.client import CatDogClient
from catdog_serving.errors import NotReadyError
from catdog_serving.http_session import is_loopback
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.serving_config import ServingConfig, default_config

Kind = Literal["inference", "management"]

_REFUSED = "InvalidKeyException"


class KeyFileAuth(AuthBase):
    """Sends the token of a key file; reads the file again, once, when it is refused.

    TorchServe writes a new token into the file when it is rotated or the server is
    restarted, and refuses the old one from then on. Without a file nothing is sent:
    a server without tokens writes none.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self._path = path
        self._kind = kind
        self._token: str | None = None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is None:
            self._token = self._read()
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        request.hooks["response"].append(self._try_again)
        return request

    def _try_again(self, response: requests.Response, **options: Any) -> requests.Response:
        """Send a refused request once more, if the file has another token by now."""
        if response.status_code != 400 or _REFUSED not in response.text:
            return response
        token = self._read()
        if token is None or response.request.headers.get("Authorization") == f"Bearer {token}":
            return response
        self._token = token
        request = response.request.copy()
        request.headers["Authorization"] = f"Bearer {token}"
        response.close()
        again: requests.Response = response.connection.send(request, **options)
        again.request = request
        return again

    def _read(self) -> str | None:
        try:
            keys = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None  # no tokens, or the server is writing them just now
        token: str = keys[self._kind]["key"]
        return token


def find_auth(url: str, kind: Kind, config_path: Path | None = None) -> AuthBase | None:
    """The key file of this machine's own server, if `url` is that server's.

    A token is never sent to another address than the one it belongs to.

    Args:
        url: Where the requests will go.
        kind: Which of the server's tokens.
        config_path: The server's config.properties; by default the one here.
    """
    try:
        config = ServingConfig.read(config_path or default_config())
    except NotReadyError:
        return None  # no catdog server is configured here
    own = config.inference_url if kind == "inference" else config.management_url
    if not _is_same_server(url, own):
        return None
    return KeyFileAuth(RunDirectory.of(config).key_file, kind)


def open_client(url: str, config_path: Path | None = None, **options: Any) -> CatDogClient:
    """A client that knows the tokens of this machine's own server, if `url` is that server's.

    Args:
        url: The server's inference address.
        config_path: The config.properties to find that server by; by default the one here.
        options: What else `CatDogClient` takes.
    """
    return CatDogClient(url, auth=find_auth(url, "inference", config_path), **options)


def _is_same_server(url: str, own: str) -> bool:
    asked, served = urlsplit(url), urlsplit(own)
    if asked.port != served.port or asked.hostname is None:
        return False
    listens_everywhere = served.hostname in ("0.0.0.0", "::")  # noqa: S104 (compared, not bound)
    return asked.hostname == served.hostname or (listens_everywhere and is_loopback(asked.hostname))
