"""What the walks over the formats share: what is left of a file, and how parts are counted."""

from typing import NamedTuple, TypeAlias

# Segments, chunks or blocks. libpng writes pieces of 8 kB, so the largest body that the server
# takes (25 MiB) has 3,200. Pillow needs up to 10 us for each.
MAX_PARTS = 10_000
# Of a text that may hold the orientation.
MAX_TEXT_BYTES = 1 << 20

Buffer: TypeAlias = bytes | bytearray


class TooComplex(ValueError):
    """The file takes more work than its pixels are worth; the message says why."""


class CutOff(ValueError):
    """The file ends before its pixels do."""


class Essentials(NamedTuple):
    """What is decoded of a file.

    Attributes:
        content: A file of the same format and the same pixels.
        orientation: EXIF's, 1 to 8 if it is a right one; None if the file has none.
        working_bytes: What the decoder keeps beside the pixels: a JPEG's coefficients, of the
            size in its header however small it is decoded, or a lossless WebP's code tables.
        lacks_end: Of a JPEG, that it had no end marker; `content` has one. Its last rows may be
            missing all the same.
    """

    content: Buffer
    orientation: int | None
    working_bytes: int = 0
    lacks_end: bool = False


class PartCounter:
    """Counts the parts of one file.

    Args:
        what: Their name, for the message.
        largest: How many there may be.
    """

    def __init__(self, what: str, largest: int = MAX_PARTS) -> None:
        self._what = what
        self._largest = largest
        self._left = largest

    def add(self) -> None:
        """Count one.

        Raises:
            TooComplex: If it is one too many.
        """
        self._left -= 1
        if self._left < 0:
            raise TooComplex(f"it has more than the {self._largest} {self._what} allowed")
