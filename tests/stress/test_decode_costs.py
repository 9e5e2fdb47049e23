"""What the dearest file that is read costs, beside the dearest honest one of its format and pixels.

CPU seconds of this process, in one run. The files have as many parts as handler/catdog/structure
lets through.
"""

import struct
import time
from collections.abc import Callable

import pytest

from catdog.structure import deflate
from tests.support.bombs import EMPTY_BLOCKS, jpeg_of_data, png_of_stream
from tests.support.images import LIMITS, decode_image, encode, noise
from tests.support.lossless_webp import many_groups

MAX_OVER_HONEST = 1.5
SIDE = 2500  # pixels; 6.2 megapixels as RGBA rows are the largest body


def cpu_s(data: bytes) -> float:
    """CPU seconds that decoding takes, the least of three."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        decode_image(data, LIMITS)
        taken.append(time.process_time() - start)
    return min(taken)


def png_of_tables() -> bytes:
    """As many empty blocks with code tables as are read, and as many again that are not counted."""
    most = deflate.MAX_BLOCKS // 8 + deflate.CHEAP_BYTES // len(EMPTY_BLOCKS)
    return png_of_stream(SIDE, EMPTY_BLOCKS * (most * 95 // 100))


def png_of_stored_blocks() -> bytes:
    return png_of_stream(SIDE, b"\0\0\0\xff\xff" * deflate.MAX_BLOCKS)


def gif_of_clears() -> bytes:
    """Codes that clear the table, 1.9 bytes of them for a pixel."""
    header = struct.pack("<HH", SIDE, SIDE)
    data = (b"\xff" + b"\x24" * 255) * (19 * SIDE * SIDE // 2560)
    return b"GIF89a" + header + b"\0\0\0," + bytes(4) + header + b"\0\2" + data + b"\0;"


def jpeg_of_restarts() -> bytes:
    return jpeg_of_data(b"\xff\xd0", int(2.4 * 3 * SIDE * SIDE), SIDE)


def dearest_honest(format: str) -> float:
    image = noise(SIDE, SIDE)
    if format == "PNG":
        faint = noise(SIDE, SIDE).convert("RGBA").point(lambda value: value & 15)
        return max(cpu_s(encode(each)) for each in (image, image.convert("RGBA"), faint))
    if format == "JPEG":
        return cpu_s(encode(image, "JPEG", quality=95))
    if format == "WEBP":
        return max(cpu_s(encode(image, format, method=0, **how)) for how in (
            {"quality": 100}, {"lossless": True}
        ))  # fmt: skip
    return cpu_s(encode(image, format))


@pytest.mark.parametrize(
    ("format", "dear"),
    [
        ("PNG", png_of_tables),
        ("PNG", png_of_stored_blocks),
        ("GIF", gif_of_clears),
        ("JPEG", jpeg_of_restarts),
        ("WEBP", lambda: many_groups(700, 4_000, long=True)),
    ],
    ids=["PNG, tables", "PNG, stored blocks", "GIF, clears", "JPEG, restarts", "WebP, groups"],
)
def test_no_file_is_far_dearer_than_an_honest_one(format: str, dear: Callable[[], bytes]) -> None:
    honest, dearest = dearest_honest(format), cpu_s(dear())
    print(f"{format}: {dearest:.2f} s, honest {honest:.2f} s: {dearest / honest:.2f}")
    assert dearest < MAX_OVER_HONEST * honest
