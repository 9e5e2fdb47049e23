"""Worker settings: workers and their batches as one value, and its place in config.properties."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from catdog.results import MODEL_NAME
from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import RefusedError
from catdog_serving.torchserve.serving_config import ServingConfig, parse_properties

# `models=` with all its continuation lines.
_MODELS = re.compile(r"^[ \t]*models[ \t]*=(?:[^\n\\]|\\\r?\n|\\.)*", re.MULTILINE)


@dataclass(frozen=True, order=True)
class WorkerSettings:
    """How requests are spread; ordered from simple to costly.

    Attributes:
        workers: Processes that compute, at least 1.
        batch_size: Images of a full batch.
        max_batch_delay_ms: How long a batch waits to become full, at least 1.
    """

    workers: int
    batch_size: int
    max_batch_delay_ms: int

    @classmethod
    def of(cls, config: ServingConfig) -> "WorkerSettings":
        entry = config.served_worker_settings
        return cls(
            workers=int(entry["maxWorkers"]),
            batch_size=int(entry["batchSize"]),
            max_batch_delay_ms=int(entry["maxBatchDelay"]),
        )

    def to_entry(self) -> dict[str, int]:
        """As TorchServe's keys under `models=`."""
        return {
            "minWorkers": self.workers,
            "maxWorkers": self.workers,
            "batchSize": self.batch_size,
            "maxBatchDelay": self.max_batch_delay_ms,
        }


def write_worker_settings(path: Path, settings: WorkerSettings) -> None:
    """Put it into a config.properties; all else stays byte for byte, and so do its permissions.

    Raises:
        RefusedError: If catdog's entry under `models=` cannot be found; nothing is
            changed then.
        NotReadyError: If the file cannot be written.
    """
    path = path.resolve()  # behind a link, the file is replaced and not the link
    changed = replace_worker_settings(path.read_bytes().decode(), settings)
    mode = path.stat().st_mode
    atomic_write(path, [changed.encode()])
    path.chmod(mode)


def replace_worker_settings(text: str, settings: WorkerSettings) -> str:
    """Change the four numbers of catdog's first version under `models=`, and nothing else.

    Raises:
        RefusedError: If one of them is not there.
    """
    line = _MODELS.search(text)
    start = line[0].find(f'"{MODEL_NAME}"') if line else -1
    if line is None or start < 0:
        raise RefusedError(f"models= has no entry for {MODEL_NAME}; nothing was changed")
    before, entry = line[0][:start], line[0][start:]
    for key, value in settings.to_entry().items():
        entry, found = re.subn(
            rf'("{key}"(?:\s|\\\r?\n)*:(?:\s|\\\r?\n)*)\d+', rf"\g<1>{value}", entry, count=1
        )
        if not found:
            raise RefusedError(f'models= has no "{key}"; add it, with any number')
    changed = text[: line.start()] + before + entry + text[line.end() :]
    _check(text, changed, settings)
    return changed


def _check(text: str, changed: str, settings: WorkerSettings) -> None:
    """The numbers must have landed in the entry that the server reads."""
    before, after = (parse_properties(each.replace("\r\n", "\n")) for each in (text, changed))
    try:
        models = json.loads(before.pop("models"))
        version = next(iter(models[MODEL_NAME]))
        models[MODEL_NAME][version] |= settings.to_entry()
        as_wanted = json.loads(after.pop("models")) == models and before == after
    except (json.JSONDecodeError, KeyError, StopIteration):
        as_wanted = False
    if not as_wanted:
        raise RefusedError(
            "models= is written in a way that cannot be changed safely; write it as in the "
            f"config.properties that came with catdog, or set by hand: {settings.to_entry()}"
        )
