"""TIFF: directories (TIFF 6.0). Tags that share their bytes would be read again and again."""

import struct

from catdog.structure.parts import MAX_PARTS, Buffer, Essentials, PartCounter, TooComplex

_MAX_VALUES = 100_000  # in one tag that is not bytes; strips of one row are fewer
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8,
                    13: 4, 16: 8, 17: 8, 18: 8}  # fmt: skip
_BYTE_TYPES = {1, 2, 6, 7}
_SUB_DIRECTORIES = {0x8769, 0x8825, 0xA005}  # EXIF, GPS, interoperability; Pillow reads them too


def tiff_essentials(data: Buffer) -> Essentials:
    """Check the directories that Pillow reads: tags that share bytes would be read many times."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    counter = PartCounter("tags")
    size = 0
    (first,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    waiting, seen = [first], set()
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
        start, layout = at + (8 if big else 2), order + ("HHQQ" if big else "HHII")
        entries = memoryview(data)[start : start + min(count, MAX_PARTS) * struct.calcsize(layout)]
        whole = len(entries) - len(entries) % struct.calcsize(layout)
        for tag, kind, values, value in struct.iter_unpack(layout, entries[:whole]):
            counter.add()
            size += values * _TYPE_BYTES.get(kind, 0)
            if values > _MAX_VALUES and kind not in _BYTE_TYPES:
                raise TooComplex(f"one of its tags has more than {_MAX_VALUES} values")
            if tag in _SUB_DIRECTORIES:
                waiting.append(value)
    if size > 2 * len(data) + 65_536:
        raise TooComplex("its tags have more bytes than the file")
    return Essentials(data, None)
