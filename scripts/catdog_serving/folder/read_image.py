"""Read an image file of a folder, whatever its format is."""

import hashlib
import stat

from catdog_serving.folder.image_result import (
    TOO_LARGE,
    UNREADABLE,
    FileInfo,
    ImageFailure,
)
from catdog_serving.remote_path import AnyPath

# Larger files are no photos, and would be read into memory as a whole.
MAX_FILE_BYTES = 256 * 1024 * 1024


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
