"""How many CPU cores this process may really use, and its share of them."""

import os
from pathlib import Path

from catdog.control_groups import cpu_quota

# The environment variable by which the handler is told how many workers there are:
# TorchServe tells a worker nothing about the others.
WORKERS_VARIABLE = "CATDOG_WORKERS"
# CUDA_VISIBLE_DEVICES on its way past Java, which ends at names such as GPU-4a1b; the handler
# gives it its name back.
VISIBLE_GPUS_VARIABLE = "CATDOG_VISIBLE_DEVICES"

# The environment variable that chooses an engine, instead of the archive's setting.
ENGINE_VARIABLE = "CATDOG_ENGINE"

_TOPOLOGY = Path("/sys/devices/system/cpu")
_CPUINFO = Path("/proc/cpuinfo")


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
    """Physical cores that this process may use: by its affinity and its control groups' quota.

    A container that is limited to 2 CPUs on a machine of 64 sees all 64, and 64 threads
    would wait for each other most of the time. Two hardware threads of one core share its
    arithmetic units, so they count once.
    """
    allowed = os.sched_getaffinity(0)
    cores = len({_siblings(cpu) for cpu in allowed})
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def cpu_facts() -> dict[str, str]:
    """What Linux says of the first processor: "model name", "flags" (on ARM "Features") ..."""
    text = _CPUINFO.read_text() if _CPUINFO.is_file() else ""
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_instructions() -> frozenset[str]:
    """The processor's instruction sets, by Linux's names, such as "avx2" and "amx_int8"."""
    facts = cpu_facts()
    return frozenset(facts.get("flags", facts.get("Features", "")).split())


def _siblings(cpu: int) -> str:
    """The hardware threads of a CPU's core, such as "0,32"; the CPU alone if it is not known."""
    try:
        return (_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return str(cpu)
