"""Lossless WebPs with as many groups of code tables as are asked for (RFC 9649, VP8L)."""

from collections.abc import Sequence

from tests.support.images import riff, riff_chunk

_LENGTH_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
_LITERALS = [8] * 256


class _Bits:
    """Writes a stream from the lowest bit of each byte on."""

    def __init__(self) -> None:
        self.value = self.count = 0
        self._done = bytearray()

    def write(self, value: int, count: int) -> None:
        self.value |= value << self.count
        self.count += count
        if self.count >= 4096:
            self._done += (self.value & (1 << 4096) - 1).to_bytes(512, "little")
            self.value >>= 4096
            self.count -= 4096

    def finish(self) -> bytes:
        return bytes(self._done) + self.value.to_bytes(self.count // 8 + 1, "little")


def many_groups(side: int, groups: int, long: bool, used: bool = True) -> bytes:
    """A square lossless WebP.

    Args:
        side: Of the image, in pixels.
        groups: How many groups of code tables it has.
        long: Whether each has 457 bytes instead of a few.
        used: Whether the tiles use all of them in turn, or the last tile only the last.
    """
    bits = _start(side, side)
    bits.write(0b100, 3)  # no transform, no colour cache, an entropy image
    bits.write(0, 3)  # with tiles of 4
    _entropy_image(bits, side, groups, used)
    group = _Bits()
    for lengths in _group(long):
        _write_code(group, lengths)
    for _ in range(groups):
        bits.write(group.value, group.count)
    return _webp(bits.finish() + bytes(side * side * (3 if long else 0)))


def fine_transforms(side: int) -> bytes:
    """A square lossless WebP with a predictor for each 4 x 4 pixels, all written out."""
    bits = _start(side, side)
    bits.write(0b1, 1)
    bits.write(0, 2)  # the predictor
    bits.write(0, 3)  # tiles of 4
    _entropy_image(bits, side, 14, used=True)
    return _webp(bits.finish() + bytes(side * side))


def _start(width: int, height: int) -> _Bits:
    bits = _Bits()
    bits.write(0x2F, 8)
    bits.write(width - 1 | height - 1 << 14, 28 + 1 + 3)
    return bits


def _entropy_image(bits: _Bits, side: int, groups: int, used: bool) -> None:
    bits.write(0, 1)  # no colour cache
    for lengths in ([*_LITERALS, *[0] * 24], _LITERALS, None, None, None):
        _write_code(bits, lengths)
    codes = _canonical(_LITERALS)
    tiles = ((side + 3) // 4) ** 2
    for tile in range(tiles):
        group = tile % groups if used else (groups - 1 if tile == tiles - 1 else 0)
        bits.write(*codes[group & 255])
        bits.write(*codes[group >> 8])


def _group(long: bool) -> Sequence[list[int] | None]:
    """Code lengths of green, red, blue, alpha and distance; None: one symbol, 0."""
    if not long:
        return [None] * 5
    return [_uneven(count) for count in (280, 256, 256, 256, 40)]


def _uneven(count: int) -> list[int]:
    """Lengths of a whole code: 1 to 6 bits for one symbol each, and long ones for the others."""
    others = count - 6
    extra = (others - 1).bit_length()
    shorter = (1 << extra) - others
    return [*range(1, 7), *[5 + extra] * shorter, *[6 + extra] * (others - shorter)]


def _write_code(bits: _Bits, lengths: list[int] | None) -> None:
    if lengths is None:
        bits.write(0b0001, 4)  # simple, one symbol, of one bit: 0
        return
    used = sorted(set(lengths))
    bits.write(0, 1)
    count = max(4, max(map(_LENGTH_ORDER.index, used)) + 1)
    bits.write(count - 4, 4)
    of_lengths = [0] * 19
    depth = (len(used) - 1).bit_length()
    shorter = (1 << depth) - len(used)
    for place, length in enumerate(used):
        of_lengths[length] = 1 if len(used) == 1 else depth - (place < shorter)
    for length in _LENGTH_ORDER[:count]:
        bits.write(of_lengths[length], 3)
    bits.write(0, 1)  # all lengths follow
    if len(used) > 1:
        codes = _canonical(of_lengths)
        for length in lengths:
            bits.write(*codes[length])


def _canonical(lengths: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Code and its length by symbol; the code's bits as they are written."""
    codes, code = {}, 0
    for length in range(1, max(lengths) + 1):
        for symbol, its_length in enumerate(lengths):
            if its_length == length:
                codes[symbol] = (int(format(code, f"0{length}b")[::-1], 2), length)
                code += 1
        code <<= 1
    return codes


def _webp(stream: bytes) -> bytes:
    return riff(riff_chunk(b"VP8L", stream))
