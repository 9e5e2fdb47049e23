"""As much of S3 as listing and reading a bucket takes, on loopback."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.http_servers import http_server

MODIFIED = "2001-09-09T01:46:40.000Z"
MODIFIED_NS = 10**18
_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


@contextmanager
def object_store(objects: dict[str, bytes]) -> Iterator[str]:
    """Serve one bucket of any name that S3 allows; gives the endpoint's URL."""

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        url = urlsplit(request.path)
        bucket, _slash, key = unquote(url.path).strip("/").partition("/")
        if not re.fullmatch("[a-z0-9.-]+", bucket):
            _send(request, 404, b"<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>")
        elif not key:
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            _send(request, 200, _listing(objects, query.get("prefix", "")))
        elif key in objects:
            _send(request, 200, objects[key])
        else:
            _send(request, 404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")

    with http_server(answer) as endpoint:
        yield endpoint


def _listing(objects: dict[str, bytes], prefix: str) -> bytes:
    """What lies directly below a prefix (ListObjectsV2 with the delimiter "/")."""
    below = [key for key in sorted(objects) if key.startswith(prefix)]
    folders = {
        prefix + name + "/"
        for name, slash, _ in (key[len(prefix) :].partition("/") for key in below)
        if slash
    }
    entries = [
        f"<Contents><Key>{key}</Key><LastModified>{MODIFIED}</LastModified>"
        f"<Size>{len(objects[key])}</Size></Contents>"
        for key in below
        if "/" not in key[len(prefix) :]
    ] + [f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders]
    count = f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>false</IsTruncated>"
    body = f'<ListBucketResult xmlns="{_XMLNS}">{count}{"".join(entries)}</ListBucketResult>'
    return body.encode()


def _send(request: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
    """Answer GET with a range, and HEAD, as S3 does."""
    body = content
    asked = request.headers.get("Range")
    if asked and status == 200:
        first, last = asked.removeprefix("bytes=").split("-")
        body, status = content[int(first) : int(last) + 1], 206
    request.send_response(status)
    request.send_header("Last-Modified", "Sun, 09 Sep 2001 01:46:40 GMT")
    request.send_header("x-amz-bucket-region", "us-east-1")
    request.send_header("Content-Length", str(len(body)))
    if status == 206:
        request.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
