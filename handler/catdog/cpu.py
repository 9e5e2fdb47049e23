"""How many CPU cores this process may really use, and its share of them."""

import os
from pathlib import Path

# The environment variable by which the handler is told how many workers there are:
# TorchServe tells a worker nothing about the others.
WORKERS_VARIABLE = "CATDOG_WORKERS"

_TOPOLOGY = Path("/sys/devices/system/cpu")
_CGROUP_2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_1 = (
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def threads_per_worker(threads: int | None, workers: int) -> int:
    """CPU threads of one worker.

    Args:
        threads: The setting; None for "auto": the cores are shared out evenly.
        workers: How many workers share this machine.

    Returns:
        At least 1. With "auto", all workers together never have more threads than
        there are cores, unless there are more workers than cores.
    """
    if threads is not None:
        return threads
    return max(1, usable_cores() // max(1, workers))


def usable_cores() -> int:
    """Physical cores that this process may use: by its affinity and its container's quota.

    A container that is limited to 2 CPUs on a machine of 64 sees all 64, and 64 threads
    would wait for each other most of the time. Two hardware threads of one core share its
    arithmetic units, so they count once.
    """
    allowed = os.sched_getaffinity(0)
    cores = len({_siblings(cpu) for cpu in allowed})
    quota = _cgroup_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def _siblings(cpu: int) -> str:
    """The hardware threads of a CPU's core, such as "0,32"; the CPU alone if it is not known."""
    try:
        return (_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def _cgroup_quota() -> float | None:
    """The quota in cores (Linux, cgroup-v2.rst, "cpu.max"); None if there is none."""
    try:
        if _CGROUP_2.is_file():
            quota, period = _CGROUP_2.read_text().split()
        else:
            quota, period = (path.read_text().strip() for path in _CGROUP_1)
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no such control group, or "max"
        return None
