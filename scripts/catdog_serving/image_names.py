"""Which of the files in a folder are images: by their names, and else by how they begin."""

import fnmatch
import mimetypes
import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from catdog.structure import detect_format
from catdog_serving.remote_path import AnyPath, RemotePath, local_path

# Tried without a look: a broken one is a failure and no other file.
IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng"),
        *(".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".heic", ".heif", ".hif", ".avif"),
    }
)
# A camera's raw data begins as TIFF, and lies beside the JPEG of the same photo.
_RAW_SUFFIXES = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef"),
        *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2"),
        *(".srf", ".srw", ".x3f"),
    }
)
_HEAD_BYTES = 64
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})  # in bytes: all that there are
# Made by systems and programs: previews, the halves of files that a disk cannot hold, what was
# deleted. By Synology, QNAP, macOS, Windows and ext4; all others begin with a dot.
_NO_ALBUMS = frozenset(
    {
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "__macosx"),
        *("$recycle.bin", "system volume information", "lost+found"),
    }
)


@dataclass(frozen=True)
class Selection:
    """Which of what lies below a path that was named is taken.

    Patterns are a shell's (`*.jpg`), for a name, or with a "/" for the path below the one that
    was named, where * matches / too. Upper and lower case are the same, and so are the two
    forms of Unicode: one disk keeps é as one character, another as two.

    Attributes:
        patterns: If any: take the files that match one, whatever they are.
        exclude: Pass over the files and folders that match one.
    """

    patterns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def passes_over(self, below: PurePath, is_folder: bool) -> bool:
        """Whether a file or folder is hidden, a system's, or excluded.

        Args:
            below: Its path below the one that was named.
            is_folder: Which it is.
        """
        name = below.name
        if name.startswith(".") or (is_folder and name.casefold() in _NO_ALBUMS):
            return True
        return _match(self._excluding, below)

    def takes(self, path: AnyPath, below: PurePath) -> bool:
        """Whether a file that is not passed over is taken."""
        return _match(self._taking, below) if self.patterns else is_image(path)

    @cached_property
    def _taking(self) -> list["_Pattern"]:
        return list(map(_Pattern, self.patterns))

    @cached_property
    def _excluding(self) -> list["_Pattern"]:
        return list(map(_Pattern, self.exclude))


class _Pattern:
    """One pattern, as it is and in its form without case."""

    def __init__(self, pattern: str) -> None:
        pattern = pattern.rstrip("/") or pattern  # a shell completes folders so
        self._is_path = "/" in pattern
        self._plain = re.compile(fnmatch.translate(pattern))
        self._folded = re.compile(fnmatch.translate(_fold(pattern)))

    def matches(self, below: PurePath) -> bool:
        text = below.as_posix() if self._is_path else below.name
        return bool(self._plain.match(text) or self._folded.match(_fold(text)))


def _match(patterns: Sequence[_Pattern], below: PurePath) -> bool:
    return any(pattern.matches(below) for pattern in patterns)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def is_image(path: AnyPath) -> bool:
    """Whether a file is tried as an image: by its suffix, and else by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    if suffix in _RAW_SUFFIXES:
        return False
    try:
        return begins_as_image(_head(path))
    except OSError:  # gone, or it may not be read; nothing says that it is an image
        return False


def begins_as_image(head: bytes) -> bool:
    """Whether these are the first bytes of a format that can be read here, with its extras."""
    name = detect_format(head)
    if name == "BMP":  # two letters prove nothing
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return name is not None


def _head(path: AnyPath) -> bytes:
    """The first bytes of a regular file; none of a pipe, which would be waited for.

    Of a file in a store too, unless its name says another type: each look is a request.
    """
    here = local_path(path)
    if isinstance(path, RemotePath) and here is None:
        kind, _ = mimetypes.guess_type(re.sub(r"[?!:].*", "", path.name))
        is_other = kind is not None and not kind.startswith("image/")
        return b"" if is_other else path.read_bytes(_HEAD_BYTES)
    if here is None or not stat.S_ISREG(here.stat().st_mode):
        return b""
    descriptor = os.open(here, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _HEAD_BYTES)
    finally:
        os.close(descriptor)
