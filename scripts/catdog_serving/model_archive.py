"""Model archives as files: whose they are, what they hold, and copies under another version.

TorchServe takes a version from the archive's manifest and nowhere else, so an archive
that is to be loaded beside itself, or beside an older one, has to be copied with another.
"""

import copy
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

from catdog.model_info import MODEL_INFO_FILE, check_format
from catdog_serving.archive_entries import check_end, check_entries
from catdog_serving.atomic_write import scratch_folder, sync
from catdog_serving.errors import NotReadyError, RefusedError

MANIFEST = "MAR-INF/MANIFEST.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same content makes the same bytes
_BLOCK = 1 << 20
# What Python raises on a file that is no ZIP file, a broken one, or one of other content.
_BROKEN = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError),
    *(KeyError, ValueError, TypeError, AttributeError, OverflowError, RuntimeError),
)
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def open_archive(archive: Path) -> Iterator[Path]:
    """Unpack an archive into a private temporary folder: the model directory.

    Raises:
        NotReadyError: If there is no such archive, it is not one, or it cannot be read or unpacked.
        RefusedError: If another user owns it or may write to it: an archive is code that will be
            run.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder())
        except OSError as error:
            raise NotReadyError(f"cannot unpack {archive}: {error.strerror or error}") from error
        unpack(archive, folder)
        yield folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder, which is made if it is not there.

    Raises:
        NotReadyError: If there is no such archive, it is not one, or it cannot be read or unpacked.
        RefusedError: If another user owns it or may write to it.
    """
    try:
        with _zip_file(archive, of_ours=True) as packed:
            packed.extractall(folder)
    except OSError as error:
        raise NotReadyError(f"cannot unpack {archive}: {error.strerror or error}") from error


def check_owner(archive: Path) -> None:
    """Refuse an archive that is missing, or that another user could have written."""
    with _readable(archive) as file:
        _check_owner(archive, file)


def _check_owner(archive: Path, file: BufferedReader) -> None:
    """The same for a file that is open, whatever has its name by now."""
    status = os.fstat(file.fileno())
    if status.st_uid not in (os.getuid(), 0):
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        raise RefusedError(
            f"{archive} (SHA-256 {sha256[:16]}...) belongs to user {status.st_uid}; "
            "an archive is code, and another user's code is not run"
        )
    if status.st_mode & _OTHERS_WRITE:
        raise RefusedError(
            f"{archive} can be written by others (mode {stat.S_IMODE(status.st_mode):o}), and an "
            "archive is code; if its content is yours: chmod go-w on it"
        )


@contextmanager
def _readable(archive: Path) -> Iterator[BufferedReader]:
    try:
        file = archive.open("rb")
    except (FileNotFoundError, IsADirectoryError):
        raise NotReadyError(
            f"there is no archive {archive}; build it with: catdog package"
        ) from None
    except OSError as error:
        raise NotReadyError(f"cannot read {archive}: {error.strerror}") from error
    with file:
        yield file


def private_copy(archive: Path, target: Path) -> None:
    """Copy an archive that may be replaced at any time, to where only this user writes.

    What is checked, told and served of it is then the same content.

    Raises:
        NotReadyError: If there is no such archive, or the copy cannot be written.
        RefusedError: If another user owns it.
    """
    with _readable(archive) as source:
        _check_owner(archive, source)
        with _writing(target):
            target.parent.mkdir(mode=0o700, exist_ok=True)
            with target.open("wb") as copied:
                shutil.copyfileobj(source, copied, _BLOCK)
            keep_from_others(target)


def archive_version(archive: Path) -> str:
    """The version that an archive is stamped with."""
    with _zip_file(archive, of_ours=True) as packed:
        version = _json(packed, MANIFEST)["model"]["modelVersion"]
        if not isinstance(version, str):
            raise ValueError(f"its version is {version!r}")
    return version


def unpacked_bytes(archive: Path) -> int:
    """What the files in an archive take when they are unpacked.

    Raises:
        NotReadyError: If it is not a model archive.
    """
    with _zip_file(archive) as packed:
        return sum(entry.file_size for entry in packed.infolist())


def archive_facts(archive: Path) -> dict[str, Any]:
    """An archive's model.json, of whatever version of catdog.

    Raises:
        NotReadyError: If it is not a model archive.
    """
    with _zip_file(archive) as packed:
        return _json(packed, MODEL_INFO_FILE)


def archive_settings(archive: Path) -> dict[str, Any]:
    """An archive's model-config.yaml.

    Raises:
        NotReadyError: If it is not a model archive.
    """
    import yaml

    from catdog.read_settings import SETTINGS_FILE

    with _zip_file(archive) as packed:
        try:
            settings = yaml.safe_load(packed.read(SETTINGS_FILE)) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{SETTINGS_FILE} is no YAML") from error
        if not isinstance(settings, dict):
            raise ValueError(f"{SETTINGS_FILE} holds no settings")
    return settings


def check_archive_format(archive: Path) -> None:
    """Refuse an archive that may not be unpacked, or that another edition of catdog packed.

    One without a model.json is let through: its worker will report what is wrong with it.

    Raises:
        NotReadyError: If it is not a model archive.
        RefusedError: If it may not be unpacked, or is of another format.
    """
    with _zip_file(archive) as packed:
        has_facts = MODEL_INFO_FILE in packed.namelist()
    try:
        if has_facts:
            check_format(archive_facts(archive))
    except ValueError as error:
        raise RefusedError(f"{archive}: {error}; build it again with: catdog package") from error


def archive_runtime(archive: Path) -> str | None:
    """The runtime that an archive holds; None if it does not say, which its worker will report."""
    try:
        return archive_facts(archive).get("runtime")
    except NotReadyError:
        return None


@contextmanager
def _zip_file(archive: Path, of_ours: bool = False) -> Iterator[zipfile.ZipFile]:
    """The ZIP file; what is wrong with it, or with what is read from it, is one clear error.

    Args:
        archive: Its path.
        of_ours: Whether the file that is opened may be no other user's.
    """
    with _readable(archive) as file:
        if of_ours:
            _check_owner(archive, file)
            file.seek(0)
        try:
            check_end(file)
            with zipfile.ZipFile(file) as packed:
                check_entries(packed, file)
                yield packed
        except RefusedError as error:
            raise RefusedError(f"{archive} is refused: {error}") from error
        except _BROKEN as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise NotReadyError(f"{archive} is not a model archive: {reason}") from error


def _json(packed: zipfile.ZipFile, name: str) -> dict[str, Any]:
    values = json.loads(packed.read(name))
    if not isinstance(values, dict):
        raise ValueError(f"{name} holds no facts")
    return values


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        _zip_file(archive) as source,
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
            entry = zipfile.ZipInfo(name, _EPOCH)
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
        with _zip_file(archive) as packed:
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


def keep_from_others(archive: Path) -> None:
    """Take the group's and others' right to write, which the umask may have left.

    Raises:
        OSError: If it cannot be taken.
    """
    mode = stat.S_IMODE(archive.stat().st_mode)
    if mode & _OTHERS_WRITE:
        archive.chmod(mode & ~_OTHERS_WRITE)


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
