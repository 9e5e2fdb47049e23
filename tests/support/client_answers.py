"""What a server answers a client, one answer after the other."""

import json
from http.server import BaseHTTPRequestHandler

from tests.support.http_servers import send

BUSY = {"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}


class Script:
    """Answers the given (status, body) pairs in turn, the last one for ever."""

    def __init__(self, *answers: tuple[int, object]) -> None:
        self._answers = iter(answers)
        self._last = answers[-1]
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.requests.append((request.path, dict(request.headers), body))
        status, answer = next(self._answers, self._last)
        send(request, status, json.dumps(answer).encode() if answer is not None else b"")
