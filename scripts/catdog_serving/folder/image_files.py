"""The image files of a folder: read one, in whatever format, and say what became of it.

A server takes the formats of `HTTP_FORMATS` only. For folders, HEIC (with the package
pillow-heif) and TIFF are decoded here and uploaded as PNG.
"""

import hashlib
import stat
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from catdog.decode import FOLDER_FORMATS, Decoder, InvalidImage, Limits
from catdog.results import Prediction
from catdog.structure import detect_format
from catdog.transforms import encode_png, fit_size
from catdog_serving.extras import install_hint
from catdog_serving.remote_path import AnyPath

# Larger files are no photos, and would be read into memory as a whole.
MAX_FILE_BYTES = 256 * 1024 * 1024

# The types of failures.
UNREADABLE = "Unreadable"
TOO_LARGE = "TooLarge"
INVALID_IMAGE = "InvalidImage"
UNWRITABLE = "Unwritable"  # of an overlay

_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})

# Only what protects this process: the server checks its own, narrower ones. Pillow itself
# warns above 89 million.
_LIMITS = Limits(max_pixels=89_000_000, max_aspect_ratio=1_000)
# An image that is uploaded is made smaller first if its shorter side is longer: four times
# the network's resize, so that the second resizing loses nothing that the first kept.
_UPLOAD_SHORTER_SIDE = 1024


@dataclass(frozen=True)
class FileInfo:
    """What identifies a file's content.

    Attributes:
        path: As it was found.
        size: In bytes; None if the file could not be looked at.
        mtime_ns: Time of the last change, in nanoseconds since 1970; None likewise.
        sha256: Of the content, in hex; None if it was not read.
        moved_to: Where `--move-to` took it since; None if it is where it was found.
    """

    path: AnyPath
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None
    moved_to: Path | None = None


@dataclass(frozen=True)
class ImageFailure:
    """Why a file has no prediction.

    Attributes:
        type: "Unreadable" (the file could not be read; worth another try), "TooLarge",
            or "InvalidImage" (what it holds was refused).
        message: A sentence.
    """

    type: str
    message: str


@dataclass(frozen=True)
class ImageResult:
    """What became of one file: a row of every output."""

    file: FileInfo
    outcome: Prediction | ImageFailure

    @property
    def path(self) -> AnyPath:
        return self.file.path

    @property
    def label(self) -> str:
        """ "cat", "dog", "neither" or "failed"."""
        return self.outcome.label if isinstance(self.outcome, Prediction) else "failed"

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON: path, size, mtime_ns, sha256, the answer's keys or `error`."""
        file, outcome = self.file, self.outcome
        values = {
            "path": str(file.path),
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "sha256": file.sha256,
        }
        if isinstance(outcome, Prediction):
            return values | outcome.to_dict(with_map=True)
        return values | {"error": {"type": outcome.type, "message": outcome.message}}


@dataclass
class FolderReport:
    """The summary of one folder, or of all files that were named by themselves.

    Attributes:
        folder: The path as it was given; for files, how many.
        images: Images classified.
        reused: How many of them were done already, in an earlier run.
        failed: Files that could not be classified.
        unreadable: How many of them could not be read; `--resume` tries them again.
        skipped: Files that are no images by their name.
        seconds: Time that this run spent on it.
        labels: How often each label was given.
    """

    folder: str
    images: int = 0
    reused: int = 0
    failed: int = 0
    unreadable: int = 0
    skipped: int = 0
    seconds: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    _cat_sum: float = 0.0
    _dog_sum: float = 0.0

    def add(self, result: ImageResult, reused: bool = False) -> None:
        """Count one row."""
        if isinstance(result.outcome, ImageFailure):
            self.failed += 1
            self.unreadable += result.outcome.type == UNREADABLE
            return
        self.images += 1
        self.reused += reused
        self.labels[result.label] += 1
        self._cat_sum += result.outcome.cat
        self._dog_sum += result.outcome.dog

    @property
    def images_per_s(self) -> float:
        """Of the images that this run classified."""
        return (self.images - self.reused) / self.seconds if self.seconds else 0.0

    @property
    def mean_cat(self) -> float | None:
        """Mean cat mass over the classified images; None if there are none."""
        return self._cat_sum / self.images if self.images else None

    @property
    def mean_dog(self) -> float | None:
        return self._dog_sum / self.images if self.images else None

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "folder": self.folder,
            "images": self.images,
            "reused": self.reused,
            "failed": self.failed,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "images_per_s": round(self.images_per_s, 2),
            "mean_cat": self.mean_cat,
            "mean_dog": self.mean_dog,
            "labels": dict(self.labels),
        }


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
def folder_decoder() -> Decoder:
    """Decodes files of a folder for people to look at, or to send them to a server.

    One for all threads of the process, so that they share its memory.
    """
    return Decoder(_LIMITS, folder_formats())


def is_heic(content: bytes) -> bool:
    """Whether the content begins as HEIC does (ISO/IEC 23008-12, the `ftyp` box)."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS


def missing_decoder(content: bytes) -> ImageFailure | None:
    """Says what to install if the content is HEIC and nothing here can read it."""
    if is_heic(content) and not _register_heic():
        return ImageFailure(
            INVALID_IMAGE, f"the image is HEIC; to read it, run: {install_hint('heic')}"
        )
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
    """The content as the server takes it: HEIC and TIFF as PNG, all else as it is."""
    if not is_heic(content) and detect_format(content) != "TIFF":
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
