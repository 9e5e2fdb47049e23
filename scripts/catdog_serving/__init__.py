"""The host side of catdog: client, command line, packaging, serving, folders.

from catdog_serving import CatDogClient

with CatDogClient("http://127.0.0.1:8080") as client:
    print(client.classify("chelsea.png").label)
"""

from catdog_serving.client import CatDogClient
from catdog_serving.errors import (
    CatDogError,
    InvalidImageError,
    ServerBusyError,
    ServerError,
    ServerUnavailableError,
)

__all__ = [
    "CatDogClient",
    "CatDogError",
    "InvalidImageError",
    "ServerBusyError",
    "ServerError",
    "ServerUnavailableError",
]
