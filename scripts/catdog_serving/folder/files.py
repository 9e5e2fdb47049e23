"""The files of a folder: read one, and keep what says later whether it changed."""

import hashlib
import stat
from dataclasses import dataclass

from catdog_serving.folder.remote_path import AnyPath

# Larger files are no photos, and would be read into memory as a whole.
MAX_FILE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class FileInfo:
    """What identifies a file's content.

    Attributes:
        path: As it was found.
        size: In bytes; None if the file could not be looked at.
        mtime_ns: Time of the last change, in nanoseconds since 1970; None likewise.
        sha256: Of the content, in hex; None if it was not read.
    """

    path: AnyPath
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None


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


UNREADABLE = "Unreadable"
TOO_LARGE = "TooLarge"
INVALID_IMAGE = "InvalidImage"
UNWRITABLE = "Unwritable"  # of an overlay


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
