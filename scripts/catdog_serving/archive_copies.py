"""Model archives that are made: of a folder, and copies of them under another version.

TorchServe takes a version from the archive's manifest and nowhere else, so an archive
that is to be loaded beside itself, or beside an older one, has to be copied with another.
"""

import copy
import json
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from catdog_serving.atomic_write import sync
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.model_archive import (
    MANIFEST,
    OTHERS_WRITE,
    archive_version,
    opened_archive,
    zip_archive,
)

# The first date of a ZIP file: all have it, so that the same content makes the same bytes.
FIRST_DATE = datetime(1980, 1, 1, tzinfo=UTC)
_BLOCK = 1 << 20


def private_copy(archive: Path, target: Path) -> None:
    """Copy an archive that may be replaced at any time, to where only this user writes.

    What is checked, told and served of it is then the same content.

    Raises:
        NotReadyError: If there is no such archive, or the copy cannot be written.
        RefusedError: If another user owns it.
    """
    with opened_archive(archive, of_ours=True) as source, _writing(target):
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with target.open("wb") as copied:
            shutil.copyfileobj(source, copied, _BLOCK)
        keep_from_others(target)


def copy_archive(archive: Path, target: Path, version: str) -> None:
    """Copy an archive; byte for byte if it has that version already.

    Raises:
        NotReadyError: If it is no model archive, or the copy cannot be written.
    """
    if archive_version(archive) == version:
        with _written(target):
            shutil.copyfile(archive, target)
        return
    with (
        _written(target),
        zip_archive(archive) as source,
        zipfile.ZipFile(target, "w") as made,
    ):
        for entry in source.infolist():
            if entry.filename == MANIFEST:
                made.writestr(copy.copy(entry), _with_version(source.read(entry), version))
                continue
            with source.open(entry) as content, made.open(copy.copy(entry), "w") as packed:
                shutil.copyfileobj(content, packed, _BLOCK)


def pack_folder(
    model_dir: Path, target: Path, version: str, created: datetime | None = None
) -> None:
    """Make an archive of a folder that TorchServe unpacked; the same folder, the same bytes.

    Args:
        model_dir: The folder.
        target: The .mar.
        version: Stamped into it.
        created: The manifest's date; None leaves it as it is.

    Raises:
        NotReadyError: If it cannot be written.
    """
    with _written(target), zipfile.ZipFile(target, "w") as made:
        for name, path in _files(model_dir).items():
            entry = zipfile.ZipInfo(name, FIRST_DATE.timetuple()[:6])
            entry.external_attr = 0o100644 << 16
            if name == MANIFEST:
                made.writestr(entry, _with_version(path.read_bytes(), version, created))
                continue
            entry.file_size = path.stat().st_size  # zipfile decides by it about its 64-bit form
            with path.open("rb") as content, made.open(entry, "w") as packed:
                shutil.copyfileobj(content, packed, _BLOCK)


def has_files_of(archive: Path, model_dir: Path) -> bool:
    """Whether an archive has the files of an unpacked one; its version may be another."""
    files = _files(model_dir)
    try:
        with zip_archive(archive) as packed:
            entries = {e.filename: e for e in packed.infolist() if not e.is_dir()}
            if entries.keys() != files.keys():
                return False
            manifest = _with_version(packed.read(MANIFEST), "")
    except (NotReadyError, RefusedError):
        return False
    if manifest != _with_version(files[MANIFEST].read_bytes(), ""):
        return False
    return all(
        entry.file_size == files[name].stat().st_size and _crc(files[name]) == entry.CRC
        for name, entry in entries.items()
        if name != MANIFEST
    )


def next_version(loaded: Iterable[str]) -> str:
    """The next whole number over all versions: "2.0" after "1.0"; words count as 0."""
    numbers = (re.match(r"\d+", version) for version in loaded)
    return f"{1 + max((int(number[0]) for number in numbers if number), default=0)}.0"


def keep_from_others(archive: Path) -> None:
    """Take the group's and others' right to write, which the umask may have left.

    Raises:
        OSError: If it cannot be taken.
    """
    mode = stat.S_IMODE(archive.stat().st_mode)
    if mode & OTHERS_WRITE:
        archive.chmod(mode & ~OTHERS_WRITE)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotReadyError(f"cannot write {target}: {error.strerror or error}") from error


@contextmanager
def _written(target: Path) -> Iterator[None]:
    """As `_writing`, and the file is on the disk at the end: a full one shows here."""
    with _writing(target):
        yield
        keep_from_others(target)
        sync(target)


def _files(model_dir: Path) -> dict[str, Path]:
    """By their names in an archive; without what Python adds when the worker runs."""
    return {
        path.relative_to(model_dir).as_posix(): path
        for path in sorted(model_dir.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _with_version(manifest: bytes, version: str, created: datetime | None = None) -> bytes:
    values = json.loads(manifest)
    if created:
        values["createdOn"] = f"{created:%d/%m/%Y %H:%M:%S}"  # as torch-model-archiver writes it
    values["model"]["modelVersion"] = version
    return json.dumps(values, indent=2).encode()


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc
