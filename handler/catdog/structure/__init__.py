"""What of a file makes its pixels, found before a decoder reads the file.

A limit on pixels does not bound what a file costs: a JPEG may go over its pixels 15,000 times,
and a GIF may have millions of empty blocks. Each format's own structure is walked here first,
in time that its size bounds. A file that takes more work than its pixels are worth is refused;
what no pixel needs (comments, texts, previews, further images) is left out, so no decoder meets it.
Of the metadata only the orientation is read.
"""

from collections.abc import Callable

from catdog.structure.bmp import bmp_essentials
from catdog.structure.gif import gif_essentials
from catdog.structure.heif import avif_essentials, heif_essentials
from catdog.structure.jpeg import jpeg_essentials
from catdog.structure.parts import Buffer, CutOff, Essentials, TooComplex
from catdog.structure.png import PNG_SIGNATURE, png_essentials
from catdog.structure.tiff import tiff_essentials
from catdog.structure.webp import webp_essentials

__all__ = ["CutOff", "Essentials", "TooComplex", "detect_format", "essentials"]

_WALKS: dict[str, Callable[[Buffer], Essentials]] = {
    "JPEG": jpeg_essentials,
    "PNG": png_essentials,
    "GIF": gif_essentials,
    "WEBP": webp_essentials,
    "BMP": bmp_essentials,
    "TIFF": tiff_essentials,
    "HEIF": heif_essentials,
    "AVIF": avif_essentials,
}
_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    PNG_SIGNATURE: "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    # little and big endian, BigTIFF, and two mistakes that Pillow takes too
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0"), "TIFF"),
}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_MAX_BRANDS_BYTES = 256


def detect_format(data: Buffer) -> str | None:
    """Pillow's name of the format that the content begins as; None if it is none of ours."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":  # whose box says of which kinds the file is (ISO/IEC 14496-12)
        end = min(int.from_bytes(data[:4]), _MAX_BRANDS_BYTES)
        main, *others = (bytes(data[at : at + 4]) for at in (8, *range(16, end, 4)))
        if _AVIF_BRANDS & {main, *others}:
            return "AVIF"
        return "HEIF" if main in _HEIC_BRANDS else None
    return next((name for start, name in _STARTS.items() if data.startswith(start)), None)


def essentials(data: Buffer, name: str) -> Essentials:
    """Leave out of a file what its pixels do not need.

    Args:
        data: The file's content.
        name: Its format, as `detect_format` names it.

    Raises:
        TooComplex: If decoding would take longer than its pixels are worth.
        CutOff: If the file ends before its pixels do.
        ValueError, struct.error, IndexError: If the structure is broken.
    """
    return _WALKS[name](data)
