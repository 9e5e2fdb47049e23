"""HEIC and AVIF: boxes and items (ISO/IEC 14496-12, 23008-12). The primary item is what is shown.

A grid may name the same large tile 1,000 times, whatever its own size; and what EXIF says is
read by a decoder although the items' properties turn the image.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from catdog.structure.av1 import largest_frame_of
from catdog.structure.parts import Buffer, CutOff, Essentials, PartCounter, TooComplex

MAX_TILES = 1_000  # libheif's own bound; phones have 48 to 192 of 512 x 512
# Of the tiles of an image to its own: phones have 1.03, as the last row and column are cut.
_MAX_TILED = 1.4
_EXTRA_PIXELS = 1 << 20  # for small ones
_EXTRA_BYTES = 65_536
_DERIVED = {b"grid", b"iden", b"iovl", b"tmap"}  # items that are made of others
_METADATA = {b"Exif", b"mime", b"uri "}
_KEPT_BOXES = {b"ftyp", b"meta", b"mdat", b"idat"}
_UPRIGHT = 1


class _Box(NamedTuple):
    kind: bytes
    at: int
    start: int  # of its payload
    end: int


class _Items(NamedTuple):
    """What the meta box says.

    Attributes:
        primary: The number of the item that is shown.
        kinds: The type of each item.
        references: By kind and item, the items that it refers to.
        pixels: Width times height of each item.
        data: The bytes of each item's extents, as (start, end) in the file.
    """

    primary: int
    kinds: dict[int, bytes]
    references: dict[tuple[bytes, int], list[int]]
    pixels: dict[int, int]
    data: dict[int, list[tuple[int, int]]]


def heif_essentials(data: Buffer) -> Essentials:
    """The items, without metadata and without the frames of a sequence; turned by the decoder."""
    return Essentials(_primary_item(data), _UPRIGHT)


def avif_essentials(data: Buffer) -> Essentials:
    """The same for AVIF, of which Pillow says the orientation that the properties have."""
    return Essentials(_primary_item(data), None)


def _primary_item(data: Buffer) -> bytearray:
    counter = PartCounter("boxes")
    content = bytearray(data)
    meta = None
    for box in _boxes(data, 0, len(data), counter):
        if box.kind == b"meta" and meta is None:
            meta = box
        elif box.kind == b"ftyp":  # a sequence's first image is its primary item
            content[box.start : box.end] = content[box.start : box.end].replace(b"avis", b"avif")
        elif box.kind not in _KEPT_BOXES:
            if box.end > len(data):  # other data behind the last box
                del content[box.at :]
            else:
                content[box.at + 4 : box.at + 8] = b"free"
    if meta is None or meta.end > len(data):
        raise CutOff("its items are missing")
    _check_parts(data, _read_items(data, meta, counter, content))
    return content


def _boxes(data: Buffer, at: int, end: int, counter: PartCounter) -> Iterator[_Box]:
    """Each box; the last may say that it goes on behind the end."""
    while at + 8 <= end:
        counter.add()
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            size, start = _number(data, start, 8), start + 8
        elif size == 0:
            size = end - at
        if size < start - at:
            raise ValueError("a box has no size")
        yield _Box(kind, at, start, at + size)
        at += size


def _read_items(data: Buffer, meta: _Box, counter: PartCounter, content: bytearray) -> _Items:
    """What the meta box says; metadata are hidden in `content`."""
    boxes = {box.kind: box for box in _boxes(data, meta.start + 4, meta.end, counter)}
    start = boxes[b"pitm"].start
    primary = _number(data, start + 4, 4 if data[start] else 2)
    kinds = {}
    start = boxes[b"iinf"].start
    start += 8 if data[start] else 6
    for box in _boxes(data, start, boxes[b"iinf"].end, counter):
        version = data[box.start]
        if box.kind != b"infe" or version not in (2, 3):
            continue
        size = version * 2 - 2
        at = box.start + 4 + size + 2
        kind = kinds[_number(data, box.start + 4, size)] = bytes(data[at : at + 4])
        if kind in _METADATA:
            content[at : at + 4] = b"skip"
    references: dict[tuple[bytes, int], list[int]] = {}
    if b"iref" in boxes:
        start = boxes[b"iref"].start
        size = 4 if data[start] else 2
        for box in _boxes(data, start + 4, boxes[b"iref"].end, counter):
            source, count = _number(data, box.start, size), _number(data, box.start + size, 2)
            layout = f">{count}{'I' if size == 4 else 'H'}"
            targets = struct.unpack_from(layout, data, box.start + size + 2)
            references.setdefault((box.kind, source), []).extend(targets)
    idat = boxes[b"idat"].start if b"idat" in boxes else None
    return _Items(
        primary,
        kinds,
        references,
        _sizes(data, boxes[b"iprp"], counter),
        _extents(data, boxes[b"iloc"].start, idat, counter),
    )


def _number(data: Buffer, at: int, size: int) -> int:
    """A number of `size` bytes."""
    if at + size > len(data):
        raise CutOff("it ends within its items")
    return int.from_bytes(data[at : at + size])


def _sizes(data: Buffer, iprp: _Box, counter: PartCounter) -> dict[int, int]:
    """Pixels of each item, by its property `ispe`."""
    properties: list[int | None] = []
    sizes = {}
    for box in _boxes(data, iprp.start, iprp.end, counter):
        if box.kind == b"ipco":
            for each in _boxes(data, box.start, box.end, counter):
                sides = (each.start + 4, each.start + 8) if each.kind == b"ispe" else ()
                properties.append(prod(_number(data, at, 4) for at in sides) if sides else None)
        elif box.kind == b"ipma":
            size, wide = 4 if data[box.start] else 2, data[box.start + 3] & 1
            at = box.start + 8
            for _ in range(_number(data, at - 4, 4)):
                counter.add()
                item, count = _number(data, at, size), _number(data, at + size, 1)
                at += size + 1
                for _ in range(count):
                    index = _number(data, at, 2) & 0x7FFF if wide else data[at] & 0x7F
                    at += 1 + wide
                    pixels = properties[index - 1] if 0 < index <= len(properties) else None
                    if pixels is not None:
                        sizes[item] = pixels
    return sizes


def _extents(
    data: Buffer, at: int, idat: int | None, counter: PartCounter
) -> dict[int, list[tuple[int, int]]]:
    """Where the bytes of each item are, by the box `iloc`."""
    version = data[at]
    offset_size, length_size = data[at + 4] >> 4, data[at + 4] & 15
    base_size, index_size = data[at + 5] >> 4, data[at + 5] & 15 if version else 0
    item_size = 4 if version == 2 else 2
    count = _number(data, at + 6, item_size)
    at += 6 + item_size
    found = {}
    for _ in range(count):
        counter.add()
        item = _number(data, at, item_size)
        at += item_size
        in_idat = False
        if version:
            in_idat = _number(data, at, 2) & 15 == 1
            at += 2
        base = _number(data, at + 2, base_size) + (idat or 0 if in_idat else 0)
        extents = _number(data, at + 2 + base_size, 2)
        at += 4 + base_size
        places = []
        for _ in range(extents):
            counter.add()
            start = base + _number(data, at + index_size, offset_size)
            length = _number(data, at + index_size + offset_size, length_size)
            at += index_size + offset_size + length_size
            places.append((start, start + length if length else len(data)))
        found[item] = places
    return found


def _check_parts(data: Buffer, items: _Items) -> None:
    """Refuse an image whose tiles are many times its own pixels, or whose streams are more."""
    alpha = [
        source for (kind, source), to in items.references.items()
        if kind == b"auxl" and items.primary in to
    ]  # fmt: skip
    spent = _pixels_of(data, items, items.primary)
    allowed = _MAX_TILED * items.pixels[items.primary]
    if alpha:  # and depth, and more: one of them is decoded
        spent += max(_pixels_of(data, items, item) for item in alpha)
        allowed *= 2
    if spent > allowed + _EXTRA_PIXELS:
        raise TooComplex("its parts have many times the pixels of the image")


def _pixels_of(data: Buffer, items: _Items, item: int) -> int:
    """How many pixels are decoded for an item."""
    parts = Counter([item])
    if items.kinds.get(item) in _DERIVED:
        parts = Counter(items.references.get((b"dimg", item), []))
    if parts.total() > MAX_TILES or any(items.kinds.get(part) in _DERIVED for part in parts):
        raise TooComplex("it is put together of too many parts")
    places = {part: items.data.get(part, []) for part in parts}
    extents = [place for each in places.values() for place in each]
    if any(end > len(data) for _, end in extents):
        raise CutOff("an item's bytes are missing")
    if sum(end - start for start, end in extents) > len(data) + _EXTRA_BYTES:
        raise TooComplex("its items share their bytes")
    pixels = 0
    for part, uses in parts.items():
        if items.kinds.get(part) == b"av01":  # a stream may have another size than its item
            stream = b"".join(data[start:end] for start, end in places[part])
            pixels += uses * max(largest_frame_of(stream), items.pixels.get(part, 0))
        else:
            pixels += uses * items.pixels.get(part, 0)
    return pixels
