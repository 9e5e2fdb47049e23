"""EXIF's orientation, read out of metadata that strangers wrote.

Pillow would read every tag of it, and 5,000 tags may each claim the same megabytes.
"""

import re
import struct

ORIENTATION_TAG = 0x0112  # EXIF 2.32, tag 274
_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}  # two are common mistakes
_VALUE_LAYOUTS = {3: "H", 4: "I", 8: "h", 9: "i"}  # TIFF 6.0's integers
_MAX_ENTRIES = 1_000  # that are looked at; cameras write fewer than 100
_MAX_BLOCKS = 16  # of one file; encoders write one
_NAMES = re.compile(rb"(?:Exif\0\0)*")  # some programs write it twice; Pillow skips them all
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def exif_orientation(exif: bytes | memoryview) -> int | None:
    """The orientation in a block of EXIF.

    Args:
        exif: With or without its name, "Exif" and two zeros.

    Returns:
        A number, 1 to 8 if it is a right one; None if the block is broken or has none.
    """
    name = _NAMES.match(exif)
    data = bytes(exif[name.end() :] if name else exif)
    order = _ORDERS.get(data[:4])
    if order is None or len(data) < 8:
        return None
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 > len(data):
        return None
    (count,) = struct.unpack_from(order + "H", data, at)
    entries = data[at + 2 : at + 2 + 12 * min(count, _MAX_ENTRIES)]
    whole = len(entries) - len(entries) % 12
    found = None
    for tag, kind, values, value in struct.iter_unpack(order + "HHI4s", entries[:whole]):
        if tag == ORIENTATION_TAG and values == 1 and kind in _VALUE_LAYOUTS:  # the last counts
            (found,) = struct.unpack_from(order + _VALUE_LAYOUTS[kind], value)
    return found


def xmp_orientation(xmp: bytes | memoryview) -> int | None:
    """The orientation in XMP's text, as a number; None if it has none."""
    found = _IN_XMP.search(xmp)
    return int(found[1]) if found else None


class Orientations:
    """What the places of one file say that may hold the orientation."""

    _PLACES = ("exif", "profile", "xmp")  # the first that has one counts, as in Pillow

    def __init__(self) -> None:
        self._found: dict[str, int | None] = {}
        self._blocks_left = _MAX_BLOCKS

    def add_exif(self, block: bytes | memoryview) -> None:
        """Read a block of EXIF; those beyond `_MAX_BLOCKS` are not looked at."""
        self._blocks_left -= 1
        if self._blocks_left >= 0:
            self.add("exif", exif_orientation(block))

    def add(self, place: str, orientation: int | None) -> None:
        """Note what a place says; of a place that is there twice the last counts."""
        if orientation is not None:
            self._found[place] = orientation

    def best(self) -> int | None:
        """The orientation, 1 to 8 if it is a right one; None if no place has one."""
        return next((self._found[place] for place in self._PLACES if place in self._found), None)
