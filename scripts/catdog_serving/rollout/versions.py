"""catdog versions: what is loaded, and what a restart or a rollback would load."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from catdog.model_info import MODEL_INFO_FILE
from catdog.results import ModelId
from catdog_serving.errors import NotReadyError
from catdog_serving.model_archive import archive_facts, file_sha256
from catdog_serving.rollout.archive_copy import has_files_of
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
    """What a restart serves, and then what a rollback deploys; without what is not there.

    Raises:
        NotReadyError: If one of them is no archive of catdog.
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
    return found


def print_versions(
    loaded: list[LoadedVersion], stored: list[StoredArchive], console: Console
) -> None:
    """A row and a line per version, then a line per archive."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("version", "workers", "batch", "max delay", "time-outs", "catdog", "file"):
        table.add_column(column, justify="right" if column in ("batch", "max delay") else "left")
    for each in loaded:
        status = each.status
        table.add_row(
            f"{status.version}{' (default)' if status.default else ''}",
            f"{status.ready_workers} of {len(status.workers)} READY",
            str(status.batch_size),
            f"{status.max_batch_delay_ms} ms",
            f"{status.response_timeout_s}, {status.startup_timeout_s} s",
            each.facts["catdog_version"] if each.facts else "-",
            each.archive or "-",
        )
    console.print(table)
    for each in loaded:
        model = _model(each.facts) if each.facts else "unknown until a worker is READY"
        console.print(f"model of {each.status.version}: {model}", highlight=False, soft_wrap=True)
    for archive in stored:
        console.print(
            f"{archive.use} {archive.path.name}: {_model(archive.facts)}, "
            f"catdog {archive.facts['catdog_version']}, SHA-256 {archive.sha256}",
            highlight=False,
            soft_wrap=True,
        )


def _model(facts: Facts) -> str:
    return f"{ModelId.from_dict(facts).name}, {facts['runtime']} {facts['precision']}"
