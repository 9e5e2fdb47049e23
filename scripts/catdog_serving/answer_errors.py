"""The errors that a server's answers stand for, and what to do where none came."""

import re

import requests

from catdog_serving.errors import (
    InvalidImageError,
    ServerBusyError,
    ServerError,
    ServerUnavailableError,
)

TOO_LARGE = "the file is larger than the server accepts (max_request_size)"
# OpenSSL's own words, without where in its source they stand.
_CERTIFICATE_ERROR = re.compile(r"certificate verify failed: ([^(]+?) \(")


def why_no_answer(url: str, error: requests.RequestException) -> str:
    """Why there is no answer, and what to do."""
    if isinstance(error, requests.exceptions.SSLError):
        found = _CERTIFICATE_ERROR.search(str(error))
        if found:
            return (
                f"the certificate of {url} is not trusted ({found[1]}); "
                "REQUESTS_CA_BUNDLE=FILE names those to trust"
            )
        return f"no TLS connection to {url}; does it speak https?"
    took_long = isinstance(error, requests.Timeout)
    how = f" ({type(error).__name__})" if took_long else ""
    return f"no answer from {url}{how}; is it running? start it with: catdog serve"


def error_of_answer(response: requests.Response) -> ServerError:
    """The error that an answer stands for."""
    status = response.status_code
    kind, message = _error_body(response)
    if kind == "InvalidImage":
        return InvalidImageError(message, status=status, kind=kind)
    if status == 413:  # TorchServe's own, without a body
        return InvalidImageError(TOO_LARGE, status=413)
    renewing = kind == "InvalidKeyException" and "Retry-After" in response.headers
    if renewing or status in (429, 503, 504):  # nginx says so, of its own token; and 429 and 504
        return ServerBusyError(
            "the server's queue is full or it has no worker" if status == 503 else message,
            status=status,
            kind=kind,
            retry_after_s=_retry_after_s(response),
        )
    if status in (500, 507):  # "Worker died.": it is started again by itself
        return ServerUnavailableError(f"the server lost its worker: {message}", status=status)
    return ServerError(f"the server answered {status}: {message}", status=status, kind=kind)


def _error_body(response: requests.Response) -> tuple[str, str]:
    """type and message of TorchServe's error shape."""
    try:
        body = response.json()
        return str(body["type"]), str(body["message"])
    except (requests.JSONDecodeError, KeyError, TypeError):
        return "", response.text.strip()[:200]


def _retry_after_s(response: requests.Response) -> int:
    """What nginx asks for in whole seconds, at most a minute; 0 when there is nothing."""
    value = response.headers.get("Retry-After", "")
    return min(int(value), 60) if value.isascii() and value.isdigit() else 0
