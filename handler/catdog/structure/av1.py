"""AV1: what the stream of one AVIF item decodes (AV1 Bitstream Specification, section 5)."""

from collections.abc import Iterator

from catdog.structure.parts import Buffer, PartCounter, TooComplex

# Layers of a progressive AVIF; a decoder decodes all of an item, and shows the last.
MAX_FRAMES = 4
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # kinds of OBUs
_LONGEST_HEADER = 1_024  # in bytes; it ends with sizes


def largest_frame_of(data: Buffer) -> int:
    """The pixels of the largest frame that the headers of a stream of OBUs allow.

    Raises:
        TooComplex: If there are more than `MAX_FRAMES`, or too many OBUs.
        ValueError, IndexError: If it is broken.
    """
    frames = pixels = 0
    for kind, payload in _obus(data):
        if kind == _SEQUENCE_HEADER:
            pixels = max(pixels, _largest_frame(payload))
        frames += kind in (_FRAME_HEADER, _FRAME)
        if frames > MAX_FRAMES:
            raise TooComplex(f"it has more than the {MAX_FRAMES} frames of one image allowed")
    return pixels


def _obus(data: Buffer) -> Iterator[tuple[int, Buffer]]:
    """Kind and payload of each."""
    counter = PartCounter("blocks")
    at = 0
    while at < len(data):
        counter.add()
        header = data[at]
        at += 2 if header & 4 else 1  # with an extension
        size = len(data) - at
        if header & 2:
            size, at = _leb128(data, at)
        yield header >> 3 & 15, data[at : at + min(size, _LONGEST_HEADER)]
        at += size


def _leb128(data: Buffer, at: int) -> tuple[int, int]:
    """A number, and where what follows it begins."""
    value = 0
    for place in range(8):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at + place + 1
    raise ValueError("a number has no end")


class _Bits:
    """Reads from the highest bit of each byte on."""

    def __init__(self, data: Buffer) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("a header ends too early")
        return self._value >> self._left & (1 << count) - 1

    def skip_uvlc(self) -> None:
        zeros = 0
        while not self.read(1):
            zeros += 1
        self.read(zeros if zeros < 32 else 0)


def _largest_frame(header: Buffer) -> int:
    """Pixels of the largest frame of a sequence (5.5.1)."""
    bits = _Bits(header)
    bits.read(4)  # profile, still picture
    if bits.read(1):  # reduced
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return (bits.read(width_bits) + 1) * (bits.read(height_bits) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            bits.skip_uvlc()
        if bits.read(1):  # the decoder's model
            delay_bits = bits.read(5) + 1
            bits.read(32 + 5 + 5)
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)  # the tier
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)
