"""The images of a page: small ones that the page holds itself, and links to the files beside it."""

import base64
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from catdog.cpu import usable_cores
from catdog.decode import Decoder
from catdog.invalid_image import InvalidImage
from catdog.results import UNCERTAIN_BELOW
from catdog.transforms import fit_size
from catdog_serving.image_formats import folder_decoder
from catdog_serving.ordered_map import ordered_map

_SHORTER_SIDE = 128
_LONGER_SIDE = 256
# On photos of 500 px: 2.2 KB on average, 2 ms, most of them for decoding. JPEG of the
# same look has 3.4 KB.
_WEBP = {"quality": 45, "method": 2}

# The number that stands behind each label: its certainty.
_NUMBER_OF_LABEL = {"cat": "cat", "dog": "dog", "neither": "other"}
_SHOWN = ("path", "size", "label", "cat", "dog", "other", "breed", "top", "box", "map")


def shown_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a run as an item: what is shown of it, and its certainty.

    Args:
        row: As `ImageResult.to_dict` gives it.
    """
    if "error" in row:
        return {key: row.get(key) for key in ("path", "size", "error")}
    certainty = row[_NUMBER_OF_LABEL[row["label"]]]
    item = {key: row.get(key) for key in _SHOWN} | {"certainty": certainty}
    return item if certainty >= UNCERTAIN_BELOW else item | {"breed": None}


def gallery_items(items: Sequence[dict[str, Any]], page: Path) -> Iterator[dict[str, Any]]:
    """Add to each item what shows its file, as it is asked for.

    Args:
        items: With a `path`, relative to the working directory; with an `error` if it failed.
        page: The .html file that will show them.

    Returns:
        The items in order with a `link` (see `file_link`) and a `thumbnail` (see `thumbnails`),
        which is None for what failed.
    """
    folder = os.path.abspath(page.parent)
    images = thumbnails(None if "error" in item else Path(item["path"]) for item in items)
    for item, image in zip(items, images, strict=True):
        yield item | {"link": file_link(item["path"], folder), "thumbnail": image}


def thumbnails(paths: Iterable[Path | None]) -> Iterator[str | None]:
    """Make a thumbnail of each image, on all cores.

    Returns:
        For each path, in order, the data URI of a WebP image, upright, about 128 px
        on its shorter side and at most 256 px on the longer; None if there is no
        readable image.
    """
    decoder = folder_decoder()
    return ordered_map(lambda path: _thumbnail(path, decoder), paths, usable_cores())


def _thumbnail(path: Path | None, decoder: Decoder) -> str | None:
    try:
        return None if path is None else make_thumbnail(path.read_bytes(), decoder)
    except (OSError, ValueError, InvalidImage):  # ValueError: the path cannot be a file's
        return None


def make_thumbnail(content: bytes, decoder: Decoder) -> str:
    """One image of `thumbnails`.

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
