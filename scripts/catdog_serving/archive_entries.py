"""What a ZIP file has to be before anything of it is unpacked.

An archive is unpacked by two readers: Python goes by the directory at the file's end, TorchServe's
Java by the entries one after the other. They see the same only if the entries lie without a gap
from the first byte to the directory and both tell the same of each; then what was checked is what
runs. The other rules bound what an archive may cost.
"""

import struct
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import IO

from catdog_serving.errors import RefusedError

MAX_ENTRIES = 1_000  # an archive of catdog has about 40
# Weights do not compress: archives are as large as what they hold. Small ones may be of text alone.
_MOST_TIMES = 4
_SMALL_BYTES = 64 << 20
_MAX_NAME = 255
_DIRECTORY_BYTES = 1 << 20
_BLOCK = 1 << 20

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
# Bits of an entry that change nothing: how well it was compressed, and that its name is UTF-8.
# Names are ASCII, so that this one is the same in both ways of reading.
_HARMLESS_FLAGS = 0x0806


def check_end(file: IO[bytes]) -> None:
    """Look at the end of a ZIP file, before its directory is read into memory.

    Raises:
        zipfile.BadZipFile: If the file does not end with its directory.
        RefusedError: If there are too many entries.
    """
    size = file.seek(0, 2)
    if size < _END.size:
        raise zipfile.BadZipFile("File is not a zip file")
    file.seek(size - _END.size)
    mark, *_, entries, length, start, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\5\6" or comment:
        raise zipfile.BadZipFile("it does not end with a zip file's directory")
    if entries > MAX_ENTRIES or length > _DIRECTORY_BYTES:
        raise RefusedError(f"it has more than {MAX_ENTRIES} files")
    if start + length + _END.size != size:
        raise zipfile.BadZipFile("its directory lies elsewhere than it says")
    file.seek(0)


def check_entries(packed: zipfile.ZipFile, file: IO[bytes]) -> None:
    """Make sure that every reader finds the same files, and that they are no larger than they say.

    Args:
        packed: The opened ZIP file.
        file: The same, to read what lies between its entries.

    Raises:
        RefusedError: If not; the message says which entry.
        zipfile.BadZipFile, zlib.error: If one is broken.
    """
    entries = sorted(packed.infolist(), key=lambda entry: entry.header_offset)
    size = file.seek(0, 2)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(_SMALL_BYTES, _MOST_TIMES * size):
        raise RefusedError(f"it has {size} bytes and would unpack to {unpacked}")
    if len(entries) > MAX_ENTRIES:
        raise RefusedError(f"it has more than {MAX_ENTRIES} files")
    if len({entry.filename for entry in entries}) != len(entries):
        raise RefusedError("it has two files of one name")
    at = 0
    for entry in entries:
        _check_entry(entry)
        if entry.header_offset != at:
            raise RefusedError(f"it has something else before {entry.filename!r}")
        at = _check_local_header(file, entry)
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            _check_deflated(file, entry)
    if at != packed.start_dir:
        raise RefusedError("it has something else before its directory")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    path = PurePosixPath(name)
    is_plain = name.removesuffix("/") == str(path) and not path.is_absolute()
    is_inside = ".." not in path.parts and name != "." and "\\" not in name
    if not (is_plain and is_inside and name.isascii() and name.isprintable()):
        raise RefusedError(f"it has a file {name!r}, which is no place within an archive")
    if len(name) > _MAX_NAME:
        raise RefusedError(f"it has a name of {len(name)} characters")
    if entry.flag_bits & ~_HARMLESS_FLAGS:
        raise RefusedError(f"its {name!r} is encrypted, or packed as catdog does not pack")
    is_stored = entry.compress_type == zipfile.ZIP_STORED
    if not (is_stored or entry.compress_type == zipfile.ZIP_DEFLATED):
        raise RefusedError(f"its {name!r} is compressed by method {entry.compress_type}")
    if is_stored and entry.compress_size != entry.file_size:
        raise RefusedError(f"its {name!r} is stored in another size than it says")


def _check_local_header(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    """Compare what lies before an entry's content; where the entry ends."""
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise zipfile.BadZipFile(f"its {entry.filename!r} is cut off")
    mark, _, flags, method, _, _, crc, packed, unpacked, name, extra = _LOCAL_HEADER.unpack(header)
    told = (b"PK\3\4", entry.flag_bits, entry.compress_type)
    sizes = (entry.CRC, entry.compress_size, entry.file_size)
    is_same = (mark, flags, method) == told and (crc, packed, unpacked) == sizes
    if not is_same or file.read(name) != entry.orig_filename.encode():
        raise RefusedError(f"its {entry.filename!r} is told in two ways")
    file.seek(extra, 1)
    return file.tell() + entry.compress_size


def _check_deflated(file: IO[bytes], entry: zipfile.ZipInfo) -> None:
    """Decompress what lies at the file's position, without keeping it.

    Java goes on to where the data ends, whatever size is told.
    """
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    left, found, waiting, piece = entry.compress_size, 0, b"", b""
    while not engine.eof and found <= entry.file_size and (left or waiting or piece):
        if not waiting and left:
            waiting = file.read(min(left, _BLOCK))
            left -= len(waiting)
            if not waiting:
                break
        piece = engine.decompress(waiting, _BLOCK)
        found += len(piece)
        waiting = engine.unconsumed_tail
    if not engine.eof or left or engine.unused_data or found != entry.file_size:
        raise RefusedError(f"its {entry.filename!r} has another size than it says")
