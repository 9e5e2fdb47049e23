"""TorchServe's tokens: read from the key file that the server wrote, and renewed when they end."""

import fcntl
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from catdog_serving.client import CatDogClient
from catdog_serving.config_folder import default_config
from catdog_serving.errors import NotReadyError
from catdog_serving.http_session import is_loopback, open_session
from catdog_serving.torchserve.management import TIMEOUT_S, poll
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.start_options import as_served

Kind = Literal["inference", "management"]

_REFUSED = "InvalidKeyException"
_WRITING_S = 1.0  # TorchServe writes the file in place; it takes milliseconds


@dataclass(frozen=True)
class Token:
    """What a server wants to be sent, and until when.

    Attributes:
        key: It stands behind "Bearer" in a request's Authorization.
        ends: When the server begins to refuse it.
    """

    key: str
    ends: datetime

    @property
    def left_s(self) -> float:
        """Seconds until it ends; negative after that."""
        return (self.ends - datetime.now(UTC)).total_seconds()


@dataclass(frozen=True)
class KeyFile:
    """The key file of one server, and the way to a new token.

    A server has one token of a kind. It makes a new one when it is asked to, and refuses the
    old one from then on: so two who renew would undo each other. It is done under a lock, by
    whoever is first to find that the date has passed.

    Attributes:
        path: The file; a server without tokens writes none.
        management_url: Where the server is asked for a new token.
    """

    path: Path
    management_url: str

    def token(self, kind: Kind) -> Token | None:
        """The token that the file has now; None without a file.

        Raises:
            NotReadyError: If there are no tokens in it.
        """
        keys = self._read()
        if keys is None:
            return None
        entry = keys[kind]
        return Token(entry["key"], _date(entry))

    def renewed(self, kind: Kind, key: str | None, left_s: float = 0) -> Token | None:
        """The token to go on with: another one than `key`, unless that is still good.

        Args:
            kind: Which of the tokens.
            key: What was sent, and refused or found to end soon.
            left_s: It is renewed when fewer seconds than this are left of it.

        Returns:
            None without a file. One with the same key if the server makes no new one.

        Raises:
            NotReadyError: If there are no tokens in the file.
            requests.RequestException: If the server cannot be asked.
        """
        try:
            file = self.path.open("r+")  # never written to; to lock it, NFS wants it like this
        except (FileNotFoundError, PermissionError):
            return None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            token = self.token(kind)
            if token is None or token.key != key or token.left_s > left_s:
                return token
            self._make_new(kind)
            return self.token(kind)

    def _make_new(self, kind: Kind) -> None:
        keys = self._read()
        if keys is None:
            return
        session, asked = open_session(self.management_url)
        with session:
            session.trust_env = False  # it is this machine's own server
            session.get(
                f"{asked}/token",
                params={"type": kind},
                headers={"Authorization": f"Bearer {keys['API']['key']}"},
                timeout=TIMEOUT_S,
            )

    def _read(self) -> dict[str, dict[str, str]] | None:
        """The file's entries by kind; None without a file that this user may read."""
        try:
            keys = poll(self._whole, _WRITING_S, 0.01)
        except (FileNotFoundError, PermissionError):  # another user's server, if it wants any
            return None
        if not keys:
            raise NotReadyError(f"{self.path} holds no tokens; to have new ones: catdog restart")
        return keys

    def _whole(self) -> dict[str, dict[str, str]] | None:
        """The entries; None while the server is writing them."""
        try:
            keys: dict[str, dict[str, str]] = json.loads(self.path.read_text(encoding="utf-8"))
            for kind in ("inference", "management"):
                _date(keys[kind])
            return keys if all(keys[kind]["key"] for kind in keys) and keys["API"] else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


class KeyFileAuth(AuthBase):
    """Sends the token of a key file; one that is refused is read again, or renewed, once.

    The refusal stands, and nothing is renewed, while the file has that very token and its date
    has not passed. Without a file nothing is sent: a server without tokens writes none.
    """

    def __init__(self, file: KeyFile, kind: Kind) -> None:
        self._file = file
        self._kind = kind
        self._key: str | None = None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is None:
            token = self._file.token(self._kind)
            self._key = token.key if token else None
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        request.hooks["response"].append(self._try_again)
        return request

    def _try_again(self, response: requests.Response, **options: Any) -> requests.Response:
        """Send a refused request once more, if there is another token by now."""
        if response.status_code != 400 or _REFUSED not in response.text:
            return response
        sent = response.request.headers.get("Authorization", "").removeprefix("Bearer ") or None
        token = self._file.renewed(self._kind, sent)
        if token is None or token.key == sent:
            return response
        self._key = token.key
        request = response.request.copy()
        request.headers["Authorization"] = f"Bearer {token.key}"
        response.close()
        again: requests.Response = response.connection.send(request, **options)
        again.request = request
        return again


def _date(entry: dict[str, str]) -> datetime:
    return datetime.fromisoformat(entry["expiration time"]).astimezone(UTC)


def find_auth(url: str, config_path: Path | None = None) -> AuthBase | None:
    """The inference token of this machine's own server, if `url` is that server's.

    A token is never sent to another address than the one it belongs to.

    Args:
        url: Where the requests will go.
        config_path: The server's config.properties; by default the one here.
    """
    try:
        config = ServingConfig.read(config_path or default_config())
    except NotReadyError:
        return None  # no catdog server is configured here
    run = RunDirectory.of(config)
    served = as_served(config, run)
    if not _is_same_server(url, served.inference_url):
        return None
    key_file = KeyFile(run.key_file, served.management_url)
    return KeyFileAuth(key_file, "inference")


def open_client(url: str, config_path: Path | None = None, **options: Any) -> CatDogClient:
    """A client that knows the tokens of this machine's own server, if `url` is that server's.

    Another server gets the `token` of the options, or what CATDOG_TOKEN has.

    Args:
        url: The server's inference address.
        config_path: The config.properties to find that server by; by default the one here.
        options: What else `CatDogClient` takes.
    """
    return CatDogClient(url, auth=find_auth(url, config_path), **options)


def _is_same_server(url: str, own: str) -> bool:
    served = urlsplit(own)
    try:
        asked = urlsplit(url)
        has_its_port = asked.port == served.port
    except ValueError:  # asking says what is wrong with it
        return False
    if not has_its_port or asked.hostname is None:
        return False
    names = {asked.hostname, served.hostname}
    if len(names) == 1:
        return True
    listens_everywhere = served.hostname in ("0.0.0.0", "::")  # noqa: S104 (compared, not bound)
    by_name = "localhost" in names and names <= {"localhost", "127.0.0.1", "::1"}
    return by_name or (listens_everywhere and is_loopback(asked.hostname))
