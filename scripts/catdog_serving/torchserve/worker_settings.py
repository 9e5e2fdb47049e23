"""Worker settings: workers and their batches as one value, and its place in config.properties."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from catdog.results import MODEL_NAME
from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import RefusedError
from catdog_serving.torchserve.gpus import MOST_WORKERS_PER_GPU
from catdog_serving.torchserve.properties import parse_properties
from catdog_serving.torchserve.serving_config import ServingConfig

# `KEY=`, `KEY:` or `KEY ` with its value and all its continuation lines.
_LINE = r"^[ \t]*%s[ \t]*[=: \t](?:[^\r\n\\]|\\\r?\n|\\.)*"
_PER_GPU = re.compile(_LINE % "workers_per_gpu", re.MULTILINE)
_MODELS = re.compile(_LINE % "models", re.MULTILINE)


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
            workers=entry["maxWorkers"],
            batch_size=entry["batchSize"],
            max_batch_delay_ms=entry["maxBatchDelay"],
        )

    def per_gpu(self, gpus: int) -> int:
        """The value of workers_per_gpu with which these workers are not raised."""
        return min(max(1, self.workers // gpus), MOST_WORKERS_PER_GPU)

    def to_entry(self) -> dict[str, int]:
        """As TorchServe's keys under `models=`."""
        return {
            "minWorkers": self.workers,
            "maxWorkers": self.workers,
            "batchSize": self.batch_size,
            "maxBatchDelay": self.max_batch_delay_ms,
        }


def write_worker_settings(path: Path, settings: WorkerSettings, gpus: int = 0) -> None:
    """Put it into a config.properties; its permissions stay.

    Raises:
        RefusedError: See `replace_worker_settings`; nothing is changed then.
        NotReadyError: If the file cannot be written.
    """
    path = path.resolve()  # behind a link, the file is replaced and not the link
    changed = replace_worker_settings(path.read_bytes().decode(), settings, gpus)
    atomic_write(path, [changed.encode()])


def replace_worker_settings(text: str, settings: WorkerSettings, gpus: int = 0) -> str:
    """Change the four numbers of catdog's first version under `models=`, and nothing else.

    The value is laid out anew. With GPUs `workers_per_gpu` is set, too, behind it if it is new.

    Raises:
        RefusedError: If there is no such version, or Java would read something else then.
    """
    try:
        return _replaced(text, settings, gpus)
    except (ValueError, KeyError, StopIteration, TypeError) as error:
        by_hand = f"{settings.to_entry()}"
        if gpus:
            by_hand += f" and workers_per_gpu={settings.per_gpu(gpus)}"
        raise RefusedError(
            f"models= has no entry for {MODEL_NAME} that can be read, or a key is there twice; "
            "nothing was changed. Write it as in the config.properties that came with catdog, or "
            f"set by hand: {by_hand}"
        ) from error


def _replaced(text: str, settings: WorkerSettings, gpus: int) -> str:
    wanted = _values(text)
    models = json.loads(wanted["models"])
    version = next(iter(models[MODEL_NAME]))
    models[MODEL_NAME][version] |= settings.to_entry()
    line_end = "\r\n" if "\r\n" in text else "\n"
    entry = "models=" + json.dumps(models, indent=2).replace("\n", f"\\{line_end}")
    if gpus:
        wanted["workers_per_gpu"] = str(settings.per_gpu(gpus))
        line = f"workers_per_gpu={wanted['workers_per_gpu']}"
        text, known = _PER_GPU.subn(line, text)
        entry += "" if known else f"{line_end}{line}"
    changed = _MODELS.sub(lambda _: entry, text, count=1)
    found = _values(changed)
    if found | {"models": ""} != wanted | {"models": ""} or json.loads(found["models"]) != models:
        raise ValueError("it does not read back")
    return changed


def _values(text: str) -> dict[str, str]:
    return parse_properties(text.replace("\r\n", "\n"))
