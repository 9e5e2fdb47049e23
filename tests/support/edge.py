"""A real nginx with config/nginx.conf, installed and started as docs/edge.md says.

The document's commands are run as they stand; only their folders are private ones, and
`sudo`, `apt-get` and `systemctl` are stand-ins. Of the configuration only site.conf is
changed, in the values that it is there for.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from catdog_serving.torchserve.private_config import free_ports
from tests.support.paths import ROOT
from tests.support.processes import wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
COMMANDS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "edge.md").read_text(), re.DOTALL)
INSTALL, CERTIFICATE, FIRST_KEY, NEW_KEY, DROP_KEY, UPGRADE, TOKEN = COMMANDS

# What the operator's machine does and a test must not.
_STAND_INS = """
set -euo pipefail
sudo() { "$@"; }
apt-get() { :; }
nginx() { "$NGINX_BINARY" -c "$ETC/nginx.conf" -g "pid $FOLDER/nginx.pid;" "$@" || exit; }
systemctl() { case $1 in restart) nginx ;; reload) nginx -s reload ;; esac; }
catdog() { "$PYTHON" -m catdog_serving "$@" --config "$CONFIG"; }
"""
# `nginx` for a program that calls it: the one of this test.
_PROGRAM = """#!/bin/sh
exec {nginx} -c {etc}/nginx.conf -g 'pid {folder}/nginx.pid;' "$@"
"""


@dataclass
class Edge:
    """One nginx: where it listens, its folder, and keys that nobody else uses."""

    folder: Path
    port: int
    plain_port: int
    keys: Iterator[str] = field(init=False)
    first_key: str = field(init=False)

    @property
    def etc(self) -> Path:
        """What is /etc/nginx on an operator's machine."""
        return self.folder / "etc"

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def keys_file(self) -> Path:
        return self.etc / "nginx" / "api-keys.map"

    @property
    def certificate(self) -> Path:
        return self.etc / "nginx" / "certificate.pem"

    @property
    def pid(self) -> int:
        return int((self.folder / "nginx.pid").read_text())

    def run(self, commands: str, **environment: str) -> str:
        """Run the document's commands; what they print."""
        commands = (
            commands.replace("/etc/nginx", str(self.etc))
            .replace("/var/www/catdog", str(self.folder / "www"))
            .replace("https://localhost/", f"{self.url}/")
        )
        # Into files: nginx keeps its standard error open as long as it runs.
        output, errors = self.folder / "output", self.folder / "errors"
        with output.open("w") as stdout, errors.open("w") as stderr:
            result = subprocess.run(
                ["bash", "-c", _STAND_INS + commands],
                cwd=ROOT,
                env={
                    "PATH": f"{self.folder}/bin:/usr/sbin:/usr/bin:/bin",
                    "PYTHON": sys.executable,
                    "NGINX_BINARY": str(NGINX),
                    "ETC": str(self.etc),
                    "FOLDER": str(self.folder),
                    **environment,
                },
                stdout=stdout,
                stderr=stderr,
                timeout=60,
                check=False,
            )
        assert result.returncode == 0, output.read_text() + errors.read_text()
        return output.read_text()

    def request(
        self, method: str, path: str, *, key: str | None = None, **options: Any
    ) -> requests.Response:
        """One request on a connection of its own."""
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
        return requests.request(
            method,
            self.url + path,
            headers=headers,
            verify=str(self.certificate),
            timeout=60,
            **options,
        )

    def post(self, body: bytes, key: str, **headers: str) -> requests.Response:
        return self.request("POST", "/predictions/catdog", key=key, data=body, headers=headers)

    def connect(
        self, context: ssl.SSLContext | None = None, source: str = "127.0.0.1"
    ) -> ssl.SSLSocket:
        context = context or ssl.create_default_context(cafile=str(self.certificate))
        return context.wrap_socket(self.connect_plain(source), server_hostname="localhost")

    def connect_plain(self, source: str) -> socket.socket:
        """A connection of the TLS port's from an address of this machine, before any TLS."""
        address = ("127.0.0.1", self.port)
        return socket.create_connection(address, timeout=30, source_address=(source, 0))

    def exchange(self, sent: bytes) -> bytes:
        """Everything that comes back for these bytes until the connection is closed."""
        with self.connect() as connection:
            connection.sendall(sent)
            return receive(connection)

    def log_entry(self, request_id: str) -> dict[str, Any]:
        """The access log's line of a request, once it is there."""
        log = self.folder / "log" / "catdog-access.log"
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            entries = [json.loads(line) for line in log.read_text().splitlines()]
            found[:] = [entry for entry in entries if entry["id"] == request_id]
            return bool(found)

        wait_until(arrived, f"an access log line of {request_id}")
        (entry,) = found
        return entry


@contextmanager
def running_edge(upstream: str, key_count: int = 40) -> Iterator[Edge]:
    """nginx in front of `upstream` (HOST:PORT), with a first key by the document's commands.

    The other keys are for one test each: their names are key-0, key-1 and so on.
    """
    if NGINX is None:
        pytest.skip("there is no nginx; on Debian: apt-get install nginx")
    # Not under pytest's folder, which nobody but its owner may enter: as root, nginx's workers
    # run as www-data.
    folder = Path(tempfile.mkdtemp(prefix="catdog-edge-"))
    folder.chmod(0o755)
    try:
        for name in ("etc", "log", "temporary", "bin"):
            (folder / name).mkdir()
        edge = Edge(folder, *free_ports(2))
        program = folder / "bin" / "nginx"
        program.write_text(_PROGRAM.format(nginx=NGINX, etc=edge.etc, folder=folder))
        program.chmod(0o755)
        edge.run(INSTALL)
        edge.run(CERTIFICATE)
        write_site(edge, upstream)
        keys = [secrets.token_hex(32) for _ in range(key_count)]
        edge.keys_file.write_text("".join(f"{key} key-{n};\n" for n, key in enumerate(keys)))
        edge.keys = iter(keys)
        shown = edge.run(FIRST_KEY.partition("curl")[0])
        edge.first_key = shown.split()[-1]
        yield edge
    finally:
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            nginx = psutil.Process(int((folder / "nginx.pid").read_text()))
            workers = nginx.children(recursive=True)
            os.kill(nginx.pid, signal.SIGTERM)
            psutil.wait_procs([nginx, *workers], timeout=10)
        shutil.rmtree(folder)


def write_site(edge: Edge, upstream: str) -> None:
    """config/nginx/site.conf with its values changed, and nginx's compiled-in paths."""
    text = (ROOT / "config" / "nginx" / "site.conf").read_text()
    values = {
        "127.0.0.1:8080": upstream,
        "catdog.example.org": "localhost",
        "/etc/nginx/nginx": str(edge.etc / "nginx"),
        "/var/log/nginx": str(edge.folder / "log"),
        "/var/www/catdog": str(edge.folder / "www"),
        "listen 443 ": f"listen 127.0.0.1:{edge.port} ",
        "listen 80 ": f"listen 127.0.0.1:{edge.plain_port} ",
        "listen [::]:443 ": f"listen [::1]:{edge.port} ",
        "listen [::]:80 ": f"listen [::1]:{edge.plain_port} ",
    }
    for old, new in values.items():
        assert old in text, old
        text = text.replace(old, new)
    if not has_ipv6():
        text = re.sub(r"^ *listen \[::1\].*\n", "", text, flags=re.MULTILINE)
    for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi"):
        text += f"{kind}_temp_path {edge.folder}/temporary/{kind};\n"
    (edge.etc / "nginx" / "site.conf").write_text(text)


def has_ipv6() -> bool:
    """Whether this machine has IPv6's loopback address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def receive(connection: socket.socket) -> bytes:
    """Everything until the other side closes, politely or not."""
    parts = []
    with suppress(ConnectionResetError, ssl.SSLError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def raw_request(request_line: str, key: str, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of a request with a key, after which the connection is closed."""
    lines = [request_line, "Host: localhost", f"Authorization: Bearer {key}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def status_and_body(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def assert_own_error(answer: requests.Response, status: int, kind: str) -> None:
    """An answer of nginx's own in the shape of TorchServe's errors."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert body == {"code": status, "type": kind, "message": body["message"]}
