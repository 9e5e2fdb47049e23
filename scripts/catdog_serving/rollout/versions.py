"""catdog versions: what is loaded, and what a restart or a rollback would load."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catdog.model_info import MODEL_INFO_FILE
from catdog_serving.archive_copies import has_files_of
from catdog_serving.errors import CatDogError, NotReadyError
from catdog_serving.model_archive import archive_facts, file_sha256
from catdog_serving.rollout.switch import served_folder
from catdog_serving.torchserve.management import ModelStatus
from catdog_serving.torchserve.server import TorchServe

Facts = dict[str, Any]


@dataclass(frozen=True)
class LoadedVersion:
    """One version of a running server.

    Attributes:
        status: As the describe API has it.
        facts: Its model.json; None while no worker is READY.
        archive: The file in the model store with the same content, if there is one.
    """

    status: ModelStatus
    facts: Facts | None
    archive: str | None


@dataclass(frozen=True)
class StoredArchive:
    """An archive in the model store.

    Attributes:
        path: The file.
        use: What will load it.
        facts: Its model.json.
        sha256: Of the file.
    """

    path: Path
    use: str
    facts: Facts
    sha256: str


def loaded_versions(server: TorchServe) -> list[LoadedVersion]:
    """What the server has loaded, the default first.

    Raises:
        ServerUnavailableError: If it does not run.
    """
    found = []
    for status in server.versions():
        try:
            folder = served_folder(status)
            facts = json.loads((folder / MODEL_INFO_FILE).read_bytes())
        except (NotReadyError, OSError):  # none is READY, or it goes just now
            found.append(LoadedVersion(status, None, None))
            continue
        files = (server.config.archive, server.config.previous_archive)
        same = next((path.name for path in files if has_files_of(path, folder)), None)
        found.append(LoadedVersion(status, facts, same))
    return found


def stored_archives(server: TorchServe) -> list[StoredArchive]:
    """What a restart serves, what a rollback deploys, and what else lies in the model store.

    Raises:
        NotReadyError: If one of the first two is no archive of catdog.
    """
    config = server.config
    uses = {
        config.archive: "a restart serves",
        config.previous_archive: "catdog rollback deploys",
    }
    found = []
    for path, use in uses.items():
        if path.is_file():
            found.append(StoredArchive(path, use, archive_facts(path), file_sha256(path)))
    for path in sorted(set(config.model_store.glob("[!.]*.mar")) - set(uses)):
        with suppress(CatDogError, OSError):  # another model's, or it goes just now
            facts = archive_facts(path)
            if "catdog_version" in facts:
                found.append(StoredArchive(path, "catdog deploy takes", facts, file_sha256(path)))
    return found
