"""GIF: blocks and sub-blocks (GIF89a). Of an animation the first frame is kept."""

import re
import struct

from catdog.structure.parts import MAX_PARTS, Buffer, Essentials, PartCounter, TooComplex

# Data comes in pieces of 255 bytes; a file may have one for so many of its bytes.
_BYTES_PER_BLOCK = 100
# A code has at most 12 bits, and stands for at least a pixel: 1.5 bytes. Codes that clear the table
# stand for none.
_MAX_BYTES_PER_PIXEL = 2
_EXTENSION, _FRAME, _TRAILER = b"!,;"
_BLOCK = re.compile(b"[!,;]")  # what lies between blocks is skipped, as Pillow does it
_CONTROL = 0xF9  # the extension that says which colour is transparent


def gif_essentials(data: Buffer) -> Essentials:
    """The header, what controls the first frame, and that frame."""
    counter = PartCounter("blocks", MAX_PARTS + len(data) // _BYTES_PER_BLOCK)
    start = 13 + _palette_bytes(data[10])
    header = data[:start]
    control: Buffer = b""
    while block := _BLOCK.search(data, start):
        start = block.start()
        if data[start] == _TRAILER:
            break
        if data[start] == _EXTENSION:
            end = _end_of_blocks(data, start + 2, counter)
            if data[start + 1] == _CONTROL:
                control = data[start:end]
            start = end
        else:
            blocks_at = start + 10 + _palette_bytes(data[start + 9]) + 1
            end = _end_of_blocks(data, blocks_at, counter)
            width, height = struct.unpack_from("<HH", data, start + 5)
            if end - blocks_at > _MAX_BYTES_PER_PIXEL * width * height + MAX_PARTS:
                raise TooComplex("its first frame has many times the data that its pixels need")
            return Essentials(b"".join((header, control, data[start:end], b";")), None)
    raise ValueError("it has no frame")


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _end_of_blocks(data: Buffer, position: int, counter: PartCounter) -> int:
    """Where a chain of sub-blocks ends; where the file ends if it is cut off."""
    size = len(data)
    counter.add()
    while position < size and data[position]:
        counter.add()
        position += data[position] + 1
    return min(position + 1, size)
