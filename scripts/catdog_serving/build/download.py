"""Download one file safely: bounded waits, hash checked, never half a file in place."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import requests

from catdog_serving.atomic_write import scratch_folder
from catdog_serving.errors import NotReadyError
from catdog_serving.http_session import HttpSession

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0  # between two chunks, not for the whole file
_CHUNK_BYTES = 1 << 20
_LINES = 20  # of how far it is


def download(
    url: str,
    target: Path,
    sha256_prefix: str,
    read_timeout_s: float = READ_TIMEOUT_S,
    on_work: Callable[[str], None] = lambda _: None,
) -> None:
    """Fetch `url` into `target`, which appears only when it is complete and right.

    Args:
        url: An http or https address.
        target: The file to make; its folder is made too.
        sha256_prefix: First hex digits of the content's SHA-256, as torchvision
            writes them into file names.
        read_timeout_s: Longest wait for the next piece.
        on_work: Is given a line now and then that says how far it is.

    Raises:
        NotReadyError: If the file cannot be had; the message says why.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target.parent) as scratch:
        partial = scratch / target.name
        try:
            digest = _stream(url, partial, read_timeout_s, on_work)
        except requests.RequestException as error:
            raise NotReadyError(f"cannot download {url}: {_reason(error)}") from error
        if not digest.startswith(sha256_prefix):
            raise NotReadyError(
                f"{url} has SHA-256 {digest[:16]}..., expected {sha256_prefix}...; "
                "the download was thrown away"
            )
        os.replace(partial, target)


def _stream(url: str, partial: Path, read_timeout_s: float, on_work: Callable[[str], None]) -> str:
    """Write the body to `partial`, return its SHA-256."""
    digest, done, said = hashlib.sha256(), 0, 0
    with (
        HttpSession() as session,
        session.get(url, stream=True, timeout=(CONNECT_TIMEOUT_S, read_timeout_s)) as response,
        partial.open("wb") as file,
    ):
        response.raise_for_status()
        on_work(f"downloading {partial.name}")
        total = int(response.headers.get("Content-Length", 0))
        for chunk in response.iter_content(_CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if total and done * _LINES // total > said:
                said = done * _LINES // total
                megabytes = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
                on_work(f"downloading {partial.name}: {megabytes}")
    return digest.hexdigest()


def _reason(error: requests.RequestException) -> str:
    """One line a person understands, instead of urllib3's nested text."""
    if isinstance(error, requests.HTTPError):
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, requests.Timeout):
        return "the server stopped answering"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        return "no connection (is there a network?)"
    return str(error)
