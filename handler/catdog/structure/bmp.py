"""BMP: only run-length encoding is dear; the rest of a BMP is its pixels ([MS-WMF] 2.2.2)."""

import struct

from catdog.structure.parts import Buffer, Essentials, TooComplex

# Pillow decodes runs in Python: up to 4 us for each, 1 us for each pixel.
MAX_RLE_PIXELS = 640 * 480
MAX_RLE_BYTES = 65_536
_RLE8, _RLE4 = 1, 2


def bmp_essentials(data: Buffer) -> Essentials:
    """The file as it is, if its pixels are no long runs."""
    header_size = int.from_bytes(data[14:18], "little")
    if header_size >= 40:
        width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
        if compression in (_RLE8, _RLE4):
            pixels, size = abs(width * height), len(data) - 14 - header_size
            if pixels > MAX_RLE_PIXELS or size > MAX_RLE_BYTES:
                raise TooComplex(
                    f"it is a run-length-encoded BMP of {pixels} pixels in {size} bytes; at most "
                    f"{MAX_RLE_PIXELS} pixels in {MAX_RLE_BYTES} bytes are allowed"
                )
    return Essentials(data, None)
