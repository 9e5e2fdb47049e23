"""Model archives as files: whose they are, and what they hold."""

import hashlib
import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from catdog.model_info import MODEL_INFO_FILE, check_format
from catdog_serving.archive_entries import check_end, check_entries
from catdog_serving.atomic_write import scratch_folder
from catdog_serving.errors import NotReadyError, RefusedError

MANIFEST = "MAR-INF/MANIFEST.json"
# What Python raises on a file that is no ZIP file, a broken one, or one of other content.
_BROKEN = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError),
    *(KeyError, ValueError, TypeError, AttributeError, OverflowError, RuntimeError),
)
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


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
        with zip_archive(archive, of_ours=True) as packed:
            packed.extractall(folder)
    except OSError as error:
        raise NotReadyError(f"cannot unpack {archive}: {error.strerror or error}") from error


def check_owner(archive: Path) -> None:
    """Refuse an archive that is missing, or that another user could have written."""
    with opened_archive(archive, of_ours=True):
        pass


def _check_owner(archive: Path, file: BufferedReader) -> None:
    """The same for a file that is open, whatever has its name by now."""
    status = os.fstat(file.fileno())
    if status.st_uid not in (os.getuid(), 0):
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        raise RefusedError(
            f"{archive} (SHA-256 {sha256[:16]}...) belongs to user {status.st_uid}; "
            "an archive is code, and another user's code is not run"
        )
    if status.st_mode & OTHERS_WRITE:
        raise RefusedError(
            f"{archive} can be written by others (mode {stat.S_IMODE(status.st_mode):o}), and an "
            "archive is code; if its content is yours: chmod go-w on it"
        )


@contextmanager
def opened_archive(archive: Path, of_ours: bool = False) -> Iterator[BufferedReader]:
    """The file, from its beginning.

    Args:
        archive: Its path.
        of_ours: Whether the file that is opened may be no other user's.

    Raises:
        NotReadyError: If there is none, or it cannot be read.
        RefusedError: If it is another user's, or others may write to it.
    """
    try:
        file = archive.open("rb")
    except (FileNotFoundError, IsADirectoryError):
        raise NotReadyError(
            f"there is no archive {archive}; build it with: catdog package"
        ) from None
    except OSError as error:
        raise NotReadyError(f"cannot read {archive}: {error.strerror}") from error
    with file:
        if of_ours:
            _check_owner(archive, file)
        yield file


def archive_version(archive: Path) -> str:
    """The version that an archive is stamped with."""
    with zip_archive(archive, of_ours=True) as packed:
        version = _json(packed, MANIFEST)["model"]["modelVersion"]
        if not isinstance(version, str):
            raise ValueError(f"its version is {version!r}")
    return version


def unpacked_bytes(archive: Path) -> int:
    """What the files in an archive take when they are unpacked.

    Raises:
        NotReadyError: If it is not a model archive.
    """
    with zip_archive(archive) as packed:
        return sum(entry.file_size for entry in packed.infolist())


def archive_facts(archive: Path) -> dict[str, Any]:
    """An archive's model.json, of whatever version of catdog.

    Raises:
        NotReadyError: If it is not a model archive.
    """
    with zip_archive(archive) as packed:
        return _json(packed, MODEL_INFO_FILE)


def archive_settings(archive: Path) -> dict[str, Any]:
    """An archive's model-config.yaml.

    Raises:
        NotReadyError: If it is not a model archive.
    """
    import yaml

    from catdog.read_settings import SETTINGS_FILE

    with zip_archive(archive) as packed:
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
    with zip_archive(archive) as packed:
        has_facts = MODEL_INFO_FILE in packed.namelist()
        facts = _json(packed, MODEL_INFO_FILE) if has_facts else None
    try:
        if facts is not None:
            check_format(facts)
    except ValueError as error:
        raise RefusedError(f"{archive}: {error}; build it again with: catdog package") from error


def archive_runtime(archive: Path) -> str | None:
    """The runtime that an archive holds; None if it does not say, which its worker will report."""
    try:
        return archive_facts(archive).get("runtime")
    except NotReadyError:
        return None


@contextmanager
def zip_archive(archive: Path, of_ours: bool = False) -> Iterator[zipfile.ZipFile]:
    """The ZIP file; what is wrong with it, or with what is read from it, is one clear error.

    Args:
        archive: Its path.
        of_ours: Whether the file that is opened may be no other user's.
    """
    with opened_archive(archive, of_ours) as file:
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
