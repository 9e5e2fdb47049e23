"""Images made by code, for tests."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from catdog.decode import HTTP_FORMATS, Decoder, Limits

LIMITS = Limits(max_pixels=52_000_000, max_aspect_ratio=20)


def noise(width: int = 300, height: int = 200, seed: int = 0) -> Image.Image:
    """An RGB image in which every pixel matters."""
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def quadrants(width: int = 300, height: int = 200) -> Image.Image:
    """Red, green / blue, white: every rotation and mirroring looks different."""
    image = Image.new("RGB", (width, height), "white")
    image.paste("red", (0, 0, width // 2, height // 2))
    image.paste("lime", (width // 2, 0, width, height // 2))
    image.paste("blue", (0, height // 2, width // 2, height))
    return image


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def decode_image(data: bytes, limits: Limits, formats: Sequence[str] = HTTP_FORMATS) -> Image.Image:
    """Decode at full size, as a decoder of its own does."""
    return Decoder(limits, formats).decode(data).image


def png(width: int, height: int, bit_depth: int, rows: bytes) -> bytes:
    """An RGB PNG with this header, whatever its rows really hold."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(kind, body)
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
