"""Which workers, batch sizes and batch delays `catdog tune` tries on a machine."""

from collections.abc import Sequence

import psutil

from catdog.cpu import usable_cores
from catdog_serving.torchserve.gpus import Gpu, choose_workers_per_gpu, most_workers_per_gpu
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.worker_settings import WorkerSettings

MOST_SETTINGS = 12

_WORKER_MEMORY_GB = 1.5  # 1.25 to 1.4 was seen (docs/performance.md)
_MEMORY_SHARE = 0.6
_CPU_BATCHES = (4, 8, 16)
_USUAL_DELAY_MS, _OTHER_DELAYS_MS = 1, (5, 20)
# On GPUs; powers of two, as batches are padded to the next one. The likeliest come first.
_GPU_BATCHES = (64, 32, 128, 8)
_GPU_DELAY_MS, _OTHER_GPU_DELAY_MS = 1, 5
_WORKERS_PER_GPU = (1, 2, 4, 8)


def candidates(config: ServingConfig) -> tuple[WorkerSettings, ...]:
    """What would be tried on this machine, the current settings first."""
    memory_gb = psutil.virtual_memory().total / 1e9
    return settings_to_try(WorkerSettings.of(config), usable_cores(), config.gpus, memory_gb)


def settings_to_try(
    current: WorkerSettings, cores: int, gpus: Sequence[Gpu], memory_gb: float
) -> tuple[WorkerSettings, ...]:
    """At most `MOST_SETTINGS`, the current ones first.

    Args:
        current: What config.properties says.
        cores: Usable ones.
        gpus: To be used; none for the CPU.
        memory_gb: Of the machine.
    """
    most = int(_MEMORY_SHARE * memory_gb / _WORKER_MEMORY_GB)  # workers
    wanted = _on_gpus(cores, gpus, most) if gpus else _on_cpu(cores, most)
    return tuple(dict.fromkeys([current, *wanted]))[:MOST_SETTINGS]


def _on_cpu(cores: int, most: int) -> list[WorkerSettings]:
    """A worker uses many cores at a time, so few are tried.

    One, and such numbers that each keeps 8 or 4 cores; two on small machines.
    """
    numbers = {1, max(1, cores // 8), max(1, cores // 4)} | ({2} if 2 <= cores < 8 else set())
    fitting = [n for n in sorted(numbers) if n <= most] or [1]
    return [
        *(WorkerSettings(n, b, _USUAL_DELAY_MS) for n in fitting for b in _CPU_BATCHES),
        *(WorkerSettings(1, b, delay) for delay in _OTHER_DELAYS_MS for b in _CPU_BATCHES),
    ]


def _on_gpus(cores: int, gpus: Sequence[Gpu], most: int) -> list[WorkerSettings]:
    """Each number of workers a GPU with the usual batches; the likeliest number with all of them.

    A worker needs a core, and its share of the GPU's memory.
    """
    room = min(most_workers_per_gpu(gpus), cores // len(gpus), most // len(gpus))
    fitting = [n for n in _WORKERS_PER_GPU if n <= room] or [1]
    likely = max(n for n in fitting if n <= choose_workers_per_gpu(gpus, cores))
    tried = [(n, b, _GPU_DELAY_MS) for b in _GPU_BATCHES[:2] for n in fitting]
    tried += [(likely, b, _GPU_DELAY_MS) for b in _GPU_BATCHES[2:]]
    tried += [(likely, b, _OTHER_GPU_DELAY_MS) for b in _GPU_BATCHES]
    return [WorkerSettings(n * len(gpus), b, delay) for n, b, delay in tried]
