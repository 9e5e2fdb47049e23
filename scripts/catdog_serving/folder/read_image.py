"""Read an image file of a folder, in whatever format, and make of it what a server takes.

A server takes the formats of `HTTP_FORMATS` only. For folders, HEIC (with the package
pillow-heif), AVIF and TIFF are decoded here and uploaded as PNG.
"""

import hashlib
import stat
from functools import cache
from typing import NamedTuple

from PIL import Image, features

from catdog.decode import (
    DEFAULT_LIMITS,
    DEFAULT_MEMORY_BYTES,
    FOLDER_FORMATS,
    HTTP_FORMATS,
    Decoder,
    Limits,
)
from catdog.invalid_image import InvalidImage
from catdog.memory_budget import MemoryBudget
from catdog.results import Prediction
from catdog.structure import detect_format
from catdog.transforms import encode_png, fit_size
from catdog_serving.extras import install_hint
from catdog_serving.folder.image_result import (
    INVALID_IMAGE,
    TOO_LARGE,
    UNREADABLE,
    FileInfo,
    ImageFailure,
)
from catdog_serving.remote_path import AnyPath

# Larger files are no photos, and would be read into memory as a whole.
MAX_FILE_BYTES = 256 * 1024 * 1024

# An image that is uploaded is made smaller first if its shorter side is longer: four times
# the network's resize, so that the second resizing loses nothing that the first kept.
_UPLOAD_SHORTER_SIDE = 1024


def read_file(path: AnyPath) -> tuple[FileInfo, bytes | ImageFailure]:
    """Read a file as a whole; what goes wrong is the second value."""
    try:
        status = path.stat()
        file = FileInfo(path, status.st_size, status.st_mtime_ns)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            return file, ImageFailure(UNREADABLE, _why_no_file(path))
        if status.st_size is not None and status.st_size > MAX_FILE_BYTES:
            return file, ImageFailure(
                TOO_LARGE,
                f"the file has {status.st_size} bytes, at most {MAX_FILE_BYTES} are read",
            )
        content = path.read_bytes()
    except OSError as error:
        return FileInfo(path), ImageFailure(UNREADABLE, error.strerror or str(error))
    return FileInfo(
        path, len(content), status.st_mtime_ns, hashlib.sha256(content).hexdigest()
    ), content


def _why_no_file(path: AnyPath) -> str:
    """Folders come here only when they could not be listed."""
    if not path.is_dir():
        return "not a regular file"
    next(path.iterdir(), None)  # raises the reason
    return "the folder could not be listed"


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


def missing_decoder(content: bytes) -> ImageFailure | None:
    """Says what to install if the content is HEIC or AVIF and nothing here can read it."""
    name = detect_format(content)
    if name == "HEIF" and not _register_heic():
        return ImageFailure(
            INVALID_IMAGE, f"the image is HEIC; to read it, run: {install_hint('heic')}"
        )
    if name == "AVIF" and not features.check("avif"):
        return ImageFailure(INVALID_IMAGE, "the image is AVIF, which the Pillow here cannot read")
    return None


class Upload(NamedTuple):
    """An image as it goes to the server.

    Attributes:
        content: The file's bytes, or a PNG.
        upload_size, own_size: Width and height upright, as uploaded and of the file itself, where
            they differ: boxes of the answer are in pixels of the first.
    """

    content: bytes
    upload_size: tuple[int, int] | None = None
    own_size: tuple[int, int] | None = None

    def in_own_pixels(self, answer: Prediction) -> Prediction:
        """The answer with its box in pixels of the file's own image."""
        if self.upload_size is None or self.own_size is None:
            return answer
        return answer.scaled(self.upload_size, self.own_size)


def to_upload(content: bytes) -> Upload | ImageFailure:
    """The content as the server takes it: HEIC, AVIF and TIFF as PNG, all else as it is."""
    if detect_format(content) in (None, *HTTP_FORMATS):
        return Upload(content)
    missing = missing_decoder(content)
    if missing:
        return missing
    try:
        with folder_decoder().decoded(content) as (image, own_size):
            upload_size = fit_size(own_size, shorter_side=_UPLOAD_SHORTER_SIDE)
            if upload_size != own_size:
                image = image.resize(upload_size, Image.Resampling.BILINEAR)
            return Upload(encode_png(image), upload_size, own_size)
    except InvalidImage as error:
        return ImageFailure(INVALID_IMAGE, error.message)


@cache
def _register_heic() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
