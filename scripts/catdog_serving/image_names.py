"""Which of the files in a folder are images: by their names, and else by how they begin."""

import mimetypes
import os
import re
import stat

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
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
# Made by systems and programs: previews, the halves of files that a disk cannot hold, what was
# deleted. By Synology, QNAP, macOS, Windows and ext4; all others begin with a dot.
_NO_ALBUMS = frozenset(
    {
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "__macosx"),
        *("$recycle.bin", "system volume information", "lost+found"),
    }
)


def is_passed_over(name: str, is_folder: bool) -> bool:
    """Whether what has this name is hidden, or no person's; only below what was named itself."""
    return name.startswith(".") or (is_folder and name.casefold() in _NO_ALBUMS)


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
    if is_avif(head) or is_heic(head):
        return True
    name = detect_format(head)
    if name == "BMP":  # two letters prove nothing
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return name is not None


def is_avif(content: bytes) -> bool:
    """Whether the content begins as AVIF does (AV1 Image File Format, section 6)."""
    return not _AVIF_BRANDS.isdisjoint(_brands(content))


def is_heic(content: bytes) -> bool:
    """Whether the content begins as HEIC does (ISO/IEC 23008-12, the `ftyp` box)."""
    return content[8:12] in _HEIC_BRANDS.intersection(_brands(content)) and not is_avif(content)


def _brands(content: bytes) -> set[bytes]:
    """What a file of the ISO base media format says that it is, the main brand and the others."""
    if content[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(content[:4], "big"), _HEAD_BYTES)
    return {content[8:12], *(content[at : at + 4] for at in range(16, end, 4))}


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
