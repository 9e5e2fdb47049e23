"""PNG: chunks (PNG specification, third edition). Texts, profiles and animation are left out."""

import struct
import zlib
from collections.abc import Iterator

from catdog.structure.deflate import check_blocks
from catdog.structure.exif import Orientations, exif_orientation, xmp_orientation
from catdog.structure.parts import (
    MAX_PARTS,
    MAX_TEXT_BYTES,
    Buffer,
    Essentials,
    PartCounter,
    TooComplex,
)

# libpng writes pieces of 8 kB, other programs of 256 bytes; each costs 1 us here, and Pillow meets
# one whole.
_BYTES_PER_CHUNK = 250
# Of compressed rows to uncompressed ones: noise has 1.06 in the fixed codes of simple encoders.
_MAX_COMPRESSED = 1.25
# Of a profile in hexadecimal digits: EXIF has at most 65,536 bytes.
_MAX_PROFILE_TEXT = 262_144

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PROFILE = b"Raw profile type exif\0"
_XMP = b"XML:com.adobe.xmp\0"
_TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def png_essentials(data: Buffer) -> Essentials:
    """Header, palette, transparency and pixels."""
    kept: list[memoryview | bytes] = [PNG_SIGNATURE]
    orientations = Orientations()
    inflate = _Inflater()
    pixels: list[memoryview] = []
    most_pixel_bytes = place = 0
    for kind, payload, chunk in _png_chunks(data):
        if kind == b"IHDR":
            if most_pixel_bytes:
                raise ValueError("it has two headers")
            most_pixel_bytes = _most_pixel_bytes(payload)
        if kind == b"IDAT":
            place = place or len(kept)
            pixels.append(payload)
        elif kind in _PIXEL_CHUNKS:
            kept.append(chunk)
        elif kind == b"eXIf":
            orientations.add_exif(payload)
        elif kind in _TEXT_CHUNKS:
            if payload[: len(_PROFILE)] == _PROFILE:
                text = inflate.text(kind, payload[len(_PROFILE) :])
                orientations.add("profile", _raw_profile(text[:_MAX_PROFILE_TEXT]))
            elif payload[: len(_XMP)] == _XMP:
                orientations.add("xmp", xmp_orientation(inflate.text(kind, payload[len(_XMP) :])))
    if sum(map(len, pixels)) > most_pixel_bytes:
        raise TooComplex("its compressed pixels are much longer than the pixels themselves")
    stream = b"".join(pixels)
    check_blocks([stream], most_pixel_bytes)
    kept[place:place] = _chunk(b"IDAT", stream)
    return Essentials(b"".join(kept), orientations.best())


def _chunk(kind: bytes, payload: bytes) -> list[bytes]:
    """The pieces of a chunk with this payload."""
    checksum = zlib.crc32(payload, zlib.crc32(kind))
    return [struct.pack(">I", len(payload)) + kind, payload, struct.pack(">I", checksum)]


def _png_chunks(data: Buffer) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Type, payload and bytes of each chunk up to the image's end; one cut off is the last."""
    counter = PartCounter("chunks", MAX_PARTS + len(data) // _BYTES_PER_CHUNK)
    view = memoryview(data)
    position = len(PNG_SIGNATURE)
    while position + 8 <= len(data):
        counter.add()
        kind = bytes(data[position + 4 : position + 8])
        end = position + 12 + int.from_bytes(data[position : position + 4])
        yield kind, view[position + 8 : end - 4], view[position:end]
        if kind == b"IEND":
            return
        position = end


def _most_pixel_bytes(header: memoryview) -> int:
    """What compressed rows may take, in bytes."""
    width, height, depth, colour_type = struct.unpack_from(">IIBB", header)
    row = 1 + (width * depth * _CHANNELS.get(colour_type, 4) + 7) // 8
    if header[12]:  # interlaced: seven small images, whose rows begin with a byte each
        row += 8
    return int(_MAX_COMPRESSED * row * height) + 65_536


class _Inflater:
    """Reads texts: no more of one file's than `MAX_TEXT_BYTES`."""

    def __init__(self) -> None:
        self._left = MAX_TEXT_BYTES

    def text(self, kind: bytes, rest: memoryview) -> bytes:
        """What stands behind the keyword of a tEXt, zTXt or iTXt chunk."""
        is_compressed = kind == b"zTXt"
        text: bytes | memoryview = rest
        if kind == b"zTXt":
            text = rest[1:]  # behind the compression method
        elif kind == b"iTXt":  # whether compressed, how, language, translated keyword, text
            is_compressed = bytes(rest[:1]) == b"\1"
            text = bytes(rest[2:]).split(b"\0", 2)[-1]
        read = self._inflate(text) if is_compressed else bytes(text[: self._left])
        self._left -= len(read)
        return read

    def _inflate(self, data: bytes | memoryview) -> bytes:
        if not self._left:
            return b""
        try:
            return zlib.decompressobj().decompress(data, self._left)
        except zlib.error:
            return b""


def _raw_profile(text: bytes) -> int | None:
    """ImageMagick's EXIF: an empty line, a name, a length, then hexadecimal digits."""
    try:
        digits = text.split(b"\n", 3)[3].translate(None, b"\n")
        return exif_orientation(bytes.fromhex(digits.decode("ascii")))
    except (ValueError, IndexError):
        return None
