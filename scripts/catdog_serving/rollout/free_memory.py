"""Is there room for more workers on this machine, or in this container?"""

from contextlib import suppress
from pathlib import Path

import psutil

from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.management import ModelStatus

_CGROUP = Path("/sys/fs/cgroup")


def check_memory(model: ModelStatus, more: int) -> None:
    """Make sure that this machine has room for more workers like those of `model`.

    Raises:
        NotReadyError: If not.
    """
    sizes = [0]
    for worker in model.workers:
        with suppress(psutil.Error, ValueError):  # it just died, or has the pid -1 before it starts
            sizes.append(psutil.Process(worker.pid).memory_info().rss)
    free = available_bytes()
    if more * max(sizes) > free:
        raise NotReadyError(
            f"{more} more workers would take {more * max(sizes) / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory is free; choose fewer"
        )


def available_bytes() -> int:
    """What processes of this machine, or of this container, can still take.

    A container's limit is found with control groups version 2 (Linux, cgroup-v2.rst, "memory.max").
    Cached files count as available, as the kernel gives them up first.
    """
    available: int = psutil.virtual_memory().available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        statistics = (_CGROUP / "memory.stat").read_text().splitlines()
        cached = int(dict(line.split() for line in statistics)["inactive_file"])
    except (OSError, ValueError, KeyError):  # no such control group, or "max"
        return available
    return max(0, min(available, limit - used + cached))
