"""TorchServe's management API as a switch of versions meets it."""

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from catdog_serving.torchserve.management import VersionSettings
from tests.support.fake_server import described
from tests.support.http_servers import send

SETTINGS = VersionSettings(1, 4, 40, 60, 120)
OLD, NEW = "1.0", "2.0"


class Versions:
    """The management API over what was registered: version -> the content of its archive."""

    def __init__(self) -> None:
        self.store = Path()
        self.loaded = {OLD: "old"}
        self.default = OLD

    def __call__(self, request: BaseHTTPRequestHandler, _: bytes) -> None:
        url = urlsplit(request.path)
        version = url.path.split("/")[3] if url.path.count("/") > 2 else ""
        match request.command:
            case "POST":
                file = parse_qs(url.query)["url"][0]
                self.loaded[NEW] = (self.store / file).read_text()
            case "PUT":
                self.default = version
            case "DELETE":
                del self.loaded[version]
            case _:
                return self._describe(request, version)
        return send(request, 200, b"{}")

    def _describe(self, request: BaseHTTPRequestHandler, version: str) -> None:
        named = [*self.loaded] if version == "all" else [version or self.default]
        entries = [described(v, facts={"worker": "9000"}) for v in named if v in self.loaded]
        send(request, 200 if entries else 404, json.dumps(entries).encode())
