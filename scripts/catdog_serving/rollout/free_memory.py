"""Is there room for more workers on this machine, or in the server's control groups?"""

from contextlib import suppress

import psutil

from catdog.control_groups import memory_left
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.management import ModelStatus


def check_memory(model: ModelStatus, more: int) -> None:
    """Make sure that this machine has room for more workers like those of `model`.

    Raises:
        NotReadyError: If not.
    """
    sizes: list[int] = [0]
    pid: int | str = "self"
    for worker in model.workers:
        with suppress(psutil.Error, ValueError):  # it just died, or has the pid -1 before it starts
            sizes.append(psutil.Process(worker.pid).memory_info().rss)
            pid = worker.pid
    free = available_bytes(pid)
    if more * max(sizes) > free:
        raise NotReadyError(
            f"{more} more workers would take {more * max(sizes) / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory is free; choose fewer"
        )


def available_bytes(pid: int | str = "self") -> int:
    """What processes of this machine, and of a process's control groups, can still take.

    Args:
        pid: That process. A server's groups are not those of the shell that a command runs in.
    """
    available: int = psutil.virtual_memory().available
    left = memory_left(pid)
    return available if left is None else min(available, left)
