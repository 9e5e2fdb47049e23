"""HEIC and AVIF files out of items (ISO/IEC 14496-12, 23008-12)."""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Item(NamedTuple):
    """One item of a file; the first has number 1."""

    kind: bytes
    payload: bytes
    properties: Sequence[bytes] = ()
    tiles: Sequence[int] = ()  # what a grid is made of
    describes: Sequence[int] = ()  # items that this one is metadata of
    extents: int = 1  # how often its bytes are named


def build(brand: bytes, items: Sequence[Item], primary: int = 1, more: bytes = b"") -> bytes:
    """A file of these items, with these boxes behind them."""
    ftyp = _box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
    properties = list(dict.fromkeys(each for item in items for each in item.properties))
    described = b"".join(
        _full(b"infe", 2, struct.pack(">HH4s", number, 0, item.kind) + b"\0")
        for number, item in enumerate(items, 1)
    )
    belongs = b"".join(
        struct.pack(">HB", number, len(item.properties))
        + bytes(0x80 | properties.index(each) + 1 for each in item.properties)
        for number, item in enumerate(items, 1)
    )
    made_of = b"".join(
        _box(b"dimg", struct.pack(f">HH{len(item.tiles)}H", number, len(item.tiles), *item.tiles))
        for number, item in enumerate(items, 1)
        if item.tiles
    )
    describes = b"".join(
        _box(b"cdsc", struct.pack(">HHH", number, 1, other))
        for number, item in enumerate(items, 1)
        for other in item.describes
    )

    def meta(at: int) -> bytes:
        places = b""
        for number, item in enumerate(items, 1):
            places += struct.pack(">HHHH", number, 0, 0, item.extents)
            places += struct.pack(">II", at, len(item.payload)) * item.extents
            at += len(item.payload)
        count = struct.pack(">H", len(items))
        return _full(
            b"meta", 0,
            _full(b"hdlr", 0, b"\0\0\0\0pict" + bytes(13))
            + _full(b"pitm", 0, struct.pack(">H", primary))
            + _full(b"iloc", 1, b"\x44\0" + count + places)
            + _full(b"iinf", 0, count + described)
            + _box(b"iprp", _box(b"ipco", b"".join(properties))
                   + _full(b"ipma", 0, struct.pack(">I", len(items)) + belongs))
            + _full(b"iref", 0, made_of + describes),
        )  # fmt: skip

    start = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(start) + _box(b"mdat", b"".join(item.payload for item in items)) + more


def item_of(content: bytes) -> Item:
    """The first item of a file that an encoder made."""
    boxes = dict(_boxes(content))
    meta = dict(_boxes(boxes[b"meta"][4:]))
    properties = dict(_boxes(dict(_boxes(meta[b"iprp"]))[b"ipco"]))
    config = next(name for name in (b"hvcC", b"av1C") if name in properties)
    kept = [_box(name, payload) for name, payload in properties.items()]
    iloc = meta[b"iloc"]
    base_size = iloc[5] >> 4
    at = 14 if iloc[0] else 12  # of where the first item begins
    base = int.from_bytes(iloc[at : at + base_size])
    place, length = struct.unpack_from(">II", iloc, at + base_size + 2)
    place += base
    payload = content[place : place + length]
    return Item(b"hvc1" if config == b"hvcC" else b"av01", payload, kept)


def grid(tile: Item, rows: int, columns: int, width: int, height: int, brand: bytes) -> bytes:
    """An image of these sides, made of the same tile again and again."""
    plan = bytes((0, 1, rows - 1, columns - 1)) + struct.pack(">II", width, height)
    whole = Item(b"grid", plan, [size(width, height)], [2] * rows * columns)
    return build(brand, [whole, tile])


def size(width: int, height: int) -> bytes:
    """The property that says how large an item is."""
    return _full(b"ispe", 0, struct.pack(">II", width, height))


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", 8 + len(payload)) + kind + payload


def _full(kind: bytes, version: int, payload: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24) + payload)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + (length or len(data))]
        at += length or len(data)
