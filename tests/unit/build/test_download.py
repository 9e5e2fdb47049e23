import hashlib
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from catdog_serving.build.download import download
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.private_config import free_ports
from tests.support.http_servers import Answer, http_server, send

CONTENT = bytes(range(256)) * 20_000  # 5 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def fails(tmp_path: Path, answer: Answer, message: str, **options: float) -> None:
    """A failed download says why, leaves nothing, and leaves what was there before."""
    for existing in (None, b"older"):
        target = tmp_path / "weights.pth"
        if existing:
            target.write_bytes(existing)
        with http_server(answer) as url, pytest.raises(NotReadyError, match=message):
            download(f"{url}/weights.pth", target, DIGEST[:8], **options)
        assert list(tmp_path.iterdir()) == ([target] if existing else [])
        assert existing is None or target.read_bytes() == existing


def test_a_good_file_arrives_whole(tmp_path: Path) -> None:
    target = tmp_path / "made" / "weights.pth"
    said: list[str] = []
    with http_server(lambda request, _: send(request, 200, CONTENT)) as url:
        download(f"{url}/weights.pth", target, DIGEST[:8], on_work=said.append)
    assert said[0] == "downloading weights.pth"
    assert said[1:3] == [f"downloading weights.pth: {mb} of 5 MB" for mb in (1, 2)]
    assert said[-1] == "downloading weights.pth: 5 of 5 MB"
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_a_wrong_hash_is_thrown_away(tmp_path: Path) -> None:
    fails(tmp_path, lambda request, _: send(request, 200, CONTENT[:-1] + b"x"), "expected")


def test_a_cut_connection_is_thrown_away(tmp_path: Path) -> None:
    def cut(request: BaseHTTPRequestHandler, _: bytes) -> None:
        send(request, 200, CONTENT[: 3 << 20], length=len(CONTENT))

    fails(tmp_path, cut, "the connection was cut")


def test_a_404_is_reported(tmp_path: Path) -> None:
    fails(tmp_path, lambda request, _: send(request, 404, b"no"), "the server answered 404")


def test_a_silent_server_is_not_waited_for(tmp_path: Path) -> None:
    release = threading.Event()
    try:
        fails(
            tmp_path,
            lambda request, _: bool(release.wait(30)),
            "the server stopped answering",
            read_timeout_s=0.2,
        )
    finally:
        release.set()


def test_no_server_at_all(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(NotReadyError, match="no connection"):
        download(f"http://127.0.0.1:{port}/x.pth", tmp_path / "x.pth", DIGEST[:8])
