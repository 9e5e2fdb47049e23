"""Blocks of deflated pixels (RFC 1951), counted. An empty block may bring code tables of its own.

A decoder builds them in 1.3 us, from 11 bytes: 26 MB of such blocks take 3 s and give no pixel.
Where blocks begin only an inflate tells, and Python's zlib does not say it: the library below it
does (`Z_BLOCK` in zlib.h). Streams too short to be dear are not looked into.
"""

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from catdog.structure.parts import Buffer, TooComplex

# Encoders end a block after thousands of symbols, or with each row.
MAX_BLOCKS = 20_000
_BYTES_PER_BLOCK = 1_000
CHEAP_BYTES = 600_000  # of blocks with tables: 0.08 s
_LARGEST_IMAGE_BYTES = 530_000_000  # 52 megapixels of 16-bit RGBA, and a quarter
_LIBRARIES = ("libz.so.1", "libz.1.dylib", "zlib1.dll")
_OUTPUT_BYTES = 1 << 18
_Z_OK, _Z_BLOCK = 0, 5
_BLOCK_ENDED = 128  # in `data_type`


class _Stream(ctypes.Structure):
    """zlib's z_stream."""

    _fields_ = (
        ("next_in", ctypes.c_char_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


@cache
def _library() -> ctypes.CDLL | None:
    """The zlib that Python needs itself; None where it is built in, and no block is counted."""
    for name in _LIBRARIES:
        with suppress(OSError):
            return ctypes.CDLL(name)
    return None


def check_blocks(streams: Sequence[Buffer | memoryview], most_bytes: int) -> None:
    """Refuse zlib streams of one image that have far more blocks than any encoder makes.

    Args:
        streams: The image's only one, or one of each strip.
        most_bytes: What a decoder takes out of each; more of it is not looked into.

    Raises:
        TooComplex: If they have.
    """
    size = sum(map(len, streams))
    library = _library() if size > CHEAP_BYTES else None
    # Larger images are refused for their size later, unless an operator has raised max_pixels.
    if library is None or most_bytes * len(streams) > _LARGEST_IMAGE_BYTES:
        return
    left = MAX_BLOCKS + size // _BYTES_PER_BLOCK
    for data in streams:
        size -= len(data)
        left = _blocks_left(library, bytes(data), left, most_bytes, CHEAP_BYTES - size)


def _blocks_left(
    library: ctypes.CDLL, data: bytes, left: int, most_bytes: int, cheap_bytes: int
) -> int:
    """`left` without the blocks of this stream, of whose end `cheap_bytes` are not looked into.

    A broken stream ends where it breaks.
    """
    stream = _Stream(next_in=data, avail_in=len(data))
    version = b"1.2.11"  # of the structure above
    if library.inflateInit_(ctypes.byref(stream), version, ctypes.sizeof(stream)) != _Z_OK:
        raise MemoryError("zlib cannot begin to inflate")
    output = ctypes.create_string_buffer(_OUTPUT_BYTES)
    try:
        status = _Z_OK
        while status == _Z_OK and stream.avail_in > cheap_bytes and stream.total_out <= most_bytes:
            stream.next_out = ctypes.addressof(output)
            stream.avail_out = _OUTPUT_BYTES
            status = library.inflate(ctypes.byref(stream), _Z_BLOCK)
            left -= bool(stream.data_type & _BLOCK_ENDED)
            if left < 0:
                raise TooComplex("its pixels are compressed in blocks of almost nothing")
    finally:
        library.inflateEnd(ctypes.byref(stream))
    return left
