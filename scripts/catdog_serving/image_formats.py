"""The formats that files have here: more than a server takes.

A server takes the formats of `HTTP_FORMATS` only. HEIC (with the package pillow-heif), AVIF and
TIFF are decoded on this side.
"""

from functools import cache

from PIL import features

from catdog.decode import (
    DEFAULT_LIMITS,
    DEFAULT_MEMORY_BYTES,
    FOLDER_FORMATS,
    Decoder,
    Limits,
)
from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.memory_budget import MemoryBudget
from catdog.structure import detect_format
from catdog_serving.extras import install_hint


def folder_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that files of a folder may have on this machine."""
    return (*FOLDER_FORMATS, "HEIF") if _register_heic() else FOLDER_FORMATS


@cache
def folder_decoder(limits: Limits = DEFAULT_LIMITS) -> Decoder:
    """Decodes files of a folder: to classify them here, to show them, or to send them to a server.

    Args:
        limits: Of the archive, if it has others. All decoders of the process share one memory.
    """
    return Decoder(limits, folder_formats(), _decoding_memory())


@cache
def _decoding_memory() -> MemoryBudget:
    return MemoryBudget(DEFAULT_MEMORY_BYTES)


def missing_decoder(content: bytes) -> InvalidImage | None:
    """Says what to install if the content is HEIC or AVIF and nothing here can read it."""
    name = detect_format(content)
    if name == "HEIF" and not _register_heic():
        problem = f"the image is HEIC; to read it, run: {install_hint('heic')}"
    elif name == "AVIF" and not features.check("avif"):
        problem = "the image is AVIF, which the Pillow here cannot read"
    else:
        return None
    return InvalidImage(InvalidReason.UNSUPPORTED_FORMAT, problem)


@cache
def _register_heic() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
