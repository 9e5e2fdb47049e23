"""TIFFs made by hand (TIFF 6.0): odd directories, strips and tiles."""

import struct
from collections.abc import Sequence

from tests.support.images import noise


def shared_tags(count: int, size: int) -> bytes:
    """A TIFF directory (and so EXIF) whose tags all claim the same bytes of it."""
    return b"II*\0" + struct.pack("<IH", 8, count) + tags_that_share(count, size) + bytes(4)


def tags_that_share(count: int, size: int) -> bytes:
    return b"".join(struct.pack("<HHII", 1000 + n, 7, size, 8) for n in range(count))


def tiff_directory(numbers: dict[int, int | Sequence[int]], pixels: bytes = b"") -> bytes:
    """A TIFF with these numbers, as LONG, and these bytes from place 8 on."""
    start = 8 + len(pixels) + len(pixels) % 2
    tags, arrays = [], b""
    arrays_at = start + 2 + 12 * len(numbers) + 4
    for tag, value in sorted(numbers.items()):
        values = [value] if isinstance(value, int) else value
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(packed) > 4:
            arrays += packed
            packed = struct.pack("<I", arrays_at + len(arrays) - len(packed))
        tags.append(struct.pack("<HHI", tag, 4, len(values)) + packed)
    directory = struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)
    return (b"II*\0" + struct.pack("<I", start) + pixels).ljust(start, b"\0") + directory + arrays


def grey_tiff(
    width: int,
    height: int,
    pixels: bytes,
    more: dict[int, int | Sequence[int]],
    counts: bool = True,
) -> bytes:
    """A TIFF of 8-bit grey: one strip, or what `more` says; it may have no length."""
    plain: dict[int, int | Sequence[int]] = {
        256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: height, 273: 8,
        279: len(pixels),
    }  # fmt: skip
    if 324 in more:
        plain = {tag: plain[tag] for tag in (256, 257, 258, 259, 262, 277)}
    if not counts:
        del plain[279]
    return tiff_directory(plain | more, pixels)


def tiled_tiff() -> bytes:
    """70 x 50 pixels in six tiles."""
    tiles: dict[int, int | Sequence[int]] = {
        322: 32,
        323: 32,
        324: [8 + 1024 * n for n in range(6)],
        325: [1024] * 6,
    }
    return grey_tiff(70, 50, noise(96, 64).convert("L").tobytes(), tiles)


def jpeg_in_tiff(width: int, height: int, jpeg: bytes, strips: int = 1) -> bytes:
    """A grey TIFF whose strips are all the same JPEG, of `height` / `strips` rows."""
    same: dict[int, int | Sequence[int]] = {
        273: [8] * strips,
        279: [len(jpeg)] * strips,
        278: height // strips,
    }
    return grey_tiff(width, height, jpeg, {259: 7, **same})


def with_tags(plain: bytes, tags: Sequence[tuple[int, int, int]], values: bytes) -> bytes:
    """This TIFF with more tags: number, type, count. All have these values."""
    (at,) = struct.unpack_from("<I", plain, 4)
    (count,) = struct.unpack_from("<H", plain, at)
    place = len(plain)
    more = b"".join(struct.pack("<HHII", *tag, place) for tag in tags)
    directory = struct.pack("<H", count + len(tags)) + plain[at + 2 : at + 2 + 12 * count] + more
    return (
        plain[:4] + struct.pack("<I", place + len(values)) + plain[8:] + values + directory
        + bytes(4)
    )  # fmt: skip
