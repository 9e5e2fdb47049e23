"""What a client says of a server whose certificate it does not trust."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from catdog_serving import CatDogClient, ServerUnavailableError
from tests.support.http_servers import serving

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of this machine that signs itself, with its key."""
    place = tmp_path / "own.pem"
    subprocess.run(
        [
            *(str(OPENSSL), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", place, "-out", tmp_path / "certificate"),
        ],
        check=True,
        capture_output=True,
    )
    with place.open("a") as file:
        file.write((tmp_path / "certificate").read_text())
    return place


@pytest.fixture
def url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield f"https://127.0.0.1:{server.server_port}"


def test_a_certificate_that_is_not_trusted_is_told_as_that(
    url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CatDogClient(url, retries=0) as client:
        with pytest.raises(ServerUnavailableError) as refused:
            client.classify(b"an image")
        assert str(refused.value) == (
            f"the certificate of {url} is not trusted (self-signed certificate); "
            "REQUESTS_CA_BUNDLE=FILE names those to trust"
        )
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with pytest.raises(Exception, match="answered 501"):  # it was asked
            client.classify(b"an image")
