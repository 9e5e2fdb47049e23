"""Small pictures as data URIs, for pages that hold all they show."""

import base64
import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from catdog.memory_budget import MemoryBudget
from catdog.preprocess import (
    DECODE_BYTES_PER_PIXEL,
    InvalidImage,
    Limits,
    opened_image,
    upright_rgb,
)
from catdog_serving.folder.picture_formats import folder_formats

_SHORTER_SIDE = 128
_LONGEST_SIDE = 256
# On photos of 500 px: 2.2 KB on average, 2 ms, most of them for decoding. JPEG of the
# same look has 3.4 KB.
_WEBP = {"quality": 45, "method": 2}

# Where Pillow itself begins to warn. JPEG is decoded at an eighth of its size where that
# is enough, so that only other formats need much memory; they take turns for this much.
_LIMITS = Limits(max_pixels=89_000_000, max_aspect_ratio=1000)
_MEMORY_BYTES = 1_000_000_000


def thumbnails(paths: Iterable[Path]) -> Iterator[str | None]:
    """Make a thumbnail of each picture, on all cores.

    Returns:
        For each path, in order, the data URI of a WebP picture, upright, about 128 px
        on its shorter side and at most 256 px on the longer; None if there is no
        readable picture.
    """
    memory = MemoryBudget(_MEMORY_BYTES)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="thumbnail") as pool:
        yield from pool.map(lambda path: _thumbnail(path, memory), paths)


def _thumbnail(path: Path, memory: MemoryBudget) -> str | None:
    try:
        data = path.read_bytes()
        with opened_image(data, _LIMITS, folder_formats()) as image:
            image.draft(None, (2 * _SHORTER_SIDE, 2 * _SHORTER_SIDE))
            with memory.reserve(image.width * image.height * DECODE_BYTES_PER_PIXEL):
                upright = upright_rgb(image)
    except (OSError, ValueError, InvalidImage):  # ValueError: the path cannot be a file's
        return None
    small = upright.resize(_size(upright.size), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", **_WEBP)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1, _SHORTER_SIDE / min(size), _LONGEST_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
