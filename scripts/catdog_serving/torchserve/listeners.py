"""Who listens where a server of this configuration would: another user's, or another program."""

import pwd
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from catdog_serving.http_session import HttpSession
from catdog_serving.torchserve.serving_config import ServingConfig

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"  # TCP_LISTEN (Linux, include/net/tcp_states.h)
_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Listener:
    """What listens at one address.

    Attributes:
        key: The configuration's name of the address, such as "management_address".
        port: Its port.
        program: What it seems to be, as part of a sentence.
        user: Whose it is.
        is_torchserve: Whether it answers as TorchServe's management API does.
    """

    key: str
    port: int
    program: str
    user: str
    is_torchserve: bool

    def __str__(self) -> str:
        return (
            f"{self.program} of user {self.user} listens on port {self.port} ({self.key}), which "
            "catdog did not start for this user and configuration"
        )


def find_listener(config: ServingConfig) -> Listener | None:
    """The first of the addresses where something listens, the management API's before all."""
    endpoints = config.endpoints()
    for name in sorted(endpoints, key=lambda name: name != "management_address"):
        port = endpoints[name][1]
        uid = _listening_user(port)
        if uid is None:
            continue
        program = _program(config.management_url) if name == "management_address" else None
        return Listener(name, port, program or "a program", _user_name(uid), program is not None)
    return None


def is_taken(host: str, port: int) -> bool:
    """Whether a server could not listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _program(management_url: str) -> str | None:
    """TorchServe, if it is one that answers."""
    with suppress(requests.RequestException, ValueError, KeyError, TypeError):
        with HttpSession() as session:
            answer = session.get(f"{management_url}/models", timeout=_TIMEOUT_S)
        if answer.status_code == 200 and "models" in answer.json():
            return "a TorchServe"
        if answer.json()["type"] == "InvalidKeyException":
            return "a TorchServe that wants tokens"
    return None


def _listening_user(port: int) -> int | None:
    """The user whose process listens on a TCP port; everybody may look (Linux, proc(5))."""
    for table in _TABLES:
        with suppress(OSError):  # a machine without IPv6 has one table
            for line in table.read_text().splitlines()[1:]:
                _, local, _, state, *_, _, uid = line.split()[:8]
                if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                    return int(uid)
    return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
