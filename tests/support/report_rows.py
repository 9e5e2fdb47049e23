"""Rows of a folder's report, and names that a page must show as text."""

from typing import Any

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


def image(path: str, cat: float, dog: float, label: str | None = None) -> dict[str, Any]:
    return {
        "path": path,
        "size": 1234,
        "mtime_ns": 1,
        "sha256": "0" * 64,
        "label": label or ("cat" if cat > dog else "dog"),
        "cat": cat,
        "dog": dog,
        "other": round(1 - cat - dog, 6),
        "breed": {"name": "tabby", "index": 281, "share": 0.5, "probability": cat / 2},
        "top": [{"index": 281, "name": "tabby", "probability": cat}],
        "box": None,
        "network": "net",
        "weights": "ids",
        "precision": "fp32",
        "version": "1.0",
    }


def failure(path: str, message: str = "cannot decode") -> dict[str, Any]:
    nothing = {"size": None, "mtime_ns": None, "sha256": None}
    return {"path": path, **nothing, "error": {"type": "InvalidImage", "message": message}}


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
