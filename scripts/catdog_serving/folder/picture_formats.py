"""HEIC and TIFF: what Pillow reads with help, and what the server does not take.

The server takes the formats of `HTTP_FORMATS` only. For folders, HEIC (with the package
pillow-heif) and TIFF are decoded here and sent as PNG.
"""

import io
from functools import cache

from PIL import Image

from catdog.preprocess import FOLDER_FORMATS, InvalidImage, Limits, decode_image
from catdog_serving.folder.contents import INVALID_IMAGE, ImageError

_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

# Only what protects this process: the server checks its own, narrower ones.
_LIMITS = Limits(max_pixels=89_000_000, max_aspect_ratio=1_000)  # Pillow warns above 89 million
# A picture that is sent is made smaller first if its shorter side is longer: four times
# the network's resize, so that the second resizing loses nothing that the first kept.
_SENT_SHORTER_SIDE = 1024


def folder_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that files of a folder may have on this machine."""
    return (*FOLDER_FORMATS, "HEIF") if _register_heic() else FOLDER_FORMATS


def is_heic(content: bytes) -> bool:
    """Whether the content begins as HEIC does (ISO/IEC 23008-12, the `ftyp` box)."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS


def missing_decoder(content: bytes) -> ImageError | None:
    """Says what to install if the content is HEIC and nothing here can read it."""
    if is_heic(content) and not _register_heic():
        return ImageError(
            INVALID_IMAGE, "the picture is HEIC; to read it, run: pip install 'catdog[heic]'"
        )
    return None


def for_server(content: bytes) -> bytes | ImageError:
    """The content as the server takes it: HEIC and TIFF as PNG, all else as it is."""
    if not is_heic(content) and not content.startswith(_TIFF_STARTS):
        return content
    missing = missing_decoder(content)
    if missing:
        return missing
    try:
        image = decode_image(content, _LIMITS, folder_formats())
    except InvalidImage as error:
        return ImageError(INVALID_IMAGE, error.message)
    scale = _SENT_SHORTER_SIDE / min(image.size)
    if scale < 1:
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


@cache
def _register_heic() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
