"""PNG: chunks (PNG specification, third edition). Texts, profiles and animation are left out."""

import zlib
from collections.abc import Iterator

from catdog.structure.orientation import Orientations, exif_orientation, xmp_orientation
from catdog.structure.parts import MAX_TEXT_BYTES, Buffer, Essentials, PartCounter

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PROFILE = b"Raw profile type exif\0"
_XMP = b"XML:com.adobe.xmp\0"
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def png_essentials(data: Buffer) -> Essentials:
    """Header, palette, transparency and pixels."""
    kept: list[memoryview | bytes] = [PNG_SIGNATURE]
    orientations = Orientations()
    for kind, chunk in _png_chunks(data):
        payload = chunk[8:-4]
        if kind in _PIXEL_CHUNKS:
            kept.append(chunk)
        elif kind == b"eXIf":
            orientations.add("exif", exif_orientation, payload)
        elif kind in (b"tEXt", b"zTXt") and payload[: len(_PROFILE)] == _PROFILE:
            read = _raw_profile if kind == b"tEXt" else _inflated_raw_profile
            orientations.add("profile", read, payload[len(_PROFILE) :])
        elif kind == b"iTXt" and payload[: len(_XMP)] == _XMP:
            orientations.add("xmp", _international_xmp, payload[len(_XMP) :])
    return Essentials(b"".join(kept), orientations.best())


def _png_chunks(data: Buffer) -> Iterator[tuple[bytes, memoryview]]:
    """Type and bytes of each chunk up to the image's end; one that is cut off is the last."""
    counter = PartCounter("chunks")
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


def _raw_profile(text: bytes | memoryview) -> int | None:
    """ImageMagick's EXIF: an empty line, a name, a length, then hexadecimal digits."""
    digits = b"".join(bytes(text[:MAX_TEXT_BYTES]).split(b"\n")[3:])
    try:
        return exif_orientation(bytes.fromhex(digits.decode("ascii")))
    except ValueError:
        return None


def _inflated_raw_profile(compressed: bytes | memoryview) -> int | None:
    return _raw_profile(_inflated(compressed[1:]))  # behind the compression method


def _international_xmp(rest: bytes | memoryview) -> int | None:
    """XMP behind its keyword: whether compressed, how, language, translated keyword, text."""
    text = bytes(rest[2:]).split(b"\0", 2)[-1]
    return xmp_orientation(_inflated(text) if rest[:1] == b"\1" else text)


def _inflated(data: bytes | memoryview) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MAX_TEXT_BYTES)
    except zlib.error:
        return b""
