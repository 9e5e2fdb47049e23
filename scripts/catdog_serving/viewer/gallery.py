"""The images of a page: small ones that the page holds itself, and links to the files beside it."""

import base64
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from catdog.cpu import usable_cores
from catdog.decode import Decoder
from catdog.invalid_image import InvalidImage
from catdog.transforms import fit_size
from catdog_serving.folder.image_result import ImageFailure, ImageResult
from catdog_serving.image_formats import folder_decoder
from catdog_serving.ordered_map import ordered_map

_SHORTER_SIDE = 128
_LONGER_SIDE = 256
# On photos of 500 px: 2.2 KB on average, 2 ms, most of them for decoding. JPEG of the
# same look has 3.4 KB.
_WEBP = {"quality": 45, "method": 2}

_SHOWN = ("label", "cat", "dog", "other", "breed", "top", "box", "map")  # of a prediction


def shown_row(row: ImageResult) -> dict[str, Any]:
    """A row of a run as an item: what is shown of it, where it lies by now, and its certainty."""
    file, answer = row.file, row.outcome
    item = {"path": str(file.moved_to or file.path), "size": file.size}
    if isinstance(answer, ImageFailure):
        return item | {"error": asdict(answer)}
    values = replace(answer, breed=answer.certain_breed).to_dict(with_map=True)
    return item | {key: values.get(key) for key in _SHOWN} | {"certainty": answer.certainty}


def gallery_items(items: Sequence[dict[str, Any]], page: Path) -> Iterator[dict[str, Any]]:
    """Add to each item what shows its file, on all cores, as it is asked for.

    Args:
        items: With a `path`, relative to the working directory; with an `error` if it failed.
        page: The .html file that will show them.

    Returns:
        The items in order with a `link` (see `file_link`) and a `thumbnail` (see `thumbnail`),
        which is None for what failed.
    """
    decoder, folder = folder_decoder(), os.path.abspath(page.parent)

    def with_file(item: dict[str, Any]) -> dict[str, Any]:
        path = item["path"]
        image = None if "error" in item else thumbnail(Path(path), decoder)
        return item | {"link": file_link(path, folder), "thumbnail": image}

    return ordered_map(with_file, items, usable_cores())


def thumbnail(path: Path, decoder: Decoder) -> str | None:
    """What `make_thumbnail` makes of a file; None if there is no readable image."""
    try:
        return make_thumbnail(path.read_bytes(), decoder)
    except (OSError, ValueError, InvalidImage):  # ValueError: the path cannot be a file's
        return None


def make_thumbnail(content: bytes, decoder: Decoder) -> str:
    """A small image as the data URI of a WebP one, upright.

    It has about 128 px on its shorter side and at most 256 px on the longer.

    Raises:
        InvalidImage: If it is none.
    """
    with decoder.decoded(content, 2 * _SHORTER_SIDE) as (upright, _):
        size = fit_size(upright.size, _SHORTER_SIDE, _LONGER_SIDE)
        small = upright.resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", **_WEBP)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def file_link(path: str, folder: str) -> str | None:
    """A link from a page in `folder` to a file, relative and percent-encoded.

    It begins with a dot and holds no colon, so that no name can become a scheme such
    as javascript:. None for a name that cannot be a file's.
    """
    try:
        return "./" + quote(os.fsencode(os.path.relpath(path, folder)))
    except ValueError:  # of which UnicodeEncodeError is one
        return None
