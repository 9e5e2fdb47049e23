"""Images made by code, for tests."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from catdog.decode import HTTP_FORMATS, Decoder, Limits
from catdog_serving.image_formats import folder_formats

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
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
    if format == "HEIF":
        folder_formats()  # makes Pillow know it
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def decode_image(data: bytes, limits: Limits, formats: Sequence[str] = HTTP_FORMATS) -> Image.Image:
    """Decode at full size, as a decoder of its own does."""
    return Decoder(limits, formats).decode(data).image


def png(
    width: int,
    height: int,
    bit_depth: int,
    rows: bytes,
    colour_type: int = 2,
    interlaced: bool = False,
    more: Sequence[tuple[bytes, bytes]] = (),
    level: int = -1,
) -> bytes:
    """A PNG with this header, whatever its rows really hold, and with these chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, interlaced)
    pixels = zlib.compress(rows, level)
    chunks = ((b"IHDR", header), *more, (b"IDAT", pixels), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks)


def riff(chunks: bytes) -> bytes:
    """A WebP file of these chunks."""
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def riff_chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
