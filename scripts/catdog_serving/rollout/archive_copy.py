"""Archive copy: an archive under another version number.

TorchServe takes a version from the archive's manifest and nowhere else, so an archive
that is to be loaded beside itself, or beside an older one, has to be copied with another.
"""

import copy
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from catdog.settings import SETTINGS_FILE
from catdog_serving.errors import NotReadyError
from catdog_serving.model_archive import MANIFEST, archive_version
from catdog_serving.torchserve.management import VersionSettings
from catdog_serving.torchserve.serving_config import ServingConfig

_TORCHSERVE_TIMEOUT_S = 120  # its default for both, where the archive names none
_EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same content makes the same bytes


def next_version(loaded: Iterable[str]) -> str:
    """The next whole number over all versions: "2.0" after "1.0"; words count as 0."""
    numbers = (re.match(r"\d+", version) for version in loaded)
    return f"{1 + max((int(number[0]) for number in numbers if number), default=0)}.0"


def copy_archive(archive: Path, target: Path, version: str) -> None:
    """Copy an archive; byte for byte if it has that version already.

    Raises:
        NotReadyError: If it is no model archive, or the copy cannot be written.
    """
    if archive_version(archive) == version:
        with _writing(target):
            shutil.copyfile(archive, target)
        return
    with (
        _writing(target),
        zipfile.ZipFile(archive) as source,
        zipfile.ZipFile(target, "w") as made,
    ):
        for entry in source.infolist():
            if entry.filename == MANIFEST:
                made.writestr(copy.copy(entry), _with_version(source.read(entry), version))
                continue
            with source.open(entry) as content, made.open(copy.copy(entry), "w") as packed:
                shutil.copyfileobj(content, packed, 1 << 20)


def pack_folder(model_dir: Path, target: Path, version: str) -> None:
    """Make an archive of a folder that TorchServe unpacked.

    Raises:
        NotReadyError: If it cannot be written.
    """
    with _writing(target), zipfile.ZipFile(target, "w") as made:
        for name, path in _files(model_dir).items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o100644 << 16
            if name == MANIFEST:
                made.writestr(entry, _with_version(path.read_bytes(), version))
                continue
            entry.file_size = path.stat().st_size  # zipfile decides by it about its 64-bit form
            with path.open("rb") as content, made.open(entry, "w") as packed:
                shutil.copyfileobj(content, packed, 1 << 20)


def has_files_of(archive: Path, model_dir: Path) -> bool:
    """Whether an archive has the files of an unpacked one; its version may be another."""
    if not archive.is_file():
        return False
    files = _files(model_dir)
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = {e.filename: e for e in packed.infolist() if not e.is_dir()}
            if entries.keys() != files.keys():
                return False
            manifest = _with_version(packed.read(MANIFEST), "")
    except zipfile.BadZipFile:
        return False
    if manifest != _with_version(files[MANIFEST].read_bytes(), ""):
        return False
    return all(
        entry.file_size == files[name].stat().st_size and _crc(files[name]) == entry.CRC
        for name, entry in entries.items()
        if name != MANIFEST
    )


def settings_for(archive: Path, config: ServingConfig, workers: int) -> VersionSettings:
    """What to register an archive with: worker settings of config.properties, its own time-outs.

    Those that its model-config.yaml names win in TorchServe over whatever it is told.
    """
    entry = config.worker_settings
    with zipfile.ZipFile(archive) as packed:
        own = yaml.safe_load(packed.read(SETTINGS_FILE)) or {}

    def timeout_s(key: str) -> int:
        return int(own.get(key, entry.get(key, _TORCHSERVE_TIMEOUT_S)))

    return VersionSettings(
        workers=workers,
        batch_size=int(entry["batchSize"]),
        max_batch_delay_ms=int(entry["maxBatchDelay"]),
        response_timeout_s=timeout_s("responseTimeout"),
        startup_timeout_s=timeout_s("startupTimeout"),
    )


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotReadyError(f"cannot write {target}: {error.strerror or error}") from error


def _files(model_dir: Path) -> dict[str, Path]:
    """By their names in an archive; without what Python adds when the worker runs."""
    return {
        path.relative_to(model_dir).as_posix(): path
        for path in sorted(model_dir.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _with_version(manifest: bytes, version: str) -> bytes:
    values = json.loads(manifest)
    values["model"]["modelVersion"] = version
    return json.dumps(values, indent=2).encode()


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc
