"""TIFF: directories (TIFF 6.0). Tags that share their bytes would be read again and again."""

import struct
from collections.abc import Iterator

from catdog.structure.parts import MAX_PARTS, Buffer, Essentials, PartCounter, TooComplex

_MAX_VALUES = 60_000  # in one tag that is not bytes; strips of one row are fewer
_MAX_TILE_PIXELS = 4096 * 4096  # beyond this a tile may not be larger than the image
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8,
               13: 4, 16: 8, 17: 8, 18: 8}  # fmt: skip
_BYTE_TYPES = {1, 2, 6, 7}
_SHORT = 3
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_SUB_DIRECTORIES = {0x8769, 0x8825, 0xA005}  # EXIF, GPS, interoperability; Pillow reads them too


def tiff_essentials(data: Buffer) -> Essentials:
    """The file as it is, if the directories that Pillow reads are no more work than the file."""
    order = "<" if data[:2] == b"II" else ">"
    layouts = ("Q", "HHQQ", 8) if 43 in data[2:4] else ("I", "HHII", 4)
    counter = PartCounter("tags")
    size = 0
    (first,) = struct.unpack_from(order + layouts[0], data, layouts[2])
    waiting, seen = [first], set()
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        numbers: dict[int, int] = {}
        for tag, kind, values, value in _entries(data, at, order, layouts):
            counter.add()
            size += values * _TYPE_BYTES.get(kind, 0)
            if values > _MAX_VALUES and kind not in _BYTE_TYPES:
                raise TooComplex(f"one of its tags has more than {_MAX_VALUES} values")
            if tag in _SUB_DIRECTORIES:
                waiting.append(value)
            is_high = kind == _SHORT and order == ">"
            numbers[tag] = value >> (8 * layouts[2] - 16) if is_high else value
        _check_tiles(numbers)
    if size > 2 * len(data) + 65_536:
        raise TooComplex("its tags have more bytes than the file")
    return Essentials(data, None)


def _entries(
    data: Buffer, at: int, order: str, layouts: tuple[str, str, int]
) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, number of values, and value or where the values are, of one directory."""
    (count,) = struct.unpack_from(order + ("Q" if layouts[2] == 8 else "H"), data, at)
    if count > MAX_PARTS:
        raise TooComplex(f"it has more than the {MAX_PARTS} tags allowed")
    start, layout = at + (8 if layouts[2] == 8 else 2), order + layouts[1]
    size = struct.calcsize(layout)
    whole = min(count, max(0, len(data) - start) // size)  # a directory may be cut off
    return struct.iter_unpack(layout, memoryview(data)[start : start + whole * size])


def _check_tiles(numbers: dict[int, int]) -> None:
    tile = numbers.get(_TILE_WIDTH, 0) * numbers.get(_TILE_HEIGHT, 0)
    if tile > max(_MAX_TILE_PIXELS, numbers.get(_WIDTH, 0) * numbers.get(_HEIGHT, 0)):
        raise TooComplex("its tiles are many times larger than the image")
