"""PNG: chunks (PNG specification, third edition). Texts, profiles and animation are left out."""

import struct
import zlib
from collections.abc import Iterator

from catdog.structure.exif import Orientations, exif_orientation, xmp_orientation
from catdog.structure.parts import (
    MAX_PARTS,
    MAX_TEXT_BYTES,
    Buffer,
    Essentials,
    PartCounter,
    TooComplex,
)

# libpng writes pieces of 8 kB; a large file has many.
_BYTES_PER_CHUNK = 8_000

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
    pixel_bytes = most_pixel_bytes = 0
    for kind, chunk in _png_chunks(data):
        payload = chunk[8:-4]
        if kind == b"IHDR":
            if most_pixel_bytes:
                raise ValueError("it has two headers")
            most_pixel_bytes = _most_pixel_bytes(payload)
        if kind in _PIXEL_CHUNKS:
            kept.append(chunk)
            pixel_bytes += len(payload) if kind == b"IDAT" else 0
        elif kind == b"eXIf":
            orientations.add_exif(payload)
        elif kind in _TEXT_CHUNKS:
            if payload[: len(_PROFILE)] == _PROFILE:
                text = inflate.text(kind, payload[len(_PROFILE) :])
                orientations.add("profile", _raw_profile(text))
            elif payload[: len(_XMP)] == _XMP:
                orientations.add("xmp", xmp_orientation(inflate.text(kind, payload[len(_XMP) :])))
    if pixel_bytes > most_pixel_bytes:
        raise TooComplex("its compressed pixels are much longer than the pixels themselves")
    return Essentials(b"".join(kept), orientations.best())


def _png_chunks(data: Buffer) -> Iterator[tuple[bytes, memoryview]]:
    """Type and bytes of each chunk up to the image's end; one that is cut off is the last."""
    counter = PartCounter("chunks", MAX_PARTS + len(data) // _BYTES_PER_CHUNK)
    view = memoryview(data)
    position = len(PNG_SIGNATURE)
    while position + 8 <= len(data):
        counter.add()
        kind = bytes(data[position + 4 : position + 8])
        end = position + 12 + int.from_bytes(data[position : position + 4])
        yield kind, view[position:end]
        if kind == b"IEND":
            return
        position = end


def _most_pixel_bytes(header: memoryview) -> int:
    """What compressed rows may take: twice what they take uncompressed, and some."""
    width, height, depth, colour_type = struct.unpack_from(">IIBB", header)
    row = 1 + (width * depth * _CHANNELS.get(colour_type, 4) + 7) // 8
    most: int = 2 * row * height + 65_536
    return most


class _Inflater:
    """Reads texts, and decompresses no more of one file's than `MAX_TEXT_BYTES`."""

    def __init__(self) -> None:
        self._left = MAX_TEXT_BYTES

    def text(self, kind: bytes, rest: memoryview) -> bytes:
        """What stands behind the keyword of a tEXt, zTXt or iTXt chunk."""
        if kind == b"tEXt":
            return bytes(rest[:MAX_TEXT_BYTES])
        if kind == b"zTXt":
            return self._inflate(rest[1:])  # behind the compression method
        # Whether compressed, how, language, translated keyword, text.
        text = bytes(rest[2:]).split(b"\0", 2)[-1]
        return self._inflate(text) if bytes(rest[:1]) == b"\1" else text

    def _inflate(self, data: bytes | memoryview) -> bytes:
        if self._left <= 0:
            return b""
        try:
            text = zlib.decompressobj().decompress(data, self._left)
        except zlib.error:
            return b""
        self._left -= len(text)
        return text


def _raw_profile(text: bytes) -> int | None:
    """ImageMagick's EXIF: an empty line, a name, a length, then hexadecimal digits."""
    try:
        return exif_orientation(bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii")))
    except ValueError:
        return None
