"""Model archives as files: whose they are, which version, and what they hold."""

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catdog.model_info import MODEL_INFO_FILE, check_format
from catdog_serving.errors import NotReadyError, RefusedError

MANIFEST = "MAR-INF/MANIFEST.json"


@contextmanager
def open_archive(archive: Path) -> Iterator[Path]:
    """Unpack an archive into a private temporary folder: the model directory.

    Raises:
        NotReadyError: If there is no such archive, or it is not one.
        RefusedError: If another user owns it: an archive is code that will be run.
    """
    check_owner(archive)
    with tempfile.TemporaryDirectory(prefix="catdog-") as folder:
        with _zip_file(archive) as packed:
            packed.extractall(folder)
        yield Path(folder)


def check_owner(archive: Path) -> None:
    """Refuse an archive that is missing, or that another user could have written."""
    if not archive.is_file():
        raise NotReadyError(f"there is no archive {archive}; build it with: catdog package")
    owner = archive.stat().st_uid
    if owner not in (os.getuid(), 0):
        raise RefusedError(
            f"{archive} (SHA-256 {file_sha256(archive)[:16]}...) belongs to user {owner}; "
            "an archive is code, and another user's code is not run"
        )


def archive_version(archive: Path) -> str:
    """The version that an archive is stamped with."""
    check_owner(archive)
    with _zip_file(archive) as packed:
        version: str = json.loads(packed.read(MANIFEST))["model"]["modelVersion"]
    return version


def archive_facts(archive: Path) -> dict[str, Any]:
    """An archive's model.json, of whatever version of catdog.

    Raises:
        NotReadyError: If it is not a model archive.
    """
    with _zip_file(archive) as packed:
        facts: dict[str, Any] = json.loads(packed.read(MODEL_INFO_FILE))
    return facts


def check_archive_format(archive: Path) -> None:
    """Refuse an archive that another edition of catdog packed.

    What does not say its format is let through: its worker will report what is wrong with it.
    """
    try:
        check_format(archive_facts(archive))
    except NotReadyError:
        return
    except ValueError as error:
        raise RefusedError(f"{archive}: {error}; build it again with: catdog package") from error


def archive_runtime(archive: Path) -> str | None:
    """The runtime that an archive holds; None if it does not say, which its worker will report."""
    try:
        return archive_facts(archive).get("runtime")
    except NotReadyError:
        return None


@contextmanager
def _zip_file(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The ZIP file; what is wrong with it, or with what is read from it, is one clear error."""
    try:
        with zipfile.ZipFile(archive) as packed:
            yield packed
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise NotReadyError(f"{archive} is not a model archive: {error}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
