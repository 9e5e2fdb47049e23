"""How one file gets a name in another folder: the names, and copying or moving to a free one.

Nothing is ever overwritten, and an original on another disk goes only when its copy is complete,
has its name and is, byte for byte, the file that was classified.
"""

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path

from catdog_serving.atomic_write import scratch_folder, sync, sync_names
from catdog_serving.model_archive import file_sha256
from catdog_serving.real_folders import nearest_there

_MAX_NAME_BYTES = 255  # of Linux's file systems; some, such as eCryptfs, have less
_MAX_SUFFIX_BYTES = 20  # what is longer is no suffix, but a name with a dot in it

# <linux/fs.h>, <fcntl.h>
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
# Of a file system, or a kernel, that cannot rename so: NFS, for example.
_NO_RENAMEAT2 = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def names(folder: Path, name: str) -> Iterator[Path]:
    """name.jpg, name (2).jpg, name (3).jpg ...; a name that gets too long loses its stem's end."""
    yield folder / name
    longest = _max_name(folder)
    stem, suffix = os.path.splitext(name)
    if len(os.fsencode(suffix)) > _MAX_SUFFIX_BYTES:
        stem, suffix = name, ""
    for number in count(2):
        end = f" ({number}){suffix}"
        yield folder / (_cut(stem, longest - len(os.fsencode(end))) + end)


def _max_name(folder: Path) -> int:
    """How many bytes a name there may have; the folder may be missing yet."""
    try:
        return min(os.pathconf(nearest_there(folder), "PC_NAME_MAX"), _MAX_NAME_BYTES)
    except OSError:
        return _MAX_NAME_BYTES


def _cut(text: str, size: int) -> str:
    """The first bytes of a name, as far as its characters are whole."""
    raw = os.fsencode(text)
    while 0 < size < len(raw) and raw[size] & 0xC0 == 0x80:  # within a character of UTF-8
        size -= 1
    return os.fsdecode(raw[:size])


def is_copy(place: Path, source: Path) -> bool:
    """Whether a name is that of another file with the same content, so that one may go.

    Of a thousand IMG_0001.jpg most differ in size.
    """
    status, original = place.lstat(), source.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size != original.st_size:
        return False
    if may_be_one_file(status, original):
        return False
    sha256 = file_sha256(source)
    with suppress(OSError):  # of what cannot be read nothing is known
        return file_sha256(place) == sha256
    return False


def may_be_one_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two names may be of one file, whose device number differs through another mount.

    No copy has its original's inode number and, to the nanosecond, its time of the last change.
    """
    return one.st_ino == other.st_ino and (
        one.st_dev == other.st_dev or one.st_ctime_ns == other.st_ctime_ns
    )


def place_file(source: Path, place: Path, sha256: str | None, move: bool) -> None:
    """Copy or move a file to a name that nobody has; a link is followed, and goes if it is moved.

    Args:
        source: The file.
        place: The name; its folder is there.
        sha256: Of the file's content, when it was classified.
        move: Take the original away.

    Raises:
        FileExistsError: If the name was taken meanwhile.
        OSError: If it cannot; it names the source only where that cannot be read or is gone.
    """
    if move and not source.is_symlink():  # a relative link would point elsewhere from there
        try:
            _rename_to_free(source, place)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    with scratch_folder(place.parent) as scratch:
        partial = scratch / place.name
        mode = stat.S_IMODE(source.stat().st_mode) & 0o777 | 0o600
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode))
        shutil.copyfile(source, partial)
        with suppress(OSError):  # the target may know no times, modes or attributes, as vfat
            shutil.copystat(source, partial)
        sync(partial)
        if file_sha256(partial) != sha256:
            raise OSError(errno.EAGAIN, "it changes while it is copied")
        _rename_to_free(partial, place)
    if move:
        _remove_original(source, place)


def remove_original(source: Path, copy: Path) -> None:
    """Take a file away of which there is a copy, when the copy would survive a loss of power."""
    sync(copy)
    _remove_original(source, copy)


def _remove_original(source: Path, copy: Path) -> None:
    sync_names(copy.parent)
    try:
        source.unlink()
    except OSError as error:  # without its name: it can be read
        raise OSError(error.errno, error.strerror) from error


def _rename_to_free(source: Path, place: Path) -> None:
    """Rename, but only to a name that nobody has; plain renaming would replace a file."""
    try:
        _rename_noreplace(source, place)
    except OSError as error:
        if error.errno not in _NO_RENAMEAT2:
            raise
        _rename_to_reserved(source, place)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _rename_noreplace(source: Path, place: Path) -> None:
    """renameat2(2), which Python lacks. A kill leaves the file under one of the two names."""
    library = _c_library()
    if not hasattr(library, "renameat2"):  # of the C library: musl had none for long
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(place))
    here, there = os.fsencode(source), os.fsencode(place)
    if library.renameat2(_AT_FDCWD, here, _AT_FDCWD, there, _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        name = place if os.path.lexists(source) else source
        raise OSError(number, os.strerror(number), str(name))


def _rename_to_reserved(source: Path, place: Path) -> None:
    """The same in two steps. A kill between them leaves an empty file; see `drop_reserved`."""
    with place.open("xb") as reserved:
        status = os.fstat(reserved.fileno())
    try:
        os.replace(source, place)
    except BaseException:
        # Over a network a renaming that failed may have been done: then the place is not ours.
        if os.path.samestat(place.lstat(), status):
            place.unlink()
        raise


def drop_reserved(place: Path) -> None:
    """Remove the empty file of a move that was killed before it was done."""
    with suppress(OSError):
        status = place.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size == 0:
            place.unlink()
