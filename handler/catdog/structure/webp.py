"""WebP: chunks (WebP container specification). Of an animation the first frame is kept."""

from collections.abc import Iterator

from catdog.structure.exif import Orientations, xmp_orientation
from catdog.structure.parts import MAX_TEXT_BYTES, Buffer, CutOff, Essentials, PartCounter

_PIXELS = {b"VP8 ", b"VP8L", b"ALPH"}
_LOSSLESS = {b"VP8L", b"ALPH"}
_PROFILE_FLAG, _EXIF_FLAG, _XMP_FLAG = 0x20, 0x08, 0x04  # of the VP8X chunk
_METADATA_FLAGS = _PROFILE_FLAG | _EXIF_FLAG | _XMP_FLAG
# A lossless image may have 65,536 groups of code tables of 5.6 kB (libwebp, vp8l_dec.c), each
# for at least 5 bytes of the file.
_MAX_TABLE_BYTES = 370_000_000
_TABLE_BYTES_PER_BYTE = 1_300
_FRAME_HEADER_BYTES = 8 + 16


def webp_essentials(data: Buffer) -> Essentials:
    """The canvas, and the first frame's pixels and alpha."""
    counter = PartCounter("chunks")
    view = memoryview(data)[: 8 + int.from_bytes(data[4:8], "little")]
    kept: list[memoryview | bytes] = []
    orientations = Orientations()
    lossless_bytes = 0  # of the frame's pixels, or of its alpha
    framed = False
    flags = 0
    for kind, chunk in _riff_chunks(view[12:], counter):
        if kind == b"VP8X":
            flags = chunk[8]
            kept.append(bytes((*chunk[:8], chunk[8] & ~_METADATA_FLAGS, *chunk[9:18])))
        elif kind == b"ANIM":
            kept.append(chunk)
        elif kind in (*_PIXELS, b"ANMF") and not framed:
            if len(chunk) < 8 + int.from_bytes(chunk[4:8], "little"):
                raise CutOff("its pixels end too early")
            parts = _pixels(chunk, counter) if kind == b"ANMF" else [(kind, chunk)]
            lossless_bytes += sum(len(part) for name, part in parts if name in _LOSSLESS)
            pixels = [part for _, part in parts]
            kept += (
                [_riff(b"ANMF", chunk[8:_FRAME_HEADER_BYTES], *pixels)]
                if kind == b"ANMF"
                else pixels
            )
            framed = kind != b"ALPH"  # which goes before the pixels
        elif kind == b"EXIF" and flags & _EXIF_FLAG:
            orientations.add_exif(chunk[8:])
        elif kind == b"XMP " and flags & _XMP_FLAG:
            orientations.add("xmp", xmp_orientation(chunk[8 : 8 + MAX_TEXT_BYTES]))
    tables = min(_MAX_TABLE_BYTES, _TABLE_BYTES_PER_BYTE * lossless_bytes)
    return Essentials(_riff(b"RIFF", b"WEBP", *kept), orientations.best(), tables)


def _pixels(frame: memoryview, counter: PartCounter) -> list[tuple[bytes, memoryview]]:
    """Alpha and pixels of an animation's frame, without the unknown chunks that may lie in it."""
    chunks = _riff_chunks(frame[_FRAME_HEADER_BYTES:], counter)
    return [(kind, chunk) for kind, chunk in chunks if kind in _PIXELS]


def _riff_chunks(view: memoryview, counter: PartCounter) -> Iterator[tuple[bytes, memoryview]]:
    """Type and bytes of each chunk; one that is cut off is the last."""
    position = 0
    while position + 8 <= len(view):
        counter.add()
        size = int.from_bytes(view[position + 4 : position + 8], "little")
        end = position + 8 + size + size % 2
        yield bytes(view[position : position + 4]), view[position:end]
        position = end


def _riff(name: bytes, *parts: memoryview | bytes) -> bytes:
    """A chunk of these parts, whose lengths are even."""
    return b"".join((name, sum(map(len, parts)).to_bytes(4, "little"), *parts))
