"""Rows of a folder's report, and names that a page must show as text."""

from pathlib import Path
from typing import Any

from catdog.results import Prediction
from catdog_serving.folder.image_result import FileInfo, ImageFailure, ImageResult

HOSTILE = [
    "<img src=x onerror=alert(1)>.jpg",
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "a&b &lt; &amp;.png",
    "\"quotes\" and 'quotes' \\ and \\u003c",
    "line\u2028and\u2029paragraph\nbreak",
    "byte \udcff alone",
    "\x00\x1f\x7f",
    "katze-größe-猫.webp",
]


MODEL = {"network": "net", "weights": "ids", "precision": "fp32", "untrained": False}


def image(
    path: str, cat: float, dog: float, label: str | None = None, breed: str = "tabby", **more: Any
) -> ImageResult:
    """One that was classified; `more` are keys of the answer."""
    answer = {
        "label": label or ("cat" if cat > dog else "dog"),
        "cat": cat,
        "dog": dog,
        "other": round(1 - cat - dog, 6),
        "breed": {"name": breed, "index": 281, "share": 0.5, "probability": cat / 2},
        "top": [{"index": 281, "name": "tabby", "probability": cat}],
        "box": None,
        "network": "net",
        "weights": "ids",
        "precision": "fp32",
        "version": "1.0",
    }
    return ImageResult(FileInfo(Path(path), 1234), Prediction.from_dict(answer | more))


def failure(path: str, message: str = "cannot decode", kind: str = "InvalidImage") -> ImageResult:
    return ImageResult(FileInfo(Path(path)), ImageFailure(kind, message))


def folder(images: int, failed: int = 0) -> dict[str, Any]:
    return {
        "folder": "album",
        "images": images,
        "failed": failed,
        "skipped": 1,
        "seconds": 2.0,
        "images_per_s": images / 2,
        "mean_cat": 0.5 if images else None,
        "mean_dog": 0.25 if images else None,
        "labels": {},
    }
