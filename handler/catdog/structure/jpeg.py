"""JPEG: segments and scans (ITU-T T.81, annex B).

libjpeg looks at every block again for each scan, and reads a run of fill bytes again whenever it
waits for more; Pillow reads the header byte by byte.
"""

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from catdog.structure.exif import Orientations, xmp_orientation
from catdog.structure.parts import Buffer, CutOff, Essentials, PartCounter, TooComplex

# How often a progressive JPEG may go over a component for what is not its averages: libjpeg does it
# 4 times, mozjpeg up to 7.
MAX_DETAIL_PASSES = 10
# How often for one coefficient, averages too: libjpeg 3, mozjpeg 4. A pass over averages looks at
# every block, and one that refines reads a bit of each coefficient that is not zero.
MAX_COEFFICIENT_PASSES = 4
# Of all scans together: noise at quality 100 has 1.6, and 25 MB beyond that cost 0.2 s.
_MAX_BYTES_PER_COEFFICIENT = 2.5
_MAX_EXTRA_BYTES = 65_536
# In a scan's data 0xff may stand any number of times before a marker; encoders pad a row to a few
# bytes. libjpeg reads a run of them again whenever it waits for more.
_MAX_FILL_PAIRS = 32_768
# A quantisation table has at most 129 bytes, and Pillow reads each in Python; Huffman tables
# have at most 273 bytes, and every scan may bring some.
_MAX_TABLE_BYTES = {0xDB: 16_384, 0xC4: 262_144}
_WINDOW_BYTES = 1 << 20

_SOI, _EOI, _SOS, _APP0, _APP1, _APP2, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE
_STANDALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a length
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6}
# Its scans need no bits, so that a kilobyte could have any number; no program in use writes it.
_ARITHMETIC_CODING = {*range(0xC9, 0xD0)}
_PIXEL_SEGMENTS = {*range(0xC0, 0xE0)} - {0xC8}  # frames, tables, scans, restart intervals
_KNOWN_SEGMENTS = {*range(0xC0, 0xF0), 0xFE}  # the others are errors to libjpeg
_FILL = re.compile(rb"\xff+")
_ICC_NAME = b"ICC_PROFILE\0"
_EXIF_NAME = b"Exif\0\0"
_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"


def jpeg_essentials(data: Buffer) -> Essentials:
    """Frames, tables and scans of the first image, and what tells its colour space."""
    kept: list[memoryview | bytes] = [b"\xff\xd8"]
    profile: list[memoryview] = []
    scans = _ScanCounter()
    orientations = Orientations()
    marker = None
    for marker, segment in _jpeg_segments(data):
        payload = segment[4:]
        name = bytes(payload[:32])
        if marker in _PIXEL_SEGMENTS:
            scans.add(marker, payload)
            kept.append(segment)
        elif (marker == _APP0 and name.startswith(b"JFIF")) or (
            marker == _APP14 and name.startswith(b"Adobe")
        ):
            kept.append(segment)  # they tell the colour space
        elif marker == _APP2 and name.startswith(_ICC_NAME):
            profile.append(segment)
        elif marker == _APP1 and name.startswith(_EXIF_NAME):
            orientations.add_exif(payload)
        elif marker == _APP1 and name.startswith(_XMP_NAME):
            orientations.add("xmp", xmp_orientation(payload))
    if scans.components == 4:
        kept[1:1] = profile  # CMYK needs it
    lacks_end = marker != _EOI
    if lacks_end:
        if not scans.are_complete():
            raise CutOff("it ends before its last scan")
        kept[-1] = bytes(kept[-1]).rstrip(b"\xff")  # half a marker, or half a stuffed byte
        kept.append(b"\xff\xd9")
    return Essentials(b"".join(kept), orientations.best(), scans.coefficient_bytes, lacks_end)


def _jpeg_segments(data: Buffer) -> Iterator[tuple[int, memoryview]]:
    """Marker and bytes of each segment up to the image's end; a scan's data belongs to it.

    What lies between segments is skipped, as libjpeg does it.
    """
    counter = PartCounter("segments")
    view = memoryview(data)
    scanned = False
    position = 2
    while (position := data.find(b"\xff", position)) >= 0:
        counter.add()
        fill = _FILL.match(data, position)
        code_at = fill.end() if fill else position
        if code_at >= len(data):
            return
        marker = data[code_at]
        position = code_at + 1
        if marker in _STANDALONE:
            if marker in (_SOI, _EOI):
                yield marker, view[code_at - 1 : position]
            if marker == _EOI:
                return
        elif marker:
            length = int.from_bytes(data[code_at + 1 : code_at + 3])
            position = code_at + 1 + max(2, length)  # libjpeg lets a comment have length 0
            if scanned and marker not in _KNOWN_SEGMENTS:
                yield _EOI, view[code_at - 1 :]  # libjpeg reads no further
                return
            if position > len(data):
                if scanned:  # perhaps it is behind the last scan
                    return
                raise CutOff("a segment is cut off")
            if marker == _SOS:
                scanned = True
                position = _next_marker(data, position)
            yield marker, view[code_at - 1 : position]


def _next_marker(data: Buffer, position: int) -> int:
    """Where the next marker is in a scan's data, where FF 00 is a byte and FF D0 to D7 restart.

    A regular expression takes ten times as long where there are many of these.
    """
    codes = np.frombuffer(data, np.uint8)
    while position < len(codes) - 1:
        window = codes[position : position + _WINDOW_BYTES + 1]
        at = np.flatnonzero(window[:-1] == 0xFF)
        after = window[at + 1]
        at = at[(after != 0) & (after != 0xFF) & (after & 0xF8 != 0xD0)]
        if at.size:
            return position + int(at[0])
        position += _WINDOW_BYTES
    return len(data)


def _has_fill(data: memoryview) -> bool:
    """Whether 0xff follows 0xff: asking takes a sixth of counting, and most scans say no."""
    codes = np.frombuffer(data, np.uint8)
    for start in range(0, len(codes), _WINDOW_BYTES):
        is_ff = codes[start : start + _WINDOW_BYTES + 1] == 0xFF
        if (is_ff[1:] & is_ff[:-1]).any():
            return True
    return False


class _ScanCounter:
    """Refuses a JPEG whose tables and scans are more work than its pixels are."""

    def __init__(self) -> None:
        self.components = 0
        self.coefficient_bytes = 0  # kept until all scans are read, if there are several
        self._pixels = 0
        self._progressive = False
        self._detail_passes: Counter[int] = Counter()  # by component
        self._coefficients: dict[int, _Coefficients] = {}  # by component
        self._scan_bytes = 0
        self._fill_pairs = 0
        self._table_bytes: Counter[int] = Counter()

    def are_complete(self) -> bool:
        """Whether the scans so far have every bit of every coefficient, if none is cut off."""
        return 0 < self.components == len(self._coefficients) and not any(
            any(each.missing_bits) for each in self._coefficients.values()
        )

    def add(self, marker: int, payload: memoryview) -> None:
        if marker in _START_OF_FRAME:
            if self.components:
                raise ValueError("it has two frames")
            if marker in _ARITHMETIC_CODING:
                raise TooComplex("it uses arithmetic coding")
            self.components = payload[5]
            self._pixels = int.from_bytes(payload[1:3]) * int.from_bytes(payload[3:5])
            self._progressive = marker in _PROGRESSIVE
            if len(payload) != 6 + 3 * self.components:
                raise ValueError("its frame has another length than its components")
        elif marker == _SOS:
            self._add_scan(payload)
        elif marker in _MAX_TABLE_BYTES:
            self._table_bytes[marker] += len(payload)
            largest = _MAX_TABLE_BYTES[marker]
            if self._table_bytes[marker] > largest:
                raise TooComplex(f"its tables have more than the {largest} bytes allowed")

    def _add_scan(self, payload: memoryview) -> None:
        count = payload[0]
        if self._progressive or count < self.components:
            self.coefficient_bytes = 2 * self.components * self._pixels  # libjpeg, jdcoefct.c
        first, last, bits = 0, 63, 0
        if self._progressive:
            first, last, bits = payload[1 + 2 * count : 4 + 2 * count]
        most = MAX_COEFFICIENT_PASSES if self._progressive else 1
        for component in payload[1 : 1 + 2 * count : 2]:
            self._detail_passes[component] += first > 0
            coefficients = self._coefficients.setdefault(component, _Coefficients())
            passes, details = (
                coefficients.add(first, last, bits & 15),
                self._detail_passes[component],
            )
            if passes > most or details > MAX_DETAIL_PASSES:
                raise TooComplex(f"its scans go over the same pixels {max(passes, details)} times")
        self._add_data(payload[4 + 2 * count :])

    def _add_data(self, data: memoryview) -> None:
        self._scan_bytes += len(data)
        most = _MAX_BYTES_PER_COEFFICIENT * self.components * self._pixels + _MAX_EXTRA_BYTES
        if self._scan_bytes > most:
            raise TooComplex("its scans have many times the data that its pixels need")
        if _has_fill(data):
            self._fill_pairs += bytes(data).count(b"\xff\xff")
        if self._fill_pairs > _MAX_FILL_PAIRS:
            raise TooComplex(
                f"its scans have more than {2 * _MAX_FILL_PAIRS} bytes of 0xff in rows"
            )


class _Coefficients:
    """What scans have read of one component's 64 coefficients.

    Attributes:
        missing_bits: Of each coefficient, how many low bits no scan has had; at first all.
    """

    def __init__(self) -> None:
        self.missing_bits = [16] * 64
        self._passes = [0] * 64

    def add(self, first: int, last: int, missing_bits: int) -> int:
        """Note a scan over coefficients; the most scans that one of them had until now."""
        for number in range(first, min(last, 63) + 1):
            self.missing_bits[number] = min(self.missing_bits[number], missing_bits)
            self._passes[number] += 1
        return max(self._passes)
