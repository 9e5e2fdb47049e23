"""A stand-in for TorchServe with tokens: it keeps, renews and refuses them as that does."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from catdog_serving.torchserve.tokens import KeyFile
from tests.support.answers import ANSWER
from tests.support.http_servers import http_server, send

REFUSED = b'{"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."}'


class Guard:
    """A server with tokens: one of a kind, which ends; a new one kills it and is written slowly."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self.renewals = 0
        self._lock = threading.Lock()
        self.make_new()

    def make_new(self, key: str | None = None) -> None:
        self.key = key or f"key-{self.renewals}"
        self.ends = datetime.now(UTC) + timedelta(seconds=self.seconds)
        date = self.ends.strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"  # as Java has it
        entry = {"key": self.key, "expiration time": date}
        keys = {"management": entry, "inference": entry, "API": {"key": "api"}}
        text = json.dumps(keys, indent=2)
        with self.path.open("w") as file:  # in place
            time.sleep(0.01)
            file.write(text[:70])
            file.flush()
            time.sleep(0.01)
            file.write(text[70:])

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        sent = request.headers.get("Authorization")
        if request.path == "/token?type=inference" and sent == "Bearer api":
            with self._lock:
                self.renewals += 1
                self.make_new()
            send(request, 200, b"{}")
        elif sent == f"Bearer {self.key}" and datetime.now(UTC) < self.ends:
            send(request, 200, json.dumps(ANSWER).encode())
        else:
            send(request, 400, REFUSED)


@contextmanager
def guarded_server(tmp_path: Path, seconds: float) -> Iterator[tuple[Guard, str, KeyFile]]:
    guard = Guard(tmp_path / "key_file.json", seconds)
    with http_server(guard) as url:
        yield guard, url, KeyFile(guard.path, url)
