"""WebP: chunks (WebP container specification). Of an animation the first frame is kept."""

from collections.abc import Iterator

from catdog.structure.exif import Orientations, xmp_orientation
from catdog.structure.parts import MAX_TEXT_BYTES, Buffer, CutOff, Essentials, PartCounter
from catdog.structure.vp8l import MAX_GROUPS, code_groups

_PIXELS = {b"VP8 ", b"VP8L", b"ALPH"}
_PROFILE_FLAG, _EXIF_FLAG, _XMP_FLAG = 0x20, 0x08, 0x04  # of the VP8X chunk
_METADATA_FLAGS = _PROFILE_FLAG | _EXIF_FLAG | _XMP_FLAG
_TABLE_BYTES = 5_600  # of a group of a lossless image's code tables (libwebp, vp8l_dec.c)
_LEAST_GROUP_BITS = 20  # of the file
# Smaller ones cannot be dear, and are not looked into.
_SMALL_BYTES = 12_000
_SMALL_PIXELS, _SMALL_PIXELS_BYTES = 65_536, 100_000
_FRAME_HEADER_BYTES = 8 + 16


def webp_essentials(data: Buffer) -> Essentials:
    """The canvas, and the first frame's pixels and alpha."""
    counter = PartCounter("chunks")
    view = memoryview(data)[: 8 + int.from_bytes(data[4:8], "little")]
    kept: list[memoryview | bytes] = []
    orientations = Orientations()
    frame: dict[bytes, memoryview] = {}
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
            frame.update((name, part[8:]) for name, part in parts)
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
    tables = _TABLE_BYTES * _lossless_groups(frame)
    return Essentials(_riff(b"RIFF", b"WEBP", *kept), orientations.best(), tables)


def _lossless_groups(frame: dict[bytes, memoryview]) -> int:
    """How many groups of code tables a frame has, or may have if it is small.

    Args:
        frame: The payload of each chunk.
    """
    if b"VP8L" in frame:
        sizes = int.from_bytes(frame[b"VP8L"][1:5], "little")
        width, height = (sizes & 0x3FFF) + 1, (sizes >> 14 & 0x3FFF) + 1
        stream = frame[b"VP8L"][5:]
    elif b"VP8 " in frame and b"ALPH" in frame and frame[b"ALPH"][0] & 3 == 1:
        sizes = int.from_bytes(frame[b"VP8 "][6:10], "little")
        width, height = sizes & 0x3FFF, sizes >> 16 & 0x3FFF
        stream = frame[b"ALPH"][1:]
    else:
        return 0
    few_pixels = width * height <= _SMALL_PIXELS and len(stream) < _SMALL_PIXELS_BYTES
    if len(stream) < _SMALL_BYTES or few_pixels:
        return min(MAX_GROUPS, 8 * len(stream) // _LEAST_GROUP_BITS)
    return code_groups(stream, width, height)


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
