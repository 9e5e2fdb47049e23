"""TIFF: directories (TIFF 6.0). The first is written anew with only what makes the pixels.

Tags that share their bytes would be read again and again, and strips too.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from catdog.structure.deflate import check_blocks
from catdog.structure.exif import xmp_orientation
from catdog.structure.parts import (
    MAX_PARTS,
    MAX_TEXT_BYTES,
    Buffer,
    CutOff,
    Essentials,
    TooComplex,
)

_LAYOUTS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of the types that numbers have
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8,
               13: 4, 16: 8, 17: 8, 18: 8}  # fmt: skip

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _PLANES, _XMP = 274, 277, 278, 284, 700
_OFFSETS, _BYTE_COUNTS = (273, 324), (279, 325)  # of strips, and of tiles
_TILE_WIDTH, _TILE_HEIGHT, _PROFILE, _CMYK = 322, 323, 34675, 5
_RAW, _OLD_JPEG, _JPEG = 1, 6, 7
_DEFLATED = (8, 32946)
_PIXEL_TAGS = {
    *range(254, 260), 262, 266, 273, *range(277, 281), 284, 292, 293, 317, 320, *range(322, 326),
    332, 334, 336, 338, 339, 340, 341, 346, 347, *range(512, 522), *range(529, 533), _PROFILE,
    50674,
}  # fmt: skip
# How many values one may have; rows of one pixel's height have a strip each.
_MAX_VALUES = 32
_MAX_VALUES_OF = {**dict.fromkeys((*_OFFSETS, *_BYTE_COUNTS), 60_000), 320: 196_608, 347: 65_536,
                  _PROFILE: 4 << 20}  # fmt: skip
_MAX_TILE_PIXELS = 4096 * 4096  # beyond this a tile may not be larger than the image
# Uncompressed strips and tiles that do not follow each other: Pillow needs 12 us for each.
_PIXELS_PER_TILE = 1_024
# LZW's noise is 1.37 times as long as the pixels.
_MAX_COMPRESSED = 2
_EXTRA_BYTES = 65_536
_MAX_SCANS = 4  # of a strip in JPEG; one for each component at most
# A frame that is not baseline (ITU-T T.81, B.2.2): libtiff writes none, and may pass over its
# pixels 100 times.
_OTHER_FRAME = re.compile(rb"\xff[\xc2\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0[\x0b\x0e\x11\x14]")


class _Entry(NamedTuple):
    """One tag of a directory.

    Attributes:
        kind: The type of its values.
        values: How many there are.
        place: Where they begin in the file.
        packed: The entry's own bytes.
    """

    kind: int
    values: int
    place: int
    packed: bytes


def tiff_essentials(data: Buffer) -> Essentials:
    """The file, its first directory without what no pixel needs, and no further ones."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = 43 in data[2:4]
    offset, count = ("Q", "Q") if is_big else ("I", "H")
    (at,) = struct.unpack_from(order + offset, data, 8 if is_big else 4)
    start = at + struct.calcsize(order + count)
    if start > len(data):
        raise CutOff("its directory is missing")
    (entries,) = struct.unpack_from(order + count, data, at)
    if entries > MAX_PARTS:
        raise TooComplex(f"it has more than the {MAX_PARTS} tags allowed")
    tags = dict(_entries(data, start, entries, order, offset))
    numbers = _Numbers(data, tags, order)
    _check_strips(data, numbers)

    kept = [tags[tag].packed for tag in tags if tag in _PIXEL_TAGS]
    if _PROFILE in tags and numbers.one(_PHOTOMETRIC) != _CMYK:
        kept.remove(tags[_PROFILE].packed)
    content = bytearray(data)
    directory = struct.pack(order + count, len(kept)) + b"".join(kept)
    directory += struct.pack(order + offset, 0)  # there is no other
    content[at : at + len(directory)] = directory
    return Essentials(content, _orientation(data, tags, numbers))


def _entries(
    data: Buffer, start: int, count: int, order: str, offset: str
) -> Iterator[tuple[int, _Entry]]:
    """Tags and what they say, of those that are read."""
    size = 4 + 2 * struct.calcsize(offset)
    if start + count * size > len(data):
        raise CutOff("its directory ends too early")
    seen = set()
    for number in range(count):
        at = start + number * size
        tag, kind, values = struct.unpack_from(order + "HH" + offset, data, at)
        if tag not in _PIXEL_TAGS and tag not in (_ORIENTATION, _XMP):
            continue
        if tag in seen or kind not in _TYPE_BYTES:
            raise ValueError("a tag is there twice, or has an unknown type")
        seen.add(tag)
        if values > _MAX_VALUES_OF.get(tag, _MAX_VALUES) and tag != _XMP:
            raise TooComplex(f"its tag {tag} has {values} values")
        place = at + size - struct.calcsize(offset)
        value_bytes = values * _TYPE_BYTES[kind]
        if value_bytes > struct.calcsize(offset):
            (place,) = struct.unpack_from(order + offset, data, place)
        if place + value_bytes > len(data) and tag in _PIXEL_TAGS:
            raise CutOff("a tag's values are missing")
        yield tag, _Entry(kind, values, place, bytes(data[at : at + size]))


class _Numbers:
    """The numbers that the tags of one directory have."""

    def __init__(self, data: Buffer, tags: dict[int, _Entry], order: str) -> None:
        self._data = data
        self._tags = tags
        self._order = order

    def all(self, tag: int) -> Sequence[int]:
        """A tag's numbers; none if it is missing."""
        entry = self._tags.get(tag)
        if entry is None or entry.kind not in _LAYOUTS:
            return ()
        layout = f"{self._order}{entry.values}{_LAYOUTS[entry.kind]}"
        return struct.unpack_from(layout, self._data, entry.place)

    def one(self, tag: int, default: int = 0) -> int:
        """A tag's first number."""
        return next(iter(self.all(tag)), default)


def _orientation(data: Buffer, tags: dict[int, _Entry], numbers: _Numbers) -> int | None:
    if _ORIENTATION in tags:
        return numbers.one(_ORIENTATION)
    if _XMP in tags:
        place = tags[_XMP].place
        text = data[place : place + min(tags[_XMP].values, MAX_TEXT_BYTES)]
        return xmp_orientation(bytes(text))
    return None


def _check_strips(data: Buffer, numbers: _Numbers) -> None:
    """Refuse strips or tiles that are more, or more data, than the pixels need."""
    width, height = numbers.one(_WIDTH), numbers.one(_HEIGHT)
    samples, bits = numbers.one(_SAMPLES, 1), max(numbers.all(_BITS), default=1)
    compression = numbers.one(_COMPRESSION, _RAW)
    planes = samples if numbers.one(_PLANES, 1) == 2 else 1
    is_tiled = numbers.one(_TILE_WIDTH) > 0
    if is_tiled:
        strip_width, rows = numbers.one(_TILE_WIDTH), numbers.one(_TILE_HEIGHT)
        if strip_width % 16 or rows % 16:  # TIFF 6.0, section 15
            raise TooComplex("its tiles have sides that are no multiples of 16")
        if strip_width * rows > max(_MAX_TILE_PIXELS, width * height):
            raise TooComplex("its tiles are many times larger than the image")
        most = -(-width // strip_width) * -(-height // max(1, rows)) * planes
    else:
        strip_width, rows = width, min(numbers.one(_ROWS_PER_STRIP, height), height)
        most = height * planes
    offsets, counts = (
        [number for tag in tags for number in numbers.all(tag)] for tags in (_OFFSETS, _BYTE_COUNTS)
    )
    if len(offsets) > most:
        raise TooComplex("it has more strips or tiles than its pixels need")
    if compression == _RAW:
        apart = sum(
            at + size != following
            for at, size, following in zip(offsets, counts, offsets[1:], strict=False)
        )
        if apart > MAX_PARTS + (width * height // _PIXELS_PER_TILE if is_tiled else 0):
            raise TooComplex("its strips or tiles are spread over the file")
        return
    if len(counts) < len(offsets) > 1:
        raise ValueError("its strips have no lengths")
    if not counts:
        counts = [len(data) - at for at in offsets]
    row_bytes = (strip_width * bits * (1 if planes > 1 else samples) + 7) // 8
    _check_lengths(data, offsets, counts, rows * row_bytes)
    if compression in _DEFLATED:
        view = memoryview(data)
        strips = [view[at : at + size] for at, size in zip(offsets, counts, strict=False)]
        check_blocks(strips, rows * row_bytes)
    if compression in (_OLD_JPEG, _JPEG):
        _check_jpegs(data, offsets, counts, is_old=compression == _OLD_JPEG)


def _check_lengths(
    data: Buffer, offsets: Sequence[int], counts: Sequence[int], strip_bytes: int
) -> None:
    if any(at + size > len(data) for at, size in zip(offsets, counts, strict=False)):
        raise CutOff("a strip ends too early")
    if sum(counts) > len(data) + _EXTRA_BYTES:
        raise TooComplex("its strips share their bytes")
    if sum(counts) > _MAX_COMPRESSED * len(offsets) * strip_bytes + _EXTRA_BYTES:
        raise TooComplex("its compressed pixels are much longer than the pixels themselves")


def _check_jpegs(data: Buffer, offsets: Sequence[int], counts: Sequence[int], is_old: bool) -> None:
    strips = [data] if is_old else [
        data[at : at + size] for at, size in zip(offsets, counts, strict=False)
    ]  # fmt: skip
    for strip in strips:
        if _OTHER_FRAME.search(strip):
            raise TooComplex("it has a JPEG inside that is not baseline")
        if not is_old and strip.count(b"\xff\xda") > _MAX_SCANS:
            raise TooComplex("its JPEG goes over the same pixels again and again")
