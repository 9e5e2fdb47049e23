"""The host side of catdog: client, command line, packaging, serving, folders.

from catdog_serving import CatDogClient

with CatDogClient("http://127.0.0.1:8080") as client:
    print(client.classify("chelsea.png").label)
"""

from typing import TYPE_CHECKING, Any

from catdog.results import Box, Breed, Explanation, Label, Prediction
from catdog_serving.client import CatDogClient
from catdog_serving.errors import (
    CatDogError,
    InvalidImageError,
    ServerBusyError,
    ServerError,
    ServerUnavailableError,
)

if TYPE_CHECKING:
    from catdog_serving.local import LocalClassifier

__all__ = [
    "Box",
    "Breed",
    "CatDogClient",
    "CatDogError",
    "Explanation",
    "InvalidImageError",
    "Label",
    "LocalClassifier",
    "Prediction",
    "ServerBusyError",
    "ServerError",
    "ServerUnavailableError",
]


if not TYPE_CHECKING:  # or every name would be known to a type checker, and be Any

    def __getattr__(name: str) -> Any:
        """`LocalClassifier`, imported when it is asked for: its decoders are not the client's."""
        if name == "LocalClassifier":
            from catdog_serving.local import LocalClassifier

            return LocalClassifier
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
