"""Lossless WebP: how many groups of code tables libwebp reads before the pixels (RFC 9649, VP8L).

Each group takes libwebp 42 us, and a file may have 65,536 of a few bytes. How many there are is
known only when all before the pixels is read, bit by bit: transforms and the entropy image.
"""

from catdog.structure.parts import Buffer, TooComplex

# libwebp's encoder makes at most 2,600; photos have 3 to 13.
MAX_GROUPS = 4_096
# Of the images before the pixels, 2 us for each here. libwebp 1.6 writes at most 2 x 16,384,
# versions of before one for 128 pixels.
MAX_SYMBOLS = 60_000
PIXELS_PER_SYMBOL = 128

_PREDICTOR, _CROSS_COLOUR, _PALETTE = 0, 1, 3  # transforms; 2 needs no data
_LITERALS, _LENGTHS, _DISTANCES = 256, 24, 40  # codes of each alphabet
_LENGTH_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)


def code_groups(stream: Buffer | memoryview, width: int, height: int) -> int:
    """The number of groups of code tables that the pixels have.

    Args:
        stream: What stands behind VP8L's header of 5 bytes, or behind the first of ALPH.
        width: In pixels.
        height: In pixels.

    Raises:
        TooComplex: If there are more than `MAX_GROUPS`, or too many symbols to read before them.
        ValueError, IndexError: If the stream is broken.
    """
    reader = _Reader(stream, MAX_SYMBOLS + width * height // PIXELS_PER_SYMBOL)
    bits, seen = reader.bits, set()
    while bits.read(1):
        kind = bits.read(2)
        if kind in seen:
            raise ValueError("a transform is there twice")
        seen.add(kind)
        if kind in (_PREDICTOR, _CROSS_COLOUR):
            shift = bits.read(3) + 2
            reader.largest_group(_parts(width, shift), _parts(height, shift))
        elif kind == _PALETTE:
            colours = bits.read(8) + 1
            reader.largest_group(colours, 1)
            width = _parts(width, (colours <= 16) + (colours <= 4) + (colours <= 2))
    if bits.read(1):
        bits.read(4)  # the size of the colour cache
    if not bits.read(1):
        return 1
    shift = bits.read(3) + 2
    groups = reader.largest_group(_parts(width, shift), _parts(height, shift)) + 1
    if groups > MAX_GROUPS:
        raise TooComplex(
            f"its lossless pixels have {groups} groups of code tables; at most {MAX_GROUPS} "
            "are allowed"
        )
    return groups


def _parts(side: int, shift: int) -> int:
    """How many tiles of 2 ** shift pixels a side has."""
    return side + (1 << shift) - 1 >> shift


class _Bits:
    """Reads a stream from the lowest bit of each byte on."""

    def __init__(self, data: Buffer | memoryview) -> None:
        self.data = data
        self.at = 0  # in bits
        self.end = 8 * len(data)

    def read(self, count: int) -> int:
        value = self.peek(count)
        self.skip(count)
        return value

    def peek(self, count: int) -> int:
        """The next at most 25 bits; zeros behind the end."""
        start = self.at >> 3
        four = int.from_bytes(self.data[start : start + 4], "little")
        return four >> (self.at & 7) & (1 << count) - 1

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > self.end:
            raise ValueError("the stream ends too early")


class _Codes:
    """A prefix code over the symbols 0, 1, 2 ...

    Args:
        lengths: Of each symbol's code in bits; 0 for one that is not used.
    """

    def __init__(self, lengths: list[int]) -> None:
        used = sorted((length, symbol) for symbol, length in enumerate(lengths) if length)
        self.only = (used[0][1] if used else 0) if len(used) <= 1 else None  # it needs no bits
        if self.only is not None:
            return
        self._longest = used[-1][0]
        self._entries: list[tuple[int, int]] = [(0, 0)] * (1 << self._longest)
        code = last = 0
        for length, symbol in used:
            code <<= length - last
            last = length
            if code >> length:
                raise ValueError("a code has too many symbols")
            first = int(format(code, f"0{length}b")[::-1], 2)
            self._entries[first :: 1 << length] = [(symbol, length)] * (1 << self._longest - length)
            code += 1
        if code != 1 << self._longest:
            raise ValueError("a code has too few symbols")

    def next(self, bits: _Bits) -> int:
        if self.only is not None:
            return self.only
        symbol, length = self._entries[bits.peek(self._longest)]
        bits.skip(length)
        return symbol


class _Reader:
    """Reads the images that stand before the pixels."""

    def __init__(self, stream: Buffer | memoryview, max_symbols: int) -> None:
        self.bits = _Bits(stream)
        self._symbols_left = max_symbols

    def largest_group(self, width: int, height: int) -> int:
        """Read an image; the largest red * 256 + green in it, which an entropy image means."""
        bits = self.bits
        cache = 1 << bits.read(4) if bits.read(1) else 0
        green, red, blue, alpha, distance = (
            self._codes(count)
            for count in (_LITERALS + _LENGTHS + cache, *[_LITERALS] * 3, _DISTANCES)
        )
        left, largest = width * height, 0
        one_colour = all(codes.only is not None for codes in (green, red, blue, alpha))
        while left > 0:
            self._symbols_left -= 1
            if self._symbols_left < 0:
                raise TooComplex("its lossless transforms are divided too finely")
            symbol = green.next(bits)
            if symbol < _LITERALS:
                largest = max(largest, red.next(bits) << 8 | symbol)
                blue.next(bits)
                alpha.next(bits)
                left -= left if one_colour else 1
            elif symbol < _LITERALS + _LENGTHS:
                left -= self._length(symbol - _LITERALS)
                self._length(distance.next(bits))
            else:  # from the colour cache: a value that was there before
                left -= 1
        return largest

    def _codes(self, count: int) -> _Codes:
        bits = self.bits
        if bits.read(1):  # one or two symbols
            lengths, two = [0] * max(count, 256), bits.read(1)
            lengths[bits.read(8 if bits.read(1) else 1)] = 1
            if two:
                lengths[bits.read(8)] = 1
            return _Codes(lengths)
        of_lengths = [0] * len(_LENGTH_ORDER)
        for symbol in _LENGTH_ORDER[: 4 + bits.read(4)]:
            of_lengths[symbol] = bits.read(3)
        codes = _Codes(of_lengths)
        left = 2 + bits.read(2 + 2 * bits.read(3)) if bits.read(1) else count
        lengths, previous = [], 8
        while len(lengths) < count and left:
            left -= 1
            symbol = codes.next(bits)
            if symbol < 16:
                lengths.append(symbol)
                previous = symbol or previous
            elif symbol == 16:
                lengths += [previous] * (3 + bits.read(2))
            else:
                lengths += [0] * (3 + bits.read(3) if symbol == 17 else 11 + bits.read(7))
        if len(lengths) > count:
            raise ValueError("a code has too many lengths")
        return _Codes(lengths)

    def _length(self, symbol: int) -> int:
        """A length or distance: a symbol, and more bits for the larger ones."""
        if symbol < 4:
            return symbol + 1
        extra = symbol - 2 >> 1
        return (2 + (symbol & 1) << extra) + self.bits.read(extra) + 1
