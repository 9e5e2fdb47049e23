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

_PER_GPU = re.compile(r"^[ \t]*workers_per_gpu[ \t]*=[^\r\n]*", re.MULTILINE)
# `models=` with all its continuation lines.
_MODELS = re.compile(r"^[ \t]*models[ \t]*=(?:[^\r\n\\]|\\\r?\n|\\.)*", re.MULTILINE)


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
    """Put it into a config.properties.

    The value of `models=` is laid out anew, and with GPUs that of `workers_per_gpu`; all else
    stays byte for byte, and so do the file's permissions.

    Raises:
        RefusedError: If catdog's entry under `models=` cannot be found; nothing is
            changed then.
        NotReadyError: If the file cannot be written.
    """
    path = path.resolve()  # behind a link, the file is replaced and not the link
    changed = replace_worker_settings(path.read_bytes().decode(), settings)
    if gpus:
        line = f"workers_per_gpu={settings.per_gpu(gpus)}"
        changed, found = _PER_GPU.subn(line, changed)
        changed = changed if found else f"{line}\n{changed}"
    atomic_write(path, [changed.encode()])


def replace_worker_settings(text: str, settings: WorkerSettings) -> str:
    """Change the four numbers of catdog's first version under `models=`, and nothing else.

    Raises:
        RefusedError: If there is none.
    """
    found = _MODELS.search(text)
    start, end = found.span() if found else (0, 0)
    line = text[start:end]
    try:
        models = json.loads(parse_properties(line.replace("\r\n", "\n"))["models"])
        version = next(iter(models[MODEL_NAME]))
        models[MODEL_NAME][version] |= settings.to_entry()
    except (json.JSONDecodeError, KeyError, StopIteration, TypeError) as error:
        raise RefusedError(
            f"models= has no entry for {MODEL_NAME} that can be read; nothing was changed. Write "
            "it as in the config.properties that came with catdog, or set by hand: "
            f"{settings.to_entry()}"
        ) from error
    line_end = "\r\n" if "\r\n" in line else "\n"
    entry = json.dumps(models, indent=2).replace("\n", f"\\{line_end}")
    return f"{text[:start]}models={entry}{text[end:]}"
