"""Rows of a folder run that was never made."""

from pathlib import Path

from catdog.results import Label
from catdog_serving.folder.image_result import FileInfo, ImageFailure, ImageResult
from tests.support.stub_backend import prediction

MTIME_NS = 1795505454409342769  # one that a float would round


def image(name: str, label: Label = "cat") -> ImageResult:
    """A file that was classified."""
    return ImageResult(FileInfo(Path(name), 3, MTIME_NS, "ab"), prediction(label, 0.8, 0.1))


def failure(name: str, kind: str = "InvalidImage") -> ImageResult:
    """A file that failed."""
    return ImageResult(FileInfo(Path(name), 3, 4, "ab"), ImageFailure(kind, "cannot decode [12]"))
